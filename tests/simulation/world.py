"""A world of simulated processes around the real cores, all of it drawn from one seed.

Two phases: faults and work for a while, then faults end, everything goes on, and the world has to
fall quiet. What must hold at each step is asserted where it happens (``check`` of the cores,
``judge`` at each result); what must hold in the end is asserted by ``verdict``.
"""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.core.jobs import is_seat
from ipkernel_ext.core.messages import TaskId
from ipkernel_ext.core.wire import Entry
from tests.simulation.actor import Actor
from tests.simulation.agents import SimAgent
from tests.simulation.clients import Asked, SimClient
from tests.simulation.clock import Clock
from tests.simulation.controllers import HOST, Disk, SimController
from tests.simulation.engines import SimEngine, Start
from tests.simulation.jobs import SimJob
from tests.simulation.network import Connection, Delays

QUIET = 3000.0  # seconds after the faults by which the world has to be quiet
CROWD = 200  # tasks of a client that has enough to do
STEPS = 300_000  # events of one world at most; clients that count as away at each result need many


class World:
    """One seed's world.

    Parameters
    ----------
    seed : int
        Everything is drawn from it.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        curious = Random(f"curious {seed}")
        self.curious = curious if curious.random() < 0.4 else None  # clients ask for the results of others
        self.clock = Clock()
        self.delays = Delays(random, random.choice((0.0003, 0.001, 0.01)), random.choice((0.0, 0.05, 0.3)))
        self.options = {
            "recovery_window": random.choice((1.0, 3.0)),
            "engine_grace": random.choice((0.7, 4.0)),
            "result_ttl": random.choice((5.0, 20.0)),
        }
        self.small = random.random() < 0.4
        self.disk = Disk()
        self.controller: SimController | None = None
        self.engines: dict[str, SimEngine] = {}
        self.agents: list[SimAgent] = []
        self.jobs: list[SimJob] = []
        self.clients: list[SimClient] = []
        self.connections: list[Connection] = []
        self.begun: dict[str, set[tuple[TaskId, int]]] = {}
        self.finished: dict[str, deque[list[Entry]]] = {}  # the latest results of each engine
        self.starts: dict[TaskId, list[Start]] = {}
        self.ended: set[TaskId] = set()  # tasks whose user code ended without an error
        self.given_back: set[TaskId] = set()
        self.given_up: set[TaskId | str] = set()  # tasks and boots that some controller called lost
        self.called_off: set[TaskId] = set()  # tasks that some controller called cancelled
        self.faulty = True
        self.lines: deque[str] = deque(maxlen=9000)
        self._hash = hashlib.blake2b(digest_size=8)
        self._waiting: list[Connection] = []
        self._until = random.uniform(2.0, 12.0)
        self.share = {option: random.choice((0.0, 0.0, 0.3)) for option in ("among", "after", "timeout", "deaf")}
        self._slow_tasks = random.choice((0.0, 0.05, 0.3))
        self._fault_rate = {
            kind: random.choice((0.0, 0.0, 0.1, 0.3, 1.0))
            for kind in ("controller", "engine", "client", "pause", "isolate")
        }
        self._fault_rate["cut"] = random.choice((0.0, 0.3, 1.0, 4.0))
        self._count = 0

    # ------------------------------------------------------------ running

    def run(self) -> None:
        """Live through both phases and judge."""
        with (
            _small_constants(_SMALL, self.random if self.small else None),
            _small_constants(_SMALL_CREDIT, Random(f"credit {self.seed}")),
        ):
            self._populate()
            while self.clock.step(self._until):
                self._bounded()
            self._end_faults()
            end = self.clock.now + QUIET
            while self.clock.step(end):
                self._bounded()
            self.verdict()

    @property
    def trace_hash(self) -> str:
        """Of everything that happened."""
        return self._hash.hexdigest()

    def trace(self, who: str, what: str) -> None:
        """One line of the world's story."""
        line = f"{self.clock.now:.6f} {who}: {what}"
        self.lines.append(line)
        self._hash.update(line.encode())

    def _bounded(self) -> None:
        assert self.clock.steps < STEPS, "the world does not come to rest"

    def _populate(self) -> None:
        random = self.random
        self._start_controller()
        count = random.choice((1, 2, 3, 4, 4, 6)) if random.random() < 0.97 else 40
        supervised = random.choice((0.0, 0.5, 1.0))
        for n in range(2):
            of_host = [random.random() < supervised for _ in range(count) if random.random() < 0.5]
            if any(of_host):
                agent = SimAgent(self, f"agent{n}", f"host{n}")
                self.agents.append(agent)
                agent.adopt(sum(of_host))
            for has_agent in of_host:
                if not has_agent:
                    self.start_engine(f"host{n}", None, None)
        chance = Random(f"jobs {self.seed}")
        if chance.random() < 0.25:
            self.jobs = [SimJob(self, n, chance) for n in range(chance.randint(1, 2))]
        for n in range(random.randint(1, 3)):
            self.clients.append(SimClient(self, f"client{n}"))
        self._plan("fault", max(0.01, sum(self._fault_rate.values())), self._fault)
        self._plan("work", random.choice((3.0, 10.0, 30.0)), self._work)

    def _plan(self, what: str, rate: float, do: Callable[[], None]) -> None:
        def event() -> None:
            if self.faulty:
                do()
                self._plan(what, rate, do)

        self.clock.after(self.random.expovariate(rate), event)

    def _work(self) -> None:
        client = self.random.choice(self.clients)
        action = self.random.random()
        if client.core.unresolved > CROWD:
            return  # each of them is looked at after each step
        choices: list[tuple[float, Callable[[], None]]] = [
            (0.80, client.submit_random),
            (0.89, client.cancel_random),
            (0.92, client.interrupt_random),
            (0.95, client.clear_random),
            (0.985, client.ask_random),
            (0.995, client.restart_random),
            (1.00, client.leave),
        ]
        for share, do in choices:
            if action < share:
                client.perform(do)
                return

    def _end_faults(self) -> None:
        self.faulty = False
        self.trace("world", "faults end")
        if self.controller is None:
            self._start_controller()
        for actor in self._actors():
            actor.resume()
            self._heal(actor)
        if not any(engine.alive for engine in self.engines.values()):
            self.start_engine("host0", None, None)

    def _actors(self) -> list[Actor]:
        actors: list[Actor] = [*self.engines.values(), *self.agents, *self.clients]
        if self.controller is not None:
            actors.append(self.controller)
        return [actor for actor in actors if actor.alive]

    # ------------------------------------------------------------ faults

    def _fault(self) -> None:
        random = self.random
        kinds = list(self._fault_rate)
        weights = list(self._fault_rate.values())
        if not any(weights):
            return
        kind = random.choices(kinds, weights)[0]
        if kind == "cut":
            self.connections = [c for c in self.connections if not c.broken]
            if self.connections:
                recent = random.random() < 0.4  # its hello may still be under way
                connection = random.choice(self.connections[-3:] if recent else self.connections)
                self.trace("world", f"cuts {connection.name}")
                connection.cut(random)
        elif kind == "controller" and self.controller is not None:
            if random.random() < 0.5:
                self.controller.crash_next = True
            else:
                self.kill_controller()
        elif kind == "engine":
            alive = [engine for engine in self.engines.values() if engine.alive]
            if alive:
                self.kill_engine(random.choice(alive))
        elif kind == "client":
            alive_clients = [client for client in self.clients if client.alive]
            if len(alive_clients) > 1 or random.random() < 0.1:
                random.choice(alive_clients or self.clients).kill()
        elif kind == "isolate":
            kept = SimEngine if random.random() < 0.7 else SimEngine | SimAgent | SimClient
            others = [actor for actor in self._actors() if isinstance(actor, kept)]
            if others:
                self._isolate(random.choice(others))
        elif kind == "pause":
            actor = random.choice(self._actors() or list(self.clients))
            actor.pause()
            self.clock.after(random.uniform(0.0, random.choice((0.1, 2.0, 8.0))), actor.resume)

    def _isolate(self, actor: Actor) -> None:
        """A network that parts one process from the controller for a while."""
        self.trace(actor.name, "is isolated")
        actor.isolated = True
        for connection in self.connections:
            if connection.actor is actor:
                connection.cut(self.random)
        seconds = self.random.uniform(0.2, self.random.choice((2.0, 10.0)))
        self.clock.after(seconds, lambda: self._heal(actor))
        if self.random.random() < 0.4:  # the whole machine sleeps
            actor.pause()
            self.clock.after(seconds, actor.resume)

    def _heal(self, actor: Actor) -> None:
        if actor.isolated:
            self.trace(actor.name, "is isolated no more")
            actor.isolated = False
            self._accept_waiting()

    def _accept_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            if self.controller is None or connection.actor.isolated:
                self._waiting.append(connection)
            elif connection.actor.alive and not connection.broken and not connection.given_up:
                self.controller.accept(connection)

    def kill_controller(self) -> None:
        """And start another one after a while."""
        assert self.controller is not None
        self.controller.kill()
        self.controller = None
        if self.faulty:
            self.clock.after(self.random.uniform(0.0, 1.5), self._start_controller)
        else:
            self._start_controller()

    def _start_controller(self) -> None:
        if self.controller is not None:
            return
        self.controller = SimController(self, self.disk)
        self.trace(self.controller.name, "starts")
        self._accept_waiting()

    def kill_engine(self, engine: SimEngine, restart: bool | None = None) -> None:
        """Somebody may hear of it: its agent, the kernel of the controller's host, or nobody."""
        if not engine.alive:
            return
        engine.kill()
        random = self.random
        if engine.agent is not None and engine.agent.alive:
            again = random.random() < 0.6 if restart is None else restart
            agent = engine.agent
            agent.later(random.uniform(0.0, 0.2), lambda: agent.ended(engine, again))
        controller = self.controller
        if controller is not None and engine.boot in controller.watched:
            controller.later(random.uniform(0.0, 0.01), lambda: controller.process_ended(engine.boot))

    def engine_stops(self, engine: SimEngine) -> None:
        """It was told to stop, and does."""
        if engine.alive:
            assert engine.control is not None
            engine.control.up.send(wire.encode(engine.core.epoch, [(m.Goodbye(), ())]))
            engine.control.cut(self.random, keep=True)
            self.kill_engine(engine)

    # ------------------------------------------------------------ what actors ask for

    def connect(self, actor: Actor, receive: Callable[[Connection, Sequence[Any]], None]) -> Connection:
        """A new connection to the controller, or to the next one when there is none."""
        self._count += 1
        connection = Connection(f"k{self._count}", actor, self.clock, self.delays)

        def arrive(parts: Sequence[Any]) -> None:
            actor.perform(lambda: None if connection.given_up else receive(connection, parts))

        connection.down.attach(arrive)
        if self.controller is None or actor.isolated:
            self._waiting.append(connection)
        else:
            self.controller.accept(connection)
        self.connections.append(connection)
        return connection

    def start_engine(self, host: str, agent: SimAgent | None, replaces: str | None, **fields: Any) -> SimEngine:
        """A new life of an engine."""
        boot = f"boot{len(self.engines)}"
        supervisor = None if agent is None else agent.name
        record = m.EngineRecord(boot, host, len(self.engines) + 100, "3", replaces=replaces, agent=supervisor, **fields)
        engine = self.engines[boot] = SimEngine(self, record, agent)
        return engine

    def is_dead(self, boot: str) -> bool:
        """Whether that engine's process ended."""
        return not self.engines[boot].alive

    def begun_of(self, boot: str) -> set[tuple[TaskId, int]] | None:
        """The begun file of an engine, which only the same host can read."""
        engine = self.engines.get(boot)
        return set(self.begun.get(boot, ())) if engine is not None and engine.host == HOST else None

    def finished_of(self, boot: str) -> list[Entry]:
        """The results that an engine has written down, which only the same host can read."""
        engine = self.engines.get(boot)
        here = engine is not None and engine.host == HOST
        return [entry for entries in self.finished.get(boot, ()) for entry in entries] if here else []

    def duration(self) -> float:
        """How long a task takes."""
        random = self.random
        if random.random() < self._slow_tasks:
            return random.uniform(0.1, 4.0)
        return random.choice((0.0002, 0.001, 0.005, 0.02))

    def note_start(self, start: Start, engine: SimEngine) -> None:
        """User code begins: the ledger."""
        self.trace(engine.name, f"begins {start.task} attempt {start.attempt}")
        starts = self.starts.setdefault(start.task, [])
        starts.append(start)
        asked = self._asked(start.task)
        most = 1 + asked.submission.retries
        assert len(starts) <= most, f"{start.task} started {len(starts)} times, {most} allowed"
        among = asked.submission.among
        assert among is None or engine.core.id in among, f"{start.task} begins on engine {engine.core.id}"
        for id in asked.submission.after:
            assert id in self.ended, f"{start.task} begins though {id} has not ended well"
        if asked.result is not None and asked.result.failure is not None:
            failure = asked.result.failure
            assert failure.started is not False, f"{start.task} starts after {failure}"

    def note_loss(self, message: Any) -> None:
        """A controller tells a client that something is lost."""
        if isinstance(message, m.EngineLeft):
            self.given_up.add(message.boot)
        elif isinstance(message, m.Result) and message.failure and message.failure.kind == "EngineLost":
            self.given_up.add(message.task)
        elif isinstance(message, m.Result) and message.failure and message.failure.kind == "TaskCancelled":
            self.called_off.add(message.task)

    def _asked(self, id: TaskId) -> Asked:
        return next(client for client in self.clients if client.name == id.client).asked[id.number]

    # ------------------------------------------------------------ judgement

    def judge(self, client: SimClient, asked: Asked) -> None:
        """A task was resolved: is it true?"""
        result = asked.result
        assert result is not None
        starts = self.starts.get(asked.id, [])
        failure = result.failure
        if isinstance(asked.submission.work, m.Fetch):
            self._judge_fetched(asked, result, asked.submission.work.task)
            return
        if failure is None:
            assert asked.value is not None
            id, payload, boot, attempt = asked.value.split("|")
            assert id == str(asked.id), f"{asked.id} got the value of {id}"
            assert payload.encode() == bytes(asked.submission.frames[0]), f"{asked.id} got the work of another"
            assert any(s.boot == boot and s.attempt == int(attempt) for s in starts), f"{asked.id} never ran on {boot}"
            if asked.submission.boots is not None and asked.engine is not None and not asked.submission.retries:
                assert boot == asked.submission.boots[self._index(asked)], f"{asked.id} ran on {boot}"
        elif failure.kind in ("EngineLost", "TaskCancelled") and failure.started is False:
            assert not starts, f"{asked.id} had begun: {failure}"
        elif failure.kind in ("EngineLost", "TaskCancelled") and failure.started:
            assert any((s.task, s.attempt) in self.begun.get(s.boot, ()) for s in starts) or any(
                (asked.id, n) in begun for begun in self.begun.values() for n in range(1, result.attempt + 1)
            ), f"{asked.id} had not begun: {failure}"
        elif failure.kind == "DependencyFailed":
            assert not starts, f"{asked.id} had begun: {failure}"
            assert any(self._may_fail(asked.id, id) for id in asked.submission.after), f"{asked.id}: {failure}"
        elif failure.kind in ("NoEngines", "NoSuchEngine"):
            assert not starts or asked.submission.retries, f"{asked.id} had begun: {failure}"
        elif failure.kind == "TaskTimeout":
            assert asked.submission.timeout, f"{asked.id} has no time: {failure}"
            assert starts or failure.started is None, f"{asked.id} has not begun: {failure}"
        else:
            assert failure.kind in ("EngineLost", "TaskInterrupted", "ResultExpired", "TaskCancelled"), failure
        if failure is not None and failure.kind == "TaskCancelled":
            assert asked.cancelled or self._somebody_cleared(), f"{asked.id} was not cancelled"
        output = asked.output.get(result.attempt, [])
        shown = [sequence for sequence, _ in output]
        assert shown == list(range(len(shown))), f"output of {asked.id}: {shown}"
        assert len({boot for _, boot in output}) <= 1, f"output of {asked.id}, attempt {result.attempt}: {output}"
        if len(shown) < result.outputs:
            last = [s.boot for s in starts if s.attempt == result.attempt]
            lost = asked.id in self.given_up or any(boot in self.given_up or self.is_dead(boot) for boot in last)
            assert lost, f"{asked.id} shows {shown} of {result.outputs}"

    def _judge_fetched(self, asked: Asked, result: m.Result, wanted: TaskId) -> None:
        assert asked.id not in self.starts, f"{asked.id} is no work"
        if result.failure is None:
            assert asked.value is not None
            assert asked.value.startswith(f"{wanted}|"), f"{asked.id} got {asked.value} for {wanted}"
            shown = [sequence for sequence, _ in asked.output.get(result.attempt, [])]
            assert shown == list(range(result.outputs)), f"output of {wanted}: {shown} of {result.outputs}"

    def _may_fail(self, task: TaskId, id: TaskId) -> bool:
        """Whether a task cannot run that was to come after another one.

        What another client has collected is not known to the controller any more; and it may call one
        lost (or cancelled, if it was) whose result its client has, and waits only for the output.
        """
        result = self._asked(id).result
        unknown = id.client != task.client or id in self.given_up or id in self.called_off
        return result is None or result.failure is not None or unknown

    def _somebody_cleared(self) -> bool:
        return any(client._request for client in self.clients)

    @staticmethod
    def _index(asked: Asked) -> int:
        return list(asked.submission.numbers).index(asked.id.number)

    def verdict(self) -> None:
        """What must hold when the world is quiet."""
        assert not self.clock.step(float("inf")), "the world is not quiet: something is still planned"
        for client in self.clients:
            if client.alive:
                left = [str(a.id) for a in client.asked.values() if a.result is None]
                assert not left and not client.core.unresolved, f"unresolved: {left}"
                assert not client.questions, f"unanswered: {client.questions}"
        for asked in (asked for client in self.clients for asked in client.asked.values()):
            failure = None if asked.result is None else asked.result.failure
            if failure is not None and failure.started is False:
                assert asked.id not in self.starts, f"{asked.id} had begun: {failure}"
        self._judge_order()
        self._judge_leaks()
        self._judge_roster()
        self._judge_jobs()

    def _judge_order(self) -> None:
        """One client's addressed tasks started in order of submission.

        Except one that an engine gave back because somebody cleared its queue, if the controller was
        killed in that moment: its next life hands the task out again, behind later ones. And except one
        that was handed out before and may be handed out again: while its controller, restarted, does not
        know yet how its engine ended, another engine may have that id.
        """
        last: dict[tuple[str, str], Start] = {}
        for start in sorted((s for starts in self.starts.values() for s in starts), key=lambda s: s.time):
            submission = self._asked(start.task).submission
            if self._asked(start.task).engine is None or submission.after:
                continue
            again = start.attempt > 1 and submission.retries > 0
            if (start.task in self.given_back or again) and self.disk.epoch > 1:
                continue
            key = (start.boot, start.task.client)
            before = last.get(key)
            assert before is None or before.task.number < start.task.number, (
                f"{start.task} began after {before and before.task} on {start.boot}"
            )
            last[key] = start

    def _judge_leaks(self) -> None:
        assert self.controller is not None
        for name, size in self.controller.core.sizes().items():
            if name == "clients":
                assert size == sum(c.alive for c in self.clients), f"controller keeps {size} {name}"
            elif name == "peers":
                engines = sum(engine.alive for engine in self.engines.values())
                expected = 2 * engines + sum(c.alive for c in self.clients) + len(self.agents)
                assert size == expected, f"controller keeps {size} {name}, expected {expected}"
            else:
                assert size == 0, f"controller keeps {size} {name}"
        assert not self.disk.journal, f"journal keeps {self.disk.journal}"
        for engine in self.engines.values():
            if engine.alive:
                for name, size in engine.core.sizes().items():
                    assert size == 0, f"{engine.name} keeps {size} {name}"
        for client in self.clients:
            if client.alive:
                for name, size in client.core.sizes().items():
                    assert size == 0, f"{client.name} keeps {size} {name}"

    def _judge_roster(self) -> None:
        assert self.controller is not None
        alive = {engine.boot: engine for engine in self.engines.values() if engine.alive}
        core = self.controller.core
        known = {record.boot: record for record in core.roster()}
        assert set(known) == set(alive), f"controller knows {sorted(known)}, there are {sorted(alive)}"
        for boot, engine in alive.items():
            assert engine.core.id == known[boot].id, f"{boot} has two ids"
            assert known[boot].state == "ready", f"{boot} is {known[boot].state}"
            pushes = [
                s for starts in self.starts.values() for s in starts if s.boot == boot and isinstance(s.work, m.Push)
            ]
            assert len(pushes) == engine.pushed, f"namespace of {boot}"
        enlisted = [boot for boot in self.disk.enlisted.values() if not is_seat(boot)]
        assert set(enlisted) >= set(alive), "an engine is not enlisted"
        assert len(enlisted) == len(alive), f"enlisted: {self.disk.enlisted}, alive {sorted(alive)}"
        for client in self.clients:
            if client.alive:
                seen = {engine.boot for engine in client.core.engines.values()}
                assert seen == set(alive), f"{client.name} sees {sorted(seen)}, there are {sorted(alive)}"

    def _judge_jobs(self) -> None:
        """Ids of a job follow from its ranks, and nobody else has ids of its block."""
        blocks: set[int] = set()
        for job in self.jobs:
            ids = job.ids()
            bases = {id - rank for rank, id in ids.items()}
            assert len(bases) <= 1, f"ranks and ids: {ids}"
            for base in bases:
                block = set(range(base, base + job.size))
                others = {engine.core.id for engine in self.engines.values() if engine.alive} - set(ids.values())
                assert not block & (others | blocks), f"{block} is not only job {job.name}'s"
                blocks |= block
        seats = {id for id, name in self.disk.enlisted.items() if is_seat(name)}
        assert seats <= blocks, f"seats {seats}, blocks {blocks}"


