"""What a block of code imports, and under which names, so that engines can do the same.

Python calls ``__import__`` without the names that the block binds; those are in the instructions
that follow the call in the block's own code. Who repeats the imports must not be known here.
"""

from __future__ import annotations

import builtins
import dis
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any


class Recorder:
    """Records the import statements of one frame, while it is on.

    Attributes
    ----------
    statements : list of str
        Each binds, in any namespace, what the block bound in its own.
    """

    def __init__(self, frame: types.FrameType) -> None:
        self.statements: list[str] = []
        self._frame = frame
        self._import = builtins.__import__

    def start(self) -> None:
        """Record from now on."""
        self._import = builtins.__import__
        builtins.__import__ = self._record

    def stop(self) -> None:
        """Record no more."""
        builtins.__import__ = self._import

    def _record(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> types.ModuleType:
        module = self._import(name, globals, locals, fromlist or (), level)
        frame = sys._getframe(1)
        if frame is self._frame:
            if level:
                name = importlib.util.resolve_name("." * level + name, (globals or {}).get("__package__"))
            self.statements += _statements(frame, name, tuple(fromlist or ()))
        return module


def _statements(frame: types.FrameType, name: str, fromlist: tuple[str, ...]) -> Iterator[str]:
    """The statement that a frame is at, one for each name that it binds."""
    if fromlist == ("*",):
        yield f"from {name} import *"
        return
    wanted = ""
    bound = 0
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.offset <= frame.f_lasti:
            continue
        if instruction.opname == "IMPORT_FROM":
            wanted = instruction.argval
        elif instruction.opname.startswith("STORE_"):
            stored = instruction.argval
            if isinstance(stored, tuple):  # Python joins it with the instruction that follows
                stored = stored[0]
            if fromlist:
                yield f"from {name} import {wanted} as {stored}"
            elif wanted or stored != name.partition(".")[0]:
                yield f"import {name} as {stored}"
            else:
                yield f"import {name}"
            bound += 1
            if bound >= len(fromlist):
                return


def repeat(statements: Sequence[str]) -> None:
    """Bind the same in the namespace of ``__main__``."""
    for statement in statements:
        exec(statement, vars(sys.modules["__main__"]))
