"""Who is connected to the controller: engines, clients, agents, as the core sees them."""

from __future__ import annotations

from typing import NamedTuple

from ipkernel_ext.core.effects import Peer
from ipkernel_ext.core.messages import EngineRecord, TaskId
from ipkernel_ext.core.queues import Queue, Task


class Orphan(NamedTuple):
    """A task known only from its engine's inventory, until its client replays it."""

    attempt: int
    finished: bool
    since: float


class Engine:
    """One life of one engine."""

    def __init__(self, record: EngineRecord) -> None:
        self.record = record
        self.id = record.id
        self.boot = record.boot
        self.control: Peer | None = None
        self.tasks: Peer | None = None  # its task connection; None: nothing can be handed out
        self.generation = -1
        self.queue = Queue()  # addressed tasks not yet handed out
        self.sent: dict[TaskId, Task] = {}  # handed out, in order
        self.done: dict[TaskId, Task] = {}  # ended; the engine keeps the result
        self.orphans: dict[TaskId, Orphan] = {}  # tasks that no client has claimed
        self.functions: set[str] = set()  # digests it was sent
        self.forget: list[TaskId] = []  # acknowledged results it does not know to be so
        self.completed = 0
        self.seconds: float | None = None  # moving average of a balanced task's duration
        self.progress = 0.0  # when it last began or ended something
        self.stuck = False  # asked for unstarted work since it last made progress
        self.balanced = 0  # how many of those sent are balanced
        self.away_since: float | None = None
        self.dying_since: float | None = None  # its process ended; its agent may still say how
        self.gone = False
        self.last_client: str | None = None

    @property
    def present(self) -> bool:
        """Whether tasks can be handed to it now."""
        return self.tasks is not None and not self.gone


class Client:
    """One client, by its own id; it survives its connections."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.peer: Peer | None = None
        self.host = ""
        self.pid = 0
        self.tasks: dict[int, Task] = {}  # not yet acknowledged
        self.away_since: float | None = None
        self.left = False  # said goodbye: nobody will fetch its results


class Agent:
    """The supervisor of one host's engines."""

    def __init__(self, id: str, peer: Peer, host: str, pid: int, expected: int) -> None:
        self.id = id
        self.peer: Peer | None = peer
        self.host = host
        self.pid = pid
        self.expected = expected
