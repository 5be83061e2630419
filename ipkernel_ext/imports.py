"""What a block of code imports, and under which names, so that engines can do the same.

Python calls ``__import__`` without the names that the block binds; those are in the instructions
that follow the call in the block's own code. Who repeats the imports must not be known here.
"""

from __future__ import annotations

import builtins
import dis
import importlib.util
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class SyncImports:
    """Has engines import what a ``with`` block imports here; made by ``sync_imports``.

    Parameters
    ----------
    repeat
        Has them run import statements.
    """

    def __init__(self, repeat: Callable[[list[str]], Any]) -> None:
        self._repeat = repeat
        self._recorder: Recorder | None = None

    def __enter__(self) -> None:
        self.begin(sys._getframe(1))

    def begin(self, frame: types.FrameType) -> None:
        """The block of this frame begins."""
        self._recorder = Recorder(frame)
        self._recorder.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        recorder, self._recorder = self._recorder, None
        assert recorder is not None
        recorder.stop()
        if error is None and recorder.statements:
            self._repeat(recorder.statements)


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

    def start(self) -> None:
        """Record from now on."""
        with _lock:
            if not _recording:
                _otherwise.append(builtins.__import__)
                builtins.__import__ = _record
            _recording.append(self)

    def stop(self) -> None:
        """Record no more."""
        with _lock:
            _recording.remove(self)
            if not _recording:
                builtins.__import__ = _otherwise.pop()

    def note(
        self, frame: types.FrameType, name: str, package: str | None, fromlist: tuple[str, ...], level: int
    ) -> None:
        """A frame has imported something."""
        if frame is self._frame:
            if level:
                name = importlib.util.resolve_name("." * level + name, package)
            self.statements += _statements(frame, name, fromlist)


_lock = threading.Lock()
_recording: list[Recorder] = []
"""Those that are on: blocks of several threads and coroutines may overlap."""
_otherwise: list[Any] = []
"""What imports when none is."""


def _record(
    name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
) -> types.ModuleType:
    otherwise = next(iter(_otherwise), importlib.__import__)  # the last of them may end just now
    module: types.ModuleType = otherwise(name, globals, locals, fromlist or (), level)
    for recorder in _recording.copy():
        recorder.note(sys._getframe(1), name, (globals or {}).get("__package__"), tuple(fromlist or ()), level)
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
