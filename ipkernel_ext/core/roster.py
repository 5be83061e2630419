"""Who is connected to the controller, who may come, who is dead: engines, clients, agents.

Tables and plain questions about them. What follows from a coming or going is decided elsewhere
(``lives``, ``recovery``, ``dispatch``).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from ipkernel_ext.core.access import OWNER
from ipkernel_ext.core.credit import Credit
from ipkernel_ext.core.effects import Expire, Mailbox, Peer
from ipkernel_ext.core.failures import how
from ipkernel_ext.core.messages import EngineMeasured, EngineRecord, Exit, Measured, Scales, TaskId
from ipkernel_ext.core.outbox import Outbox
from ipkernel_ext.core.queues import Queue, Task
from ipkernel_ext.core.wire import Entry, Frame

REMEMBERED = 1024  # dead engines and departed clients that are remembered

Begun = Callable[[str], Container[tuple[TaskId, int]] | None]
"""What an engine's record says: the (task, attempt) pairs that had begun; None where unknowable."""

Finished = Callable[[str], Sequence[Entry]]
"""What an engine's record says: results that it may not have been able to send, each after its output."""


class Orphan(NamedTuple):
    """A task known only from its engine, until its client replays it."""

    attempt: int
    finished: bool
    since: float


class Death(NamedTuple):
    """How an engine ended."""

    exit: Exit
    id: int  # it had; -1: never known here
    certain: bool  # its process ended; else it counts as dead, and may still run


class Vacancy(NamedTuple):
    """An engine id that somebody is expected to take."""

    id: int
    agent: str | None = None  # who starts the successor; None: the earlier holder is to come back


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
        self.blocked: dict[str, Queue] = {}  # by client: those that wait for a function, and those behind
        self.sent: dict[TaskId, Task] = {}  # handed out, in order
        self.done: dict[TaskId, Task] = {}  # ended; the engine keeps the result
        self.orphans: dict[TaskId, Orphan] = {}  # tasks that no client has claimed
        self.functions: dict[str, None] = {}  # digests it was sent, the latest
        self.forget: list[tuple[TaskId, int]] = []  # acknowledged results it does not know to be so
        self.completed = 0
        self.seconds: float | None = None  # moving average of a balanced task's duration
        self.progress = 0.0  # when it last began or ended something
        self.stuck = False  # asked for unstarted work since it last made progress
        self.balanced = 0  # how many of those sent are balanced
        self.timed = 0  # how many of those sent have a time
        self.away_since: float | None = None
        self.dying_since: float | None = None  # its process ended; its agent may still say how
        self.overrun = False  # its user code does not end although its time is up
        self.leaving = ""  # why it gets nothing new, and ends when it has nothing to do
        self.asked_since: float | None = None  # the question that it has not answered
        self.unresponsive = False  # it has not for too long
        self.measured: Measured | None = None  # what it answered last
        self.measured_at = 0.0
        self.seen: EngineMeasured | None = None  # what its agent says, while it does not answer
        self.given_up: Task | None = None  # failed because its time was up, though it may still run
        self.gone = False
        self.said_goodbye = False
        self.last_client: str | None = None

    @property
    def present(self) -> bool:
        """Whether tasks can be handed to it now."""
        return self.tasks is not None and not (self.gone or self.overrun or self.unresponsive)

    @property
    def answers(self) -> bool:
        """Whether it has answered what it was asked last."""
        return self.asked_since is None and self.measured is not None

    @property
    def load(self) -> tuple[int, int]:
        """Queued and running tasks (it runs one thing at a time)."""
        running = min(1, len(self.sent))
        waiting = len(self.queue) + sum(map(len, self.blocked.values()))
        return waiting + len(self.sent) - running, running

    def has(self, digest: str) -> bool:
        """Whether it was sent this function of late; from now on it was."""
        if digest in self.functions:
            return True
        self.functions[digest] = None
        if len(self.functions) > REMEMBERED:
            del self.functions[next(iter(self.functions))]
        return False


