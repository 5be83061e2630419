"""A simulated engine process around the real core: two threads, user code, a namespace, a ledger."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.core.columns import joined
from ipkernel_ext.core.effects import (
    Begin,
    Claimable,
    Effect,
    LookInside,
    RaiseInterrupt,
    Reconnect,
    Send,
    Stop,
    TellUsage,
)
from ipkernel_ext.core.engine import Channel, Claim, EngineCore
from ipkernel_ext.core.messages import TaskId
from tests.simulation.actor import Actor
from tests.simulation.network import Connection

if TYPE_CHECKING:
    from tests.simulation.agents import SimAgent
    from tests.simulation.world import World

_decode = wire.Decoder(m.ToEngine).decode


class Start(NamedTuple):
    """User code of a task began on an engine."""

    task: TaskId
    attempt: int
    boot: str
    time: float
    work: m.Work


class SimEngine(Actor):
    """One life of an engine."""

    def __init__(self, world: World, record: m.EngineRecord, agent: SimAgent | None) -> None:
        super().__init__(world, f"engine:{record.boot}")
        self.boot = record.boot
        self.host = record.host
        self.agent = agent
        self.core = EngineCore(record)
        self.namespace: dict[str, str] = {}
        self.pushed = 0
        self.control: Connection | None = None
        self.tasks: Connection | None = None
        self._tasks_generation = 0
        self._welcomed = 0
        self._inbox: list[tuple[int, Sequence[Any]]] = []  # of the task connection, unread
        self._claim: Claim | None = None
        self._written = 0
        self._to_write = 0
        self._run = 0
        self._deaf = False  # user code keeps the lock of the interpreter: the control thread stands still
        self._unread: list[tuple[Connection, Sequence[Any]]] = []
        self._stepping = False
        self._tick_at: float | None = None
        self._results: list[wire.Entry] = []  # that wait for others
        self._reconnect()

    def kill(self) -> None:
        """The process is gone, and with it its namespace and its connections."""
        self.alive = False
        self.world.trace(self.name, "is killed")
        for connection in (self.control, self.tasks):
            if connection is not None:
                connection.cut(self.world.random)

    # ------------------------------------------------------------ control thread

    def _reconnect(self) -> None:
        if self.control is not None:
            self.control.given_up = True
            self.control.cut(self.world.random)
        self.control = connection = self.world.connect(self, self._take_control)
        connection.on_broken.append(lambda: self._notice(connection))
        self._results.clear()  # the hello tells of them
        effects = self.core.connect()
        self.world.trace(self.name, f"control connection {connection.name}, generation {self.core.generation}")
        self._do(effects)

    def _reconnect_soon(self, connection: Connection | None) -> None:
        self.later(0.0, lambda: self._reconnect() if connection is self.control else None)

    def _notice(self, connection: Connection) -> None:
        """Its control thread hears of a break, perhaps after its main thread has gone on."""
        late = self.world.random.uniform(0.0, 0.01)
        self.later(self.world.delays.notice(), lambda: self.later(late, lambda: self._lost(connection)))

    def _lost(self, connection: Connection) -> None:
        current = connection is self.tasks and self._tasks_generation == self.core.generation
        if current or connection is self.control:
            self._reconnect()

    def _take_control(self, connection: Connection, parts: Sequence[Any]) -> None:
        if self._deaf or self._unread:
            self._unread.append((connection, parts))
            return
        epoch, entries = _decode(parts)
        for message, frames in entries:
            if connection is not self.control:
                return
            generation = self.core.generation
            self._do(self.core.receive(Channel.CONTROL, generation, epoch, message, frames))
            if isinstance(message, m.WelcomeEngine) and connection is self.control and self.core.id == message.id:
                self._welcomed = generation
                self._wake()

    # ------------------------------------------------------------ main thread

    def _take_tasks(self, connection: Connection, parts: Sequence[Any]) -> None:
        if connection is self.tasks:
            self._inbox.append((self._tasks_generation, parts))
            self._wake()

    def _wake(self) -> None:
        if not self._stepping and self._claim is None:
            self._stepping = True
            self.later(self.world.random.uniform(0.0, 0.0005), self._read)

    def _read(self) -> None:
        """The main thread is free: follow the generation, read what there is."""
        if self._tasks_generation != self._welcomed:
            if self.tasks is not None:
                self.tasks.given_up = True
                self.tasks.cut(self.world.random)
            self._inbox.clear()
            self._results.clear()
            self._tasks_generation = self._welcomed
            self.tasks = connection = self.world.connect(self, self._take_tasks)
            connection.on_broken.append(lambda: self._notice(connection))
            effects = self.core.connect_tasks()
            self.world.trace(self.name, f"task connection {connection.name}, generation {self._tasks_generation}")
            self._do(effects)
        inbox, self._inbox = self._inbox, []
        for generation, parts in inbox:
            epoch, entries = _decode(parts)
            for message, frames in entries:
                self._do(self.core.receive(Channel.TASKS, generation, epoch, message, frames))
        if self.world.random.random() < 0.3:
            self.later(self.world.random.uniform(0.0, 0.002), self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        self._stepping = False
        claim, effects = self.core.claim()
        self._do(effects)
        if claim is None:
            self._send_results()
            if self._inbox or self._tasks_generation != self._welcomed:
                self._wake()
            return
        task = claim.task
        digest = m.function_of(task.work)
        if digest is not None:
            assert claim.function is not None and bytes(claim.function[0]) == digest.encode(), "not this function"
        self._claim = claim
        if task.timeout:
            self.core.begin_item(self.world.clock.now)
            self._set_timer()
        self._run += 1
        self._written = 0
        random = self.world.random
        self._to_write = random.choice((0, 0, 1, 3, 6))
        self._deaf = bool(task.timeout) and random.random() < self.world.share["deaf"]
        if self._deaf:
            self.world.trace(self.name, "answers nobody")
            self._to_write = 0
        self.world.note_start(Start(task.id, task.attempt, self.boot, self.world.clock.now, task.work), self)
        if isinstance(task.work, m.Push):
            self.pushed += 1
            for name in task.work.names:
                self.namespace[name] = str(task.id)
        self._go_on(self._run, random.uniform(0.1, 30.0) if self._deaf else self.world.duration())

    def _go_on(self, run: int, remaining: float) -> None:
        """User code runs, writes something now and then, and ends."""
        if run != self._run or self._claim is None:
            return
        random = self.world.random
        if self._written < self._to_write and random.random() < 0.6:
            count = random.randint(1, self._to_write - self._written)
            self._do(self.core.output(self._write(count)))
        share = remaining * random.random()
        if self._written < self._to_write and random.random() < 0.7:
            self.later(share, lambda: self._go_on(run, remaining - share))
        else:
            self.later(remaining, lambda: self._end(run, None))

    def _tick(self) -> None:
        self._tick_at = None
        if self._deaf:
            return
        self._do(self.core.tick(self.world.clock.now))
        self._set_timer()

    def _set_timer(self) -> None:
        deadline = self.core.next_deadline()
        if deadline is not None and (self._tick_at is None or deadline < self._tick_at):
            self._tick_at = deadline
            self.world.clock.at(deadline, lambda: self.perform(self._tick))

    def _write(self, count: int) -> list[m.Stream]:
        assert self._claim is not None
        task = self._claim.task
        first = self._written
        self._written += count
        return [
            m.Stream(task.id, self.core.id, n, "stdout", f"{self.boot}/{n}", task.attempt)
            for n in range(first, first + count)
        ]

    def _end(self, run: int, failure: m.Failure | None) -> None:
        if run != self._run or self._claim is None:
            return
        outputs = self._write(self._to_write - self._written) if failure is None else []
        claim, self._claim = self._claim, None
        if self._deaf:
            self.later(self.world.random.uniform(0.0, 0.001), self._hear_again)
        task = claim.task
        payload = bytes(claim.frames[0]).decode()
        value = f"{task.id}|{payload}|{self.boot}|{task.attempt}".encode()
        value += b"." * (wire.INLINE if self.world.random.random() < 0.1 else 0)
        self.world.trace(self.name, f"ends {task.id} attempt {task.attempt}")
        if failure is None:
            self.world.ended.add(task.id)
        frames: Sequence[Any] = (value,) if failure is None else ()
        self._do(self.core.finish(outputs, self._written, frames, failure, seconds=0.001))
        self._wake()

    def _do(self, effects: Iterable[Effect]) -> None:
        out: dict[Any, list[wire.Entry]] = {Channel.CONTROL: [], Channel.TASKS: []}
        for effect in effects:
            match effect:
                case Send(channel, message, frames):
                    if isinstance(message, m.GivenBack):
                        self.world.given_back.update(id for id, _ in message.tasks)
                    out[channel].append((message, frames))
                case Begin(task, attempt):
                    self.world.begun.setdefault(self.boot, set()).add((task, attempt))
                case RaiseInterrupt(task, attempt):
                    self._interrupt(task, attempt)
                case TellUsage():
                    out[Channel.CONTROL].append((self.core.measured(0.0, 0.0, 1), ()))
                case LookInside(number, _):
                    out[Channel.CONTROL].append((m.Looked(number, {}), ()))
                case Claimable():
                    self._wake()
                case Reconnect():
                    self._reconnect_soon(self.control)
                case Stop(_):
                    self.later(0.0, lambda: self.world.engine_stops(self))
                case _:
                    raise AssertionError(f"not an effect of an engine: {effect}")
        if out[Channel.CONTROL] and self.control is not None:
            self.control.up.send(wire.encode(self.core.epoch, out[Channel.CONTROL]))
        if out[Channel.TASKS]:
            self._send_or_wait(out[Channel.TASKS])
        self.check()

    def _send_or_wait(self, entries: Sequence[wire.Entry]) -> None:
        """What ends a task may wait for what ends the tasks behind it."""
        is_result = isinstance(entries[-1][0], m.Result)
        if is_result:
            self.world.finished.setdefault(self.boot, deque(maxlen=64)).append(entries)
        if is_result and self.core.busy and not self.core.stopping and self.world.random.random() < 0.7:
            if not self._results:
                self.later(0.002, self._send_results)
            self._results += entries
            return
        self._send_results()
        if self.tasks is not None:
            self.tasks.up.send(wire.encode(self.core.epoch, entries))

    def _send_results(self) -> None:
        entries, self._results = self._results, []
        if entries and self.tasks is not None:
            self.tasks.up.send(wire.encode(self.core.epoch, joined(entries)))

    def _hear_again(self) -> None:
        """The control thread runs again, and reads what has come meanwhile."""
        self._deaf = False
        self._set_timer()
        unread, self._unread = self._unread, []
        for connection, parts in unread:
            self._take_control(connection, parts)

    def _interrupt(self, task: TaskId, attempt: int) -> None:
        if self._claim is None or (self._claim.task.id, self._claim.task.attempt) != (task, attempt):
            return
        if self._claim.task.timeout and self.world.random.random() < 0.5:
            return  # user code that does not obey
        run = self._run
        failure = m.Failure("TaskInterrupted", "KeyboardInterrupt", "interrupted", started=True)
        self.world.trace(self.name, f"is interrupted in {task}")
        self.later(self.world.random.uniform(0.0, 0.01), lambda: self._end(run, failure))

    def check(self) -> None:
        self.core.check()
