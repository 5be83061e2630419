"""Tracebacks as plain text that begins where the user's own code begins.

What runs user code stands above it on the stack: this package, IPython, the event loop. None of it
says anything to the user, and neither does what stands below it, where user code met a limit of an
engine's. Frames between are left as they are, whoever they belong to.
"""

from __future__ import annotations

import codeop
import os
import traceback

import IPython

import ipkernel_ext
from ipkernel_ext.execution.output import sendable

_LIBRARY = os.path.dirname(codeop.__file__)  # asyncio in it is not imported here: that is slow
ABOVE = (
    *(os.path.dirname(str(package.__file__)) + os.sep for package in (ipkernel_ext, IPython)),
    *(os.path.join(_LIBRARY, package) + os.sep for package in ("asyncio", "concurrent")),
    codeop.__file__,
    "<frozen ",
)
"""How the names of files begin that hold what runs user code, or is read as such."""
_BELOW = os.path.dirname(__file__) + os.sep

RUNS = os.path.join(os.path.dirname(__file__), "runner.py")
"""Where user code is called."""

LONGEST = 50_000  # characters of a traceback
MESSAGE = 10_000  # characters of a message


def shortened(text: str, limit: int) -> str:
    """The text, or of a longer one its beginning and end; without what cannot be sent."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
    return sendable(text)


def name_of(error: BaseException) -> str:
    """Name of an exception's class, without asking the class."""
    name: str = type.__dict__["__name__"].__get__(type(error))
    return sendable(name)


def message_of(error: BaseException) -> str:
    """What an exception says, whatever its class makes of being asked."""
    try:
        text = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return "(its message cannot be shown)"
    return shortened(text, MESSAGE)


def format_traceback(error: BaseException) -> str:
    """The traceback of an exception and of those behind it, with source lines, at most ``LONGEST`` characters."""
    described = traceback.TracebackException.from_exception(error)
    todo: list[traceback.TracebackException | None] = [described]
    seen: set[int] = set()
    while todo:
        part = todo.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        above = 0
        while above < len(part.stack) and part.stack[above].filename.startswith(ABOVE):
            above += 1
        del part.stack[:above]
        while part.stack and part.stack[-1].filename.startswith(_BELOW):
            part.stack.pop()
        todo += [part.__cause__, part.__context__, *(part.exceptions or ())]
    text = "".join(described.format())
    text = text if described.stack else text.removeprefix("Traceback (most recent call last):\n")
    return shortened(text, LONGEST)
