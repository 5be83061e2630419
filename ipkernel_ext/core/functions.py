"""The functions that queued tasks name by digest, as opaque frames.

A client sends a function before the first task that names it, an engine gets it before the first
task that calls it there; both only once. Frames that no unfinished task names are kept up to a
limit; whoever misses one asks with ``NeedFunction``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ipkernel_ext.core.queues import DONE, ENDED, WAITING, Task
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
        self._asked: dict[str, set[str]] = {}  # who was asked for what is missing
        self._wanting: dict[str, dict[str, Engine]] = {}

    def waiting(self) -> Iterator[Task]:
        """The tasks that wait for their function."""
        return (task for tasks in self._waiting.values() for task in tasks if task.state is WAITING)

    def get(self, digest: str) -> Sequence[Frame] | None:
        """The frames, or None."""
        return self._frames.get(digest)

    def missing(self, task: Task) -> bool:
        """Whether the task's function is not here."""
        return task.function is not None and task.function not in self._frames

    def add(self, digest: str, frames: Sequence[Frame]) -> list[Task]:
        """A function arrived; the tasks that waited for it."""
        self._asked.pop(digest, None)
        if digest not in self._frames:
            self._frames[digest] = frames
            if digest not in self._uses:
                self._retire(digest)
        return [task for task in self._waiting.pop(digest, ()) if task.state is WAITING]

    def use(self, digest: str) -> None:
        """One more unfinished task names it."""
        self._uses[digest] = self._uses.get(digest, 0) + 1
        self._idle_bytes -= self._idle.pop(digest, 0)

    def release(self, digest: str, count: int = 1) -> None:
        """So many tasks less."""
        uses = self._uses[digest] - count
        if uses:
            self._uses[digest] = uses
            return
        del self._uses[digest]
        self._waiting.pop(digest, None)
        self._asked.pop(digest, None)
        for engine in list(self._wanting.get(digest, {}).values()):
            if not engine.orphans:  # else it may be one of those that calls it
                self._unwant(digest, engine)
        if digest in self._frames:
            self._retire(digest)

    def wait(self, task: Task) -> None:
        """The task waits for its function."""
        assert task.function is not None
        self._waiting.setdefault(task.function, []).append(task)

    def ask(self, digest: str, client: str) -> bool:
        """Note that this client is asked for the function; False if it was before."""
        asked = self._asked.setdefault(digest, set())
        if client in asked:
            return False
        asked.add(client)
        return True

    def want(self, digest: str, engine: Engine) -> None:
        """The engine is to get this function when it arrives, if any task there may call it still."""
        if digest in self._uses or engine.orphans:
            self._wanting.setdefault(digest, {})[engine.boot] = engine

    def take_wanting(self, digest: str) -> list[Engine]:
        """The engines that are to get it."""
        return list(self._wanting.pop(digest, {}).values())

    def unwant(self, engine: Engine) -> None:
        """The engine wants nothing any more, or begins anew."""
        for digest in [digest for digest, engines in self._wanting.items() if engine.boot in engines]:
            self._unwant(digest, engine)

    def settle(self, engine: Engine) -> None:
        """The engine has no orphans any more: what it wants, a task names."""
        for digest in [digest for digest, engines in self._wanting.items() if engine.boot in engines]:
            if digest not in self._uses:
                self._unwant(digest, engine)

    def _unwant(self, digest: str, engine: Engine) -> None:
        del self._wanting[digest][engine.boot]
        if not self._wanting[digest]:
            del self._wanting[digest]

    def _retire(self, digest: str) -> None:
        size = sum(len(frame) for frame in self._frames[digest])
        self._idle[digest] = size
        self._idle_bytes += size
        while self._idle and (len(self._idle) > IDLE or self._idle_bytes > IDLE_BYTES):
            oldest = next(iter(self._idle))
            self._idle_bytes -= self._idle.pop(oldest)
            del self._frames[oldest]

    def check(self, tasks: Iterable[Task]) -> None:
        """Assert that the counts are those of the unfinished tasks."""
        uses: dict[str, int] = {}
        for task in tasks:
            if task.function is not None and task.state is not DONE and task.state is not ENDED:
                uses[task.function] = uses.get(task.function, 0) + 1
        assert uses == self._uses, f"uses {self._uses} but tasks {uses}"
        assert not self._idle.keys() & self._uses.keys(), "idle and in use"
        assert self._frames.keys() <= self._idle.keys() | self._uses.keys(), "frames that nobody counts"
        assert self._waiting.keys() | self._asked.keys() <= self._uses.keys(), "waits for what nobody names"

    def sizes(self) -> dict[str, int]:
        """How much is kept that should not last."""
        return {
            "functions in use": len(self._uses),
            "functions waited for": len(self._waiting) + len(self._asked),
            "functions wanted": len(self._wanting),
        }