_SMALL: dict[str, tuple[float, ...]] = {
    "WINDOW": (1, 2, 3, 64),
    "OVERRUN_AFTER": (0.01, 0.5),
    "UNANSWERED": (0.01, 0.3, 3.0),
    "SWEEP": (0.01, 0.3, 2.0),
    "MARGIN": (0.0, 0.5),
    "FUNCTIONS": (1, 2, 512),
    "IDLE": (0, 1, 2, 1024),
    "FORGET_AT": (1, 2, 64),
    "ACKNOWLEDGE_AT": (1, 2, 64),
}
_SMALL_CREDIT: dict[str, tuple[float, ...]] = {"CREDIT": (20, 60, 2**26), "STALL": (0.0, 0.1, 2.0)}


@contextmanager
def _small_constants(constants: dict[str, tuple[float, ...]], random: Random | None) -> Iterator[None]:
    """Limits of the cores so low that they are met."""
    saved: list[tuple[Any, str, float]] = []
    if random is not None:
        for name, values in constants.items():
            value = random.choice(values)
            for module in [sys.modules[key] for key in sorted(sys.modules) if key.startswith("ipkernel_ext.core.")]:
                if name in vars(module):
                    saved.append((module, name, getattr(module, name)))
                    setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, old in saved:
            setattr(module, name, old)
