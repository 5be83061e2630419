"""The functions that queued tasks name by digest, as opaque frames.

A client sends a function before the first task that names it, an engine gets it before the first
task that calls it there; both only once. Frames that no unfinished task names are kept up to a
limit; whoever misses one asks with ``NeedFunction``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ipkernel_ext.core.queues import State, Task
from ipkernel_ext.core.roster import Engine
from ipkernel_ext.core.wire import Frame

IDLE = 1024  # functions kept that no task names
IDLE_BYTES = 64 * 2**20  # and their bytes


class FunctionStore:
    """Frames by digest, with a count of the unfinished tasks that name each."""

    def __init__(self) -> None:
        self._frames: dict[str, Sequence[Frame]] = {}
        self._uses: dict[str, int] = {}
        self._idle: dict[str, int] = {}  # digest: bytes, least recently idle first
        self._idle_bytes = 0
        self._waiting: dict[str, list[Task]] = {}
        self._wanting: dict[str, list[Engine]] = {}

    @property
    def waiting(self) -> int:
        """How many tasks wait for their function."""
        return sum(1 for tasks in self._waiting.values() for task in tasks if task.state is State.WAITING)

    def get(self, digest: str) -> Sequence[Frame] | None:
        """The frames, or None."""
        return self._frames.get(digest)

    def add(self, digest: str, frames: Sequence[Frame]) -> list[Task]:
        """A function arrived; the tasks that waited for it."""
        if digest not in self._frames:
            self._frames[digest] = frames
            if digest not in self._uses:
                self._retire(digest)
        return self._waiting.pop(digest, [])

    def use(self, digest: str) -> None:
        """One more unfinished task names it."""
        self._uses[digest] = self._uses.get(digest, 0) + 1
        self._idle_bytes -= self._idle.pop(digest, 0)

    def release(self, digest: str) -> None:
        """One task less."""
        uses = self._uses[digest] - 1
        if uses:
            self._uses[digest] = uses
            return
        del self._uses[digest]
        self._waiting.pop(digest, None)
        if digest in self._frames:
            self._retire(digest)

    def wait(self, task: Task) -> bool:
        """The task waits for its function; True if it is the first to."""
        assert task.function is not None
        waiting = self._waiting.setdefault(task.function, [])
        waiting.append(task)
        return len(waiting) == 1

    def want(self, digest: str, engine: Engine) -> None:
        """The engine is to get this function when it arrives."""
        self._wanting.setdefault(digest, []).append(engine)

    def take_wanting(self, digest: str) -> list[Engine]:
        """The engines that are to get it."""
        return self._wanting.pop(digest, [])

    def _retire(self, digest: str) -> None:
        size = sum(len(frame) for frame in self._frames[digest])
        self._idle[digest] = size
        self._idle_bytes += size
        while len(self._idle) > IDLE or self._idle_bytes > IDLE_BYTES:
            oldest = next(iter(self._idle))
            self._idle_bytes -= self._idle.pop(oldest)
            del self._frames[oldest]

    def check(self, tasks: Iterable[Task]) -> None:
        """Assert that the counts are those of the unfinished tasks."""
        uses: dict[str, int] = {}
        for task in tasks:
            if task.function is not None and task.state not in (State.DONE, State.ENDED):
                uses[task.function] = uses.get(task.function, 0) + 1
        assert uses == self._uses, f"uses {self._uses} but tasks {uses}"
        assert not set(self._idle) & set(self._uses), "idle and in use"