class Client:
    """One client, by its own id; it survives its connections."""

    def __init__(self, id: str, expired: int) -> None:
        self.id = id
        self.peer: Peer | None = None
        self.generation = 0
        self.host = ""
        self.pid = 0
        self.access = OWNER  # what its key is for
        self.tasks: dict[int, Task] = {}  # not yet acknowledged
        self.expected: set[int] = set()  # it said at its hello that it will replay these
        self.highest = expired  # number it has used
        self.expired = expired  # up to this number, what is not known any more was dropped
        self.here_since = 0.0
        self.away_since: float | None = None
        self.left = False  # said goodbye, or away too long: it will not come for its results
        self.kept = False  # the store hears of its tasks in its place
        self.credit = Credit()


class Agent:
    """The supervisor of one host's engines."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.peer: Peer | None = None
        self.generation = 0
        self.host = ""
        self.pid = 0
        self.expected = 0
        self.scales: Scales = "own"
        self.fixed = ""
        self.draining = ""  # why its engines are to end soon
        self.exited: dict[str, None] = {}  # boots whose end it has told, the latest
        self.away_since: float | None = None


class Roster:
    """The tables."""

    def __init__(
        self, out: Outbox, begun: Begun, finished: Finished, enlisted: dict[int, str], recovery_until: float
    ) -> None:
        self._out = out
        self._begun = begun
        self.finished = finished
        self.peers: dict[Peer, Client | Engine | Agent] = {}
        self.engines: dict[int, Engine] = {}
        self.boots: dict[str, Engine] = {}
        self.clients: dict[str, Client] = {}
        self.agents: dict[str, Agent] = {}
        self.dead: dict[str, Death] = {}
        self.wanted: dict[TaskId, dict[TaskId, None]] = {}  # results others ask for, and as which task of theirs
        self.departed: dict[str, int] = {}  # clients that are gone: the highest number they had used
        self.vacant: dict[str, Vacancy] = {boot: Vacancy(id) for id, boot in enlisted.items()}
        self.next_id = 1 + max(enlisted, default=-1)
        self.recovery_until = recovery_until  # 0.0: over
        self.trouble = ""  # the last reason why engines did not come
        self.waits = ""  # why those that are expected are not here yet

    def in_order(self) -> list[Engine]:
        """All engines by id."""
        return [self.engines[id] for id in sorted(self.engines)]

    def named(self, ids: Iterable[int]) -> list[Engine]:
        """Those of these that exist."""
        return [self.engines[id] for id in ids if id in self.engines]

    def vacancy(self, id: int) -> str | None:
        """The boot whose id this is, or was until somebody takes it."""
        return next((boot for boot, vacancy in self.vacant.items() if vacancy.id == id), None)

    def awaited(self) -> list[tuple[int, str]]:
        """Engine id and boot of those that an earlier life of the controller knew, and that may still come back."""
        return [(vacancy.id, boot) for boot, vacancy in self.vacant.items() if vacancy.agent is None]

    def expecting(self, now: float) -> bool:
        """Whether an engine may still come without anybody's doing."""
        return (
            now < self.recovery_until
            or any(agent.expected > 0 for agent in self.agents.values())
            or any(vacancy.agent in self.agents for vacancy in self.vacant.values())
        )

    def expected(self, id: int, now: float) -> bool:
        """Whether an engine of this id may still come without anybody's doing."""
        return now < self.recovery_until or any(
            vacancy.id == id and vacancy.agent in self.agents for vacancy in self.vacant.values()
        )

    def bury(self, boot: str, death: Death) -> None:
        """Remember how a boot ended; a certain death stays one, and what is known of it stays known."""
        before = self.dead.pop(boot, None)
        if before is not None:
            tells_more = death.certain and (death.exit != Exit() or not before.certain)
            death = Death(
                death.exit if tells_more else before.exit,
                death.id if death.id >= 0 else before.id,
                death.certain or before.certain,
            )
        self.dead[boot] = death
        if len(self.dead) > REMEMBERED:
            del self.dead[next(iter(self.dead))]

    def started(self, boot: str, tasks: Iterable[tuple[TaskId, int]]) -> list[bool | None]:
        """Whether these attempts had begun there when it died: True, False, or None (unknowable)."""
        begun = self._begun(boot)
        if begun is None:
            return [None for _ in tasks]
        death = self.dead.get(boot)
        otherwise = False if death is not None and death.certain else None
        return [True if task in begun else otherwise for task in tasks]

    def begun_by(self, engine: Engine) -> Task | None:
        """The first task of those an engine was sent that it has begun or, where that is unknowable, may have."""
        begun = self._begun(engine.boot) if engine.sent else None
        return next((t for t in engine.sent.values() if begun is None or (t.id, t.attempt) in begun), None)

    def death_of(self, id: int) -> Death | None:
        """The latest that an engine of this id has died."""
        return next((death for death in reversed(self.dead.values()) if death.id == id), None)

    def why_none(self, among: Iterable[int] | None) -> str:
        """Why none of these engines is here, as far as known."""
        deaths = [(id, self.death_of(id)) for id in sorted(among or ())]
        told = [f"engine {id} is dead: {how(death.exit)}" for id, death in deaths if death is not None]
        return "; ".join(told[:2]) or self.trouble

    def exit_of(self, boot: str, otherwise: str = "") -> Exit:
        """How it ended, as far as known."""
        death = self.dead.get(boot)
        return death.exit if death is not None else Exit(detail=otherwise)

    def record(self, engine: Engine) -> EngineRecord:
        """What clients are told of an engine."""
        if engine.away_since is not None:
            state = "away"
        elif engine.unresponsive:
            state = "unresponsive"
        elif engine.overrun:
            state = "overrun"
        else:
            state = "draining" if engine.leaving else "ready"
        return engine.record if engine.record.state == state else replace(engine.record, state=state)

    def tell_clients(self, message: Any) -> None:
        """Tell every connected client."""
        for client in self.clients.values():
            if client.peer is not None:
                self._out.send(client.peer, message)

    def tell_owner(self, client: str, message: Any, frames: Sequence[Frame] = ()) -> bool:
        """Tell one client, if it is here."""
        owner = self.clients.get(client)
        if owner is None or owner.peer is None:
            return False
        self._out.send(owner.peer, message, frames)
        return True

    def tell_of(self, task: TaskId, message: Any, frames: Sequence[Frame] = ()) -> bool:
        """Tell who is to hear of a task: its client or, where that is not here, the store. Whether anybody did."""
        owner = self.clients.get(task.client)
        here = owner is not None and owner.peer is not None
        if owner is not None and here:
            self._out.send(owner.peer, message, frames)
            if not self.wanted:
                return True
        to_store = task in self.wanted or (owner is not None and not here and owner.kept)
        if to_store:
            self._out.send(Mailbox(task.client), message, frames)
        return here or to_store

    def has_left(self, client: str) -> bool:
        """Whether a client will not come back."""
        known = self.clients.get(client)
        return known is None or known.left

    def depart(self, client: str, highest: int) -> None:
        """A client is gone for good, with all numbers up to this one."""
        self.departed[client] = max(highest, self.departed.pop(client, -1))
        if len(self.departed) > REMEMBERED:
            oldest = next(iter(self.departed))
            del self.departed[oldest]
            self._out.add(Expire(oldest, None))

    def check(self) -> None:
        """Assert that the tables agree."""
        for number, engine in self.engines.items():
            assert engine.id == number and not engine.gone, f"engine {number}"
            assert self.boots[engine.boot] is engine, f"boot of engine {number}"
            assert engine.boot not in self.dead, f"engine {number} is dead and here"
            assert engine.boot not in self.vacant, f"engine {number} is here and awaited"
        assert len(self.boots) == len(self.engines), "boots and engines"
        for peer, member in self.peers.items():
            if isinstance(member, Engine):
                assert peer in (member.control, member.tasks), f"peer {peer} of {member.boot}"
            else:
                assert peer == member.peer, f"peer {peer} of {member.id}"
        ids = [vacancy.id for vacancy in self.vacant.values()]
        assert len(ids) == len(set(ids)) and not set(ids) & self.engines.keys(), f"vacant {self.vacant}"
