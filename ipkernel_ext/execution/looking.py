"""Looks at user code and its variables while they are in use. Reads, and changes nothing.

Each look has a thread of its own, because it may run code of the user's objects, which may wait for
something that only user code gives: then this look never ends, and nothing else waits for it. There
are never more than a few such threads.
"""

from __future__ import annotations

import difflib
import linecache
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, assert_never

from IPython.lib.pretty import pretty

from ipkernel_ext import payload
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.looking import SILENT
from ipkernel_ext.errors import PayloadError
from ipkernel_ext.execution import traces
from ipkernel_ext.execution.output import sendable
from ipkernel_ext.execution.sampling import Samplers
from ipkernel_ext.execution.shell import EngineShell
from ipkernel_ext.execution.traces import ABOVE, message_of, name_of, shortened
from ipkernel_ext.units import bytes_text

AT_ONCE = 4  # looks that may be under way
SHOWN = 2000  # characters of a value in words
ITEMS = 100  # items of a sequence in words
DEEP = 200  # frames of a stack, the innermost

OURS = "ipkernel_ext "
"""How the names of this package's own threads begin."""

Told = dict[str, Any]


class Lookout:
    """Answers what is asked about the code that runs in a shell.

    Parameters
    ----------
    runs_in : int or None
        The thread that runs user code; None: the main one.
    """

    def __init__(self, shell: EngineShell, runs_in: int | None = None) -> None:
        self._shell = shell
        self._runs_in = runs_in or threading.main_thread().ident
        self._samplers = Samplers(self._runs_in or 0, task_frames)
        self._under_way = threading.BoundedSemaphore(AT_ONCE)

    def look(self, inspection: m.Inspection, then: Callable[[Told], None]) -> None:
        """Find out, and hand over what to tell; at once where too many looks do not end."""
        if not self._under_way.acquire(blocking=False):
            engine = self._shell.output.engine_id()
            then({SILENT: f"engine {engine} has {AT_ONCE} looks under way that do not end"})
            return

        def run() -> None:
            try:
                told = self.tell(inspection)
            finally:
                self._under_way.release()
            then(told)

        threading.Thread(target=run, name=f"{OURS}look", daemon=True).start()

    def tell(self, inspection: m.Inspection) -> Told:
        """What was asked for. Never raises."""
        try:
            match inspection:
                case m.Peek():
                    return self._peek(inspection.name, inspection.limit)
                case m.Stacks():
                    return {"threads": self._stacks()}
                case m.Completions():
                    debugger = self._shell.debugger
                    return {"found": [] if debugger is None else debugger.completions(*_word(inspection))}
                case m.Sample():
                    self._samplers.begin(inspection.name, inspection.interval, inspection.limit)
                    return {}
                case m.Sampled():
                    return self._samplers.end(inspection.name)
                case _:
                    assert_never(inspection)
        except BaseException as error:
            engine = self._shell.output.engine_id()
            return {SILENT: f"engine {engine} cannot be looked into: {name_of(error)}: {message_of(error)}"}

    # ------------------------------------------------------------ a variable

    def _peek(self, name: str, limit: int) -> Told:
        found = self._find(name)
        if found is None:
            near = difflib.get_close_matches(name, [*self._shell.keys(), *self._locals()], 3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            return {"missing": f"there is no variable {name!r} on engine {self._shell.output.engine_id()}{hint}"}
        (value,) = found
        try:
            frames = payload.dumps_within(value, limit, name)
        except PayloadError as error:
            return {"words": in_words(value), "why": message_of(error)}
        if frames is None:
            return {"words": in_words(value), "why": f"its pickle has more than {bytes_text(limit)}"}
        return {"value": frames}

    def _find(self, name: str) -> tuple[Any] | None:
        """A variable's value: of the namespace or, else, of the function that runs."""
        names = self._shell.user_ns
        if name in names:
            return (names[name],)
        local = self._locals()
        return (local[name],) if name in local else None

    def _locals(self) -> dict[str, Any]:
        """Local variables of the functions that run, those of inner ones before those of outer ones."""
        found: dict[str, Any] = {}
        for user in reversed(task_frames(sys._current_frames().get(self._runs_in or 0))):
            if user.f_locals is not user.f_globals:
                found.update(user.f_locals)
        return found

    # ------------------------------------------------------------ where user code is

    def _stacks(self) -> list[tuple[str, list[tuple[str, int, str, str]]]]:
        """Threads that run user code: name ("" for the one that runs tasks), and frames from the outermost."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        stacks = []
        for thread, frame in sys._current_frames().items():
            if thread == self._runs_in:
                name, frames = "", task_frames(frame)
            else:
                name = names.get(thread, f"thread {thread}")
                frames = [] if name.startswith(OURS) else user_frames(frame)
            if frames:
                stacks.append((sendable(name), [_described(user) for user in reversed(frames[:DEEP])]))
        return sorted(stacks)


def user_frames(frame: FrameType | None) -> list[FrameType]:
    """Frames of a stack from the innermost on, without what is only there to run user code."""
    return _trimmed(_chain(frame))


def task_frames(frame: FrameType | None) -> list[FrameType]:
    """The same of the thread that runs tasks: none between tasks."""
    chain = _chain(frame)
    begins = next((i for i, frame in enumerate(chain) if frame.f_code.co_filename == traces.RUNS), 0)
    return _trimmed(chain[:begins])


def _chain(frame: FrameType | None) -> list[FrameType]:
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _trimmed(frames: list[FrameType]) -> list[FrameType]:
    while frames and _is_ours(frames[-1]):
        frames.pop()
    inner = next((i for i, frame in enumerate(frames) if not _is_ours(frame)), 0)
    return frames[inner:]


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(ABOVE)


def _described(frame: FrameType) -> tuple[str, int, str, str]:
    code = frame.f_code
    number = frame.f_lineno or code.co_firstlineno
    source = linecache.getline(code.co_filename, number, frame.f_globals).strip()
    return sendable(code.co_filename), number, sendable(code.co_name), sendable(source)


def _word(inspection: m.Completions) -> tuple[str, str]:
    return inspection.line[: inspection.begin], inspection.line[inspection.begin : inspection.end]


def in_words(value: Any) -> str:
    """A value's representation, not too long, whatever its class makes of being asked."""
    try:
        if isinstance(value, str | bytes | bytearray):
            return shortened(repr(value[:SHOWN]), SHOWN)
        return shortened(pretty(value, max_seq_length=ITEMS), SHOWN)  # type: ignore[no-untyped-call]
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"
