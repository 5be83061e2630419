"""Tasks as the controller sees them, and the queue of balanced ones.

Knows nothing of engines' windows (``scheduling``) nor of who may send what (``controller``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING

from ipkernel_ext.core.messages import Failure, Hint, TaskId, Work, function_of
from ipkernel_ext.core.wire import Frame

if TYPE_CHECKING:
    from ipkernel_ext.core.roster import Engine


class State(Enum):
    """Where a task is."""

    WAITING = auto()  # for its function to arrive
    QUEUED = auto()  # here
    HELD = auto()  # was handed out in the controller's earlier life; its engine may still come back
    SENT = auto()  # handed to an engine
    DONE = auto()  # ended; its engine keeps the result until the client has acknowledged it
    ENDED = auto()  # cancelled or failed here, or acknowledged: nothing more will happen


class Task:
    """One task; mutable, owned by the controller core."""

    __slots__ = (
        "attempt",
        "boot",
        "cancelled",
        "engine",
        "failure",
        "frames",
        "function",
        "hint",
        "holder",
        "id",
        "losses",
        "queue",
        "retries",
        "state",
        "work",
    )

    def __init__(
        self,
        id: TaskId,
        work: Work,
        frames: Sequence[Frame],
        engine: int | None,
        boot: str | None,
        retries: int,
    ) -> None:
        self.id = id
        self.work = work
        self.frames = frames
        self.engine = engine  # None: balanced
        self.boot = boot  # the life of that engine the client believes in
        self.retries = retries
        self.losses = 0  # engines that died with it begun
        self.attempt = 0
        self.queue: Queue | None = None  # the one it is in, when QUEUED
        self.holder: Engine | None = None  # who has it, when SENT or DONE
        self.state = State.QUEUED
        self.cancelled = False
        self.function = function_of(work)
        self.hint: Hint | None = None  # what is waited for, when HELD
        self.failure: Failure | None = None  # how it ended here, when ENDED

    @property
    def addressed(self) -> bool:
        """Whether the client named the engine."""
        return self.engine is not None


class Queue:
    """Tasks in order. Taking one out of the middle costs nothing here: it is skipped later."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._skipped = 0

    def __bool__(self) -> bool:
        return len(self._tasks) > self._skipped

    def __len__(self) -> int:
        return len(self._tasks) - self._skipped

    def __iter__(self) -> Iterator[Task]:
        return (task for task in self._tasks if task.queue is self)

    def append(self, task: Task) -> None:
        """Add at the end."""
        task.queue = self
        self._tasks.append(task)

    def appendleft(self, task: Task) -> None:
        """Put back at the front."""
        task.queue = self
        self._tasks.appendleft(task)

    def pop(self) -> Task:
        """The first task. IndexError when there is none."""
        while True:
            task = self._tasks.popleft()
            if task.queue is self:
                task.queue = None
                return task
            self._skipped -= 1

    def discard(self, task: Task) -> None:
        """Take a task out. It must be in this queue, and may not come back to it."""
        task.queue = None
        self._skipped += 1
        if self._skipped > 64 and self._skipped * 2 > len(self._tasks):
            self._tasks = deque(self)
            self._skipped = 0

    def clear(self) -> list[Task]:
        """Empty the queue; its tasks in order."""
        tasks = list(self)
        for task in tasks:
            task.queue = None
        self._tasks.clear()
        self._skipped = 0
        return tasks
