"""Whether the line that called a magic does something with what the magic gives.

At the prompt ``%px 3`` has shown its values when it is done, and IPython would show what it returns once more;
``w = %px 3`` wants them. Python does not tell a function which of the two it is; the instruction that follows the
call does.
"""

from __future__ import annotations

import dis
import types

MAGIC = "run_line_magic"
"""Name of the function of IPython's that calls magics."""

_LEFT = frozenset({"POP_TOP", "PRINT_EXPR", "CALL_INTRINSIC_1", "RETURN_VALUE"})
"""What follows a call whose value is dropped, shown, or handed to somebody who would show it."""


def wants_value(frame: types.FrameType | None) -> bool:
    """Whether the value of the magic that runs in this frame goes anywhere but to the screen."""
    while frame is not None and frame.f_code.co_name != MAGIC:
        frame = frame.f_back
    caller = None if frame is None else frame.f_back
    if caller is None:
        return False
    following = (i.opname for i in dis.get_instructions(caller.f_code) if i.offset > caller.f_lasti)
    return next(following, "RETURN_VALUE") not in _LEFT
