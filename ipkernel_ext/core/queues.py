"""Tasks as the controller sees them, and queues of them.

Knows nothing of engines' windows (``scheduling``) nor of who may send what (``controller``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING

from msgspec import Struct

from ipkernel_ext.core.messages import Failure, Hint, TaskId, Work, function_of
from ipkernel_ext.core.wire import Frame

if TYPE_CHECKING:
    from ipkernel_ext.core.roster import Engine


class State(Enum):
    """Where a task is."""

    WAITING = auto()  # for its function to arrive (balanced)
    QUEUED = auto()  # here
    LATER = auto()  # for tasks that it is to come after
    HELD = auto()  # for an engine that may still come, or come back
    SENT = auto()  # handed to an engine
    DONE = auto()  # ended; its engine keeps the result until the client has acknowledged it
    ENDED = auto()  # cancelled or failed here, or acknowledged: nothing more will happen


WAITING, QUEUED, LATER, HELD, SENT, DONE, ENDED = State
"""The same by a name of its own: on some Pythons, to look a member up takes as long as five other look-ups."""


class Task(Struct, eq=False):
    """One task; mutable, owned by the controller core."""

    id: TaskId
    work: Work
    frames: Sequence[Frame]
    engine: int | None  # None: balanced
    boot: str | None  # the life of that engine the client believes in
    retries: int
    among: frozenset[int] | None = None  # engines that may run it, if balanced; None: any
    timeout: float = 0.0  # seconds for each item; 0: none
    max_result: int = 0  # bytes that the client takes; 0: all
    losses: int = 0  # engines that died with it begun
    attempt: int = 0  # the one its holder has, or the last one
    attempts: int = 0  # how many there were
    queue: Queue | None = None  # the one it is in, when QUEUED
    holder: Engine | None = None  # who has it, when SENT or DONE
    state: State = QUEUED
    cancelled: bool = False  # it is to end
    cleared: bool = False  # it is to end if it has not begun
    recalled: int = 0  # the attempt that its engine was asked to give back
    outputs: int = 0  # how many belong to its result, when DONE
    lacking: bool = False  # its client may have missed some of its output, or the result
    large: bool = False  # its engine keeps much for its client
    shown: int = 0  # bytes of output that its client was sent
    written: bool = False  # the journal has an entry of it
    function: str | None = None  # digest of the one that its work calls
    hint: Hint | None = None  # where an earlier life of the controller handed it out
    awaited: str = ""  # the boot it waits for, when HELD
    after: set[TaskId] | None = None  # those it waits for, when LATER
    failure: Failure | None = None  # how it ended here, when ENDED
    error: str = ""  # what went wrong, when DONE or ENDED

    def __post_init__(self) -> None:
        self.function = function_of(self.work)

    @property
    def open(self) -> bool:
        """Whether it is not over."""
        return self.state is not DONE and self.state is not ENDED


class Queue:
    """Tasks in order, each of them in one queue at most."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[Task, None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def append(self, task: Task) -> None:
        """Add at the end."""
        task.queue = self
        self._tasks[task] = None

    def appendleft(self, task: Task) -> None:
        """Put back at the front."""
        task.queue = self
        self._tasks[task] = None
        self._tasks.move_to_end(task, last=False)

    @property
    def first(self) -> Task:
        """The first task. There must be one."""
        return next(iter(self._tasks))

    def pop(self) -> Task:
        """The first task. KeyError when there is none."""
        task, _ = self._tasks.popitem(last=False)
        task.queue = None
        return task

    def discard(self, task: Task) -> None:
        """Take a task out, wherever it stands. It must be in this queue."""
        task.queue = None
        del self._tasks[task]

    def clear(self) -> list[Task]:
        """Empty the queue; its tasks in order."""
        tasks = list(self._tasks)
        for task in tasks:
            task.queue = None
        self._tasks.clear()
        return tasks


EMPTY = 8  # sets of engines for which nothing is here, that need not be found again when something comes


class BalancedQueue:
    """Balanced tasks: a queue for each set of engines that may run them. The sets take turns.

    Attributes
    ----------
    anywhere : Queue
        Those that any engine may run.
    """

    def __init__(self) -> None:
        self.anywhere = Queue()
        self._queues: OrderedDict[frozenset[int] | None, Queue] = OrderedDict({None: self.anywhere})

    @property
    def divided(self) -> bool:
        """Whether there may be tasks that not all engines may run."""
        return len(self._queues) > 1

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[Task]:
        return (task for queue in self._queues.values() for task in queue)

    def queue(self, among: frozenset[int] | None) -> Queue:
        """The queue of a set of engines; None: all."""
        queue = self._queues.get(among)
        if queue is None:
            queue = self._queues[among] = Queue()
        return queue

    def sets(self) -> list[frozenset[int] | None]:
        """The sets of engines that tasks are here for, in the order of their turns."""
        found = [among for among, queue in self._queues.items() if queue]
        if len(self._queues) > len(found) + EMPTY:
            for among in self._queues.keys() - {None, *found}:
                del self._queues[among]
        return found

    def pop(self, among: frozenset[int] | None) -> Task:
        """The first task of a set of engines; the other sets come before its next one."""
        self._queues.move_to_end(among)
        return self._queues[among].pop()

    def clear(self) -> list[Task]:
        """Take out all tasks."""
        return [task for queue in self._queues.values() for task in queue.clear()]
