"""Where user code spends its time, seen by looking at it again and again from another thread.

Each look charges the time since the one before to the stack that is there: as *computing* as far as
the thread was on a processor meanwhile, and as *waiting* the rest of it (for input, locks, other
processes, or a processor that others use). C code that keeps Python's lock cannot be looked at; its
time goes to where it is seen next. How much is kept does not depend on how long it takes.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from ipkernel_ext.execution.output import sendable

STACKS = 20_000  # different ones that are kept
OTHERS = ("(other stacks)",)
LEAST = 0.001  # seconds between two looks

Label = str


class Samples:
    """What was seen.

    Parameters
    ----------
    wall, cpu
        The moment at which it begins: what time it is, and how long the thread was on a processor; seconds.
    """

    def __init__(self, wall: float, cpu: float) -> None:
        self._begun = self._wall = wall
        self._cpu = cpu
        self._stacks: dict[tuple[Label, ...], list[float]] = {}  # seconds: computing, waiting
        self._idle = 0.0

    def add(self, frames: Sequence[FrameType], wall: float, cpu: float) -> None:
        """A look.

        Parameters
        ----------
        frames
            Of user code, from the innermost on.
        """
        passed, used = wall - self._wall, cpu - self._cpu
        self._wall, self._cpu = wall, cpu
        if not frames:
            self._idle += passed
            return
        stack = tuple(label(frame) for frame in reversed(frames))
        if stack not in self._stacks and len(self._stacks) >= STACKS:
            stack = OTHERS
        spent = self._stacks.setdefault(stack, [0.0, 0.0])
        computing = min(passed, max(0.0, used))
        spent[0] += computing
        spent[1] += passed - computing

    def told(self) -> dict[str, Any]:
        """What to tell: labels, stacks as their indices with seconds of computing and waiting, and seconds in all."""
        numbers: dict[Label, int] = {}
        stacks = [
            ([numbers.setdefault(sendable(name), len(numbers)) for name in stack], *spent)
            for stack, spent in self._stacks.items()
        ]
        return {"labels": list(numbers), "stacks": stacks, "idle": self._idle, "seconds": self._wall - self._begun}


def label(frame: FrameType) -> Label:
    """A function, and where it is."""
    code = frame.f_code
    return f"{code.co_qualname} ({code.co_filename}:{code.co_firstlineno})"


class Samplers:
    """Those that are under way, by name.

    Parameters
    ----------
    thread : int
        The thread that runs user code.
    frames_of
        Frames of user code in a stack, from the innermost on.
    """

    def __init__(self, thread: int, frames_of: Callable[[FrameType | None], Sequence[FrameType]]) -> None:
        self._thread = thread
        self._frames_of = frames_of
        self._running: dict[str, _Sampler] = {}

    def begin(self, name: str, interval: float, limit: float) -> None:
        """Begin; it ends by itself after so many seconds."""
        if name not in self._running:
            self._running[name] = _Sampler(self._thread, self._frames_of, max(LEAST, interval), limit)

    def end(self, name: str) -> dict[str, Any]:
        """End it; what it has seen."""
        sampler = self._running.pop(name, None)
        return Samples(0.0, 0.0).told() if sampler is None else sampler.end()


class _Sampler:
    """One thread that looks."""

    def __init__(
        self,
        thread: int,
        frames_of: Callable[[FrameType | None], Sequence[FrameType]],
        interval: float,
        limit: float,
    ) -> None:
        self._looked_at = thread
        self._frames_of = frames_of
        self._interval = interval
        self._until = time.monotonic() + limit
        self._cpu = _clock_of(thread)
        self._samples = Samples(time.monotonic(), self._cpu())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ipkernel_ext samples", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._interval) and time.monotonic() < self._until:
            self._look()

    def _look(self) -> None:
        frame = sys._current_frames().get(self._looked_at)
        self._samples.add(self._frames_of(frame), time.monotonic(), self._cpu())

    def end(self) -> dict[str, Any]:
        """End; what was seen."""
        self._ended.set()
        self._thread.join()
        if time.monotonic() < self._until:
            self._look()
        return self._samples.told()


def _clock_of(thread: int) -> Callable[[], float]:
    """How long a thread was on a processor; where nobody says, all its time counts so."""
    try:
        clock = time.pthread_getcpuclockid(thread)
    except AttributeError:
        return time.monotonic
    return lambda: time.clock_gettime(clock)
