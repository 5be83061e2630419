"""A simulated client around the real core, which remembers what it asked for and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.core.client import ClientCore, Submission
from ipkernel_ext.core.effects import Answered, Effect, Reconnect, Resolve, RosterChanged, Send, Show
from ipkernel_ext.core.messages import TaskId
from tests.simulation.actor import Actor
from tests.simulation.network import Connection

if TYPE_CHECKING:
    from tests.simulation.world import World

_decode = wire.Decoder(m.ToClient).decode


class Asked:
    """One task, as its client sees it."""

    def __init__(self, id: TaskId, submission: Submission, index: int) -> None:
        self.id = id
        self.submission = submission
        self.engine = None if submission.engines is None else submission.engines[index]
        self.result: m.Result | None = None
        self.value: str | None = None
        self.output: dict[int, list[tuple[int, str]]] = {}  # shown (sequence, boot), by attempt
        self.cancelled = False

    @property
    def is_fetch(self) -> bool:
        """Whether it is no task, but asks for the result of one."""
        return isinstance(self.submission.work, m.Fetch)


class SimClient(Actor):
    """A client and the program that uses it."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.core = ClientCore(name, python="3", host="host0", pid=1)
        self.asked: dict[int, Asked] = {}
        self.questions: dict[int, Any] = {}
        self.connection: Connection | None = None
        self._next = 0
        self._request = 0
        self._tick_at: float | None = None
        self._reconnect()

    # ------------------------------------------------------------ what its program does

    def submit_random(self) -> None:
        """Something: addressed to one or many, or balanced."""
        random = self.world.random
        if self.world.curious is not None and self.world.curious.random() < 0.15:
            self._fetch_random(self.world.curious)
        engines = sorted(self.core.engines)
        kind = random.random()
        work = self._random_work()
        if kind < 0.35 and engines:
            chosen = [random.choice(engines)]
        elif kind < 0.5 and engines:
            chosen = random.sample(engines, random.randint(1, len(engines)))
        else:
            together: list[Submission] | None = [] if Random(f"{self.name} {self._next}").random() < 0.5 else None
            for _ in range(random.choice((1, 1, 3, 8))):
                kept = bool(engines) and random.random() < self.world.share["among"]
                among = random.sample(engines, random.randint(1, len(engines))) if kept else None
                work = self._random_work(balanced=True)
                self._submit(1, work, None, random.choice((0, 0, 1, 2, 3)), among=among, together=together)
            if together is not None:
                self._do(self.core.submit(*together))
            return
        with_boots = random.random() < 0.8
        boots = [self.core.engines[id].boot for id in chosen] if with_boots else None
        self._submit(len(chosen), work, chosen, random.choice((0, 0, 2)), boots)

    def _fetch_random(self, random: Random) -> None:
        """The result of somebody's task, by its id."""
        tasks = [a.id for c in self.world.clients if c is not self for a in c.asked.values() if not a.is_fetch]
        if not tasks:
            return
        number = self._next
        self._next += 1
        submission = Submission([number], m.Fetch(random.choice(tasks[-20:])), ())
        self.asked[number] = Asked(TaskId(self.name, number), submission, 0)
        self.world.trace(self.name, f"wants {submission.work} as {number}")
        self._do(self.core.submit(submission))

    def cancel_random(self) -> None:
        """Some of what is not resolved."""
        open = [n for n, asked in self.asked.items() if asked.result is None]
        if open:
            chosen = self.world.random.sample(open, self.world.random.randint(1, min(4, len(open))))
            for number in chosen:
                self.asked[number].cancelled = True
            self.world.trace(self.name, f"cancels {chosen}")
            self._do(self.core.cancel(chosen))

    def interrupt_random(self) -> None:
        """Whatever some engine runs."""
        if self.core.engines and self.core.connected:
            self._do(self.core.tell(m.Interrupt([self.world.random.choice(sorted(self.core.engines))])))

    def clear_random(self) -> None:
        """The queue of all or of one engine."""
        engines = sorted(self.core.engines)
        all = self.world.random.random() < 0.5 or not engines
        self._ask(m.ClearQueue(self._new_request(), None if all else [self.world.random.choice(engines)]))

    def ask_random(self) -> None:
        """How things are."""
        chance = Random(f"{self.name} asks {self._request}")
        if chance.random() < 0.2:
            self._ask(m.Recent(self._new_request(), chance.randrange(9)))
        elif chance.random() < 0.5:
            self._ask(m.Ask(self._new_request(), chance.choice(("status", "queue_status"))))
        elif chance.random() < 0.5:
            self._ask(m.Ask(self._new_request(), "engines", chance.choice((0.0, 0.5, 3.0))))
        else:
            engine = chance.randrange(4) if chance.random() < 0.4 else None
            latest = [asked.id for client in self.world.clients for asked in list(client.asked.values())[-6:]]
            tasks = chance.sample(latest, min(len(latest), 2)) if engine is None and chance.random() < 0.6 else None
            self._ask(m.Why(self._new_request(), engine, tasks))

    def restart_random(self) -> None:
        """End an engine, perhaps with a successor."""
        engines = sorted(self.core.engines)
        if engines:
            restart = self.world.random.random() < 0.7
            self._ask(m.EndEngines(self._new_request(), [self.world.random.choice(engines)], restart))

    def leave(self) -> None:
        """Say goodbye."""
        self.world.trace(self.name, "leaves")
        self._do(self.core.leave())
        self.alive = False
        assert self.connection is not None
        self.connection.cut(self.world.random, keep=self.world.random.random() < 0.8)

    def kill(self) -> None:
        """The process is gone."""
        self.world.trace(self.name, "is killed")
        self.alive = False
        if self.connection is not None:
            self.connection.cut(self.world.random)

    def _random_tasks(self) -> list[TaskId]:
        """Tasks to come after: a few of the latest of its own, or another client's."""
        random = self.world.random
        if random.random() >= self.world.share["after"]:
            return []
        owner = random.choice(self.world.clients) if random.random() < 0.3 else self
        latest = [asked for asked in owner.asked.values() if not asked.is_fetch][-6:]
        return [asked.id for asked in random.sample(latest, min(len(latest), random.randint(1, 3)))]

    def _random_work(self, balanced: bool = False) -> m.Work:
        random = self.world.random
        if random.random() < 0.5:
            digest = f"function{random.randrange(6)}"
            return m.Apply(digest) if random.random() < 0.5 else m.Map(digest, 0)
        if balanced or random.random() < 0.5:
            return m.Execute("code")
        return m.Push([f"name{random.randrange(4)}"])

    def _submit(
        self,
        count: int,
        work: m.Work,
        engines: list[int] | None,
        retries: int,
        boots: list[str] | None = None,
        among: list[int] | None = None,
        together: list[Submission] | None = None,
    ) -> None:
        """Tasks, sent at once; or put to those that are sent together."""
        numbers = range(self._next, self._next + count)
        self._next += count
        digest = m.function_of(work)
        function = None if digest is None else (digest.encode(),)
        payload = f"payload{numbers[0]}".encode()
        after = self._random_tasks()
        random = self.world.random
        timeout = random.choice((0.001, 0.3)) if random.random() < self.world.share["timeout"] else 0.0
        submission = Submission(
            numbers, work, (payload,), engines, boots, retries, function, among, after, timeout=timeout
        )
        for index, number in enumerate(numbers):
            self.asked[number] = Asked(TaskId(self.name, number), submission, index)
        where = f"to {engines} among {among} after {[str(id) for id in after]}"
        self.world.trace(self.name, f"submits {list(numbers)} {where} retries {retries} {work}")
        if together is None:
            self._do(self.core.submit(submission))
        else:
            together.append(submission)

    def _new_request(self) -> int:
        self._request += 1
        return self._request

    def _ask(self, question: Any) -> None:
        self.questions[question.request] = None
        self.world.trace(self.name, f"asks {question}")
        self._do(self.core.ask(question))

    # ------------------------------------------------------------ its I/O thread

    def _reconnect(self) -> None:
        if self.connection is not None:
            self.connection.given_up = True
            self.connection.cut(self.world.random)
        self.connection = connection = self.world.connect(self, self._take)
        connection.on_broken.append(lambda: self.later(self.world.delays.notice(), lambda: self._lost(connection)))
        self.world.trace(self.name, f"connection {connection.name}")
        self._do(self.core.connect())

    def _reconnect_soon(self, connection: Connection | None) -> None:
        self.later(0.0, lambda: self._reconnect() if connection is self.connection else None)

    def _lost(self, connection: Connection) -> None:
        if connection is self.connection:
            self._do(self.core.disconnected())
            self._reconnect()

    def _take(self, connection: Connection, parts: Sequence[Any]) -> None:
        epoch, entries = _decode(parts)
        for message, frames in entries:
            if connection is not self.connection:
                return
            self._do(self.core.receive(epoch, message, frames, self.world.clock.now))

    def _tick(self) -> None:
        self._tick_at = None
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= self.world.clock.now:
            self._do(self.core.tick(self.world.clock.now))
            again = self.core.next_deadline()
            assert again is None or again > self.world.clock.now, "a client's deadline stays in the past"
        self._set_timer()

    def _set_timer(self) -> None:
        deadline = self.core.next_deadline()
        if deadline is not None and (self._tick_at is None or deadline < self._tick_at):
            self._tick_at = deadline
            self.world.clock.at(deadline, lambda: self.perform(self._tick))

    def _do(self, effects: Iterable[Effect]) -> None:
        out: list[wire.Entry] = []
        for effect in effects:
            match effect:
                case Send(_, message, frames):
                    out.append((message, frames))
                case Resolve(result, frames):
                    self._resolve(result, frames)
                case Show(message):
                    self._show(message)
                case Answered(request, _, _):
                    assert self.questions.pop(request, "again") != "again", f"{request} is answered twice"
                case RosterChanged():
                    pass
                case Reconnect():
                    self._reconnect_soon(self.connection)
                case _:
                    raise AssertionError(f"not an effect of a client: {effect}")
        if out and self.connection is not None:
            self.connection.up.send(wire.encode(self.core.epoch, out))
        self.check()
        self._set_timer()

    def _show(self, output: m.Stream | m.Display) -> None:
        if output.task is not None:
            asked = self.asked[output.task.number]
            assert asked.result is None, f"output of {asked.id} after its result"
            if output.sequence == 0:
                asked.output[output.attempt] = []
            assert isinstance(output, m.Stream)
            asked.output[output.attempt].append((output.sequence, output.text.split("/")[0]))

    def _resolve(self, result: m.Result, frames: Sequence[Any]) -> None:
        asked = self.asked[result.task.number]
        assert asked.result is None, f"{asked.id} is resolved twice"
        asked.result = result
        self.world.trace(self.name, f"has {result.task} attempt {result.attempt} {result.failure}")
        if result.failure is None:
            asked.value = bytes(frames[0]).rstrip(b".").decode()
        self.world.judge(self, asked)

    def check(self) -> None:
        self.core.check()
