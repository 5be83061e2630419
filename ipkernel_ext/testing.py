"""A cluster in this process, for tests: the real cores, wire format and shells, on memory wires with a manual clock.

Everything happens inside the calls, in the calling thread: when ``submit`` returns, its tasks are
done, however long they took; no time limit interrupts them. Shipped, so that users can test code
that takes a ``RemoteController`` without processes.
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.core.client import ClientCore, Submission
from ipkernel_ext.core.controller import ControllerCore
from ipkernel_ext.core.effects import (
    Answered,
    Begin,
    Deliver,
    Discard,
    Effect,
    LookInside,
    Mailbox,
    Overheard,
    RaiseInterrupt,
    Resolve,
    Send,
    Show,
    TellUsage,
    Typed,
)
from ipkernel_ext.core.engine import Channel, EngineCore
from ipkernel_ext.errors import NotConnected
from ipkernel_ext.execution.debugger import ask_nobody
from ipkernel_ext.execution.interrupt import Interrupter
from ipkernel_ext.execution.looking import Lookout
from ipkernel_ext.execution.output import OutputBuffer
from ipkernel_ext.execution.runner import Runner
from ipkernel_ext.execution.shell import EngineShell
from ipkernel_ext.execution.usage import Usage
from ipkernel_ext.net.client_channel import Failures, Receiver, Roster
from ipkernel_ext.net.store import ResultStore
from ipkernel_ext.remote import RemoteController

_HOST = "memory"


class InProcessCluster:
    """A controller and engines in this process.

    Parameters
    ----------
    n : int
        Engines.

    Attributes
    ----------
    typist
        Gives a line for each prompt of the debugger; None: nobody types.
    """

    typist: Callable[[str], str] | None = None

    def __init__(self, n: int = 4) -> None:
        self.now = 0.0
        self._begun: dict[str, set[tuple[m.TaskId, int]]] = {}
        self.controller = ControllerCore(1, pid=os.getpid(), host=_HOST, now=self.now, begun=self._begun.get)
        self._store = ResultStore(None, 2**30, 86400.0)
        self._decode = wire.Decoder(m.FromPeer).decode
        self._wires: deque[tuple[Any, list[wire.Frame]]] = deque()  # what is under way to the controller
        self._engines: dict[str, _Engine] = {}
        self._clients: dict[str, MemoryChannel] = {}
        self._boots = itertools.count(1)
        for _ in range(n):
            self.add_engine()

    def add_engine(self) -> None:
        """One more engine joins."""
        boot = f"boot{next(self._boots)}"
        self._begun[boot] = set()
        engine = self._engines[boot] = _Engine(self, boot, self._begun[boot])
        engine.say_hello()
        self.pump()

    def kill_engine(self, id: int) -> None:
        """An engine's process ends."""
        boot = next(boot for boot, engine in self._engines.items() if engine.core.id == id)
        del self._engines[boot]
        self._do(self.controller.process_ended(boot, self.now))
        self.pump()

    def client(self) -> RemoteController:
        """A client of this cluster."""
        channel = MemoryChannel(self, f"client{len(self._clients) + 1}")
        self._clients[channel.client] = channel
        channel.do(channel.core.connect())
        self.pump()
        return RemoteController(channel=channel)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        for channel in self._clients.values():
            channel.do(channel.core.tick(self.now))
        self._do(self.controller.tick(self.now))
        self.pump()

    def send(self, peer: Any, entries: Sequence[wire.Entry]) -> None:
        """Something leaves for the controller."""
        self._wires.append((peer, [bytes(part) for part in wire.encode(self.controller.epoch, entries)]))

    def pump(self) -> None:
        """Let everything that is under way arrive, and run what can run."""
        busy = True
        while busy:
            while self._wires:
                peer, parts = self._wires.popleft()
                for message, frames in self._decode(parts)[1]:
                    self._do(self.controller.receive(peer, message, frames, self.now))
            busy = any([engine.run_one() for engine in list(self._engines.values())]) or bool(self._wires)
            due = self.controller.next_deadline()
            if not busy and due is not None and due <= self.now:
                self._do(self.controller.tick(self.now))
                busy = True

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(Mailbox(), message, frames):
                    self._store.take(message, frames)
                case Send(peer, message, frames):
                    self._deliver(peer, message, frames)
                case Deliver(peer, task, alias):
                    for message, frames in self._store.get(task, alias):
                        self._deliver(peer, message, frames)
                case Discard(client, number):
                    self._store.discard(client, number)
        settled, _ = self._store.settle()
        for task, error, stored in settled:
            self._do(self.controller.kept(task, error, stored, self.now))

    def _deliver(self, peer: Any, message: Any, frames: Sequence[wire.Frame]) -> None:
        kind, name, *channel = peer
        parts = [bytes(part) for part in wire.encode(self.controller.epoch, [(message, frames)])]
        if kind == "client" and name in self._clients:
            self._clients[name].take(parts)
        elif kind == "engine" and name in self._engines:
            self._engines[name].take(channel[0], parts)


class _NoInterrupter(Interrupter):
    """Ctrl-C is meant for whatever runs the tests."""

    def install(self) -> None:
        """Leave it alone."""


class _Engine:
    """One engine of the cluster."""

    _decode = staticmethod(wire.Decoder(m.ToEngine).decode)

    def __init__(self, cluster: InProcessCluster, boot: str, begun: set[tuple[m.TaskId, int]]) -> None:
        self._cluster = cluster
        self._begun = begun
        record = m.EngineRecord(boot, _HOST, os.getpid(), "")
        self.core = EngineCore(record)
        self._output = OutputBuffer()
        self._output.engine_id = lambda: self.core.id
        self._usage = Usage()
        self._shell = EngineShell(self._output)
        self._lookout = Lookout(self._shell)
        self._runner = Runner(self._shell, self._output, _NoInterrupter())
        self._runner.ask = self._ask

    def _ask(self, prompt: str, timeout: float) -> Typed | None:
        typist = self._cluster.typist
        return ask_nobody(prompt, timeout) if typist is None else Typed(typist(prompt), "")

    def say_hello(self) -> None:
        """Its control connection begins."""
        self._do(self.core.connect())

    def take(self, channel: Channel, parts: list[wire.Frame]) -> None:
        """A batch arrived."""
        epoch, entries = self._decode(parts)
        for message, frames in entries:
            self._do(self.core.receive(channel, self.core.generation, epoch, message, frames))
            if isinstance(message, m.WelcomeEngine):
                self._do(self.core.connect_tasks())

    def run_one(self) -> bool:
        """Run the next task. False if there is none."""
        claim, effects = self.core.claim()
        self._do(effects)
        if claim is None:
            return False
        task = claim.task
        self._output.begin(task.id, task.attempt)
        with self._shell.being_global():
            name = (task.id, task.attempt)
            outcome = self._runner.run(task.work, claim.frames, claim.function, name, None, task.max_result)
        pieces, count = self._output.end()
        self._do(self.core.output(self._output.take()))
        self._do(
            self.core.finish(
                pieces,
                count,
                outcome.frames,
                outcome.failure,
                outcome.execution,
                outcome.has_value,
                outcome.seconds,
                outcome.unseeded,
                outcome.cpu,
            )
        )
        return True

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(channel, message, frames):
                    self._cluster.send(("engine", self.core.record.boot, channel), [(message, frames)])
                case Begin(task, attempt):
                    self._begun.add((task, attempt))
                case TellUsage():
                    measured = self.core.measured(0.0, self._usage.cpu(), self._usage.rss())
                    self._cluster.send(("engine", self.core.record.boot, Channel.CONTROL), [(measured, ())])
                case LookInside(number, inspection):
                    looked = m.Looked(number, self._lookout.tell(inspection))
                    self._cluster.send(("engine", self.core.record.boot, Channel.CONTROL), [(looked, ())])
                case RaiseInterrupt():
                    raise AssertionError("nothing runs between calls")


class MemoryChannel(Failures):
    """A client's connection to an ``InProcessCluster``."""

    ended: str | None = None
    forked = False
    turning = False

    def __init__(self, cluster: InProcessCluster, client: str) -> None:
        self.client = client
        self.core = ClientCore(client, python="", host=_HOST, pid=os.getpid())
        self._cluster = cluster
        self._decode = wire.Decoder(m.ToClient).decode
        self.on_stray: Callable[[m.Stream | m.Display], None] = lambda output: None
        self.on_followed: Callable[[m.Followed], None] = lambda event: None
        self.advised: set[str] = set()
        self.on_module: Callable[[str], tuple[str | None, str]] = lambda name: (None, "")
        self.asking: weakref.WeakSet[Any] = weakref.WeakSet()
        self._numbers = 0
        self._requests = itertools.count(1)
        self._receivers: dict[int, Receiver] = {}
        self._answers: dict[int, Future[dict[str, Any]]] = {}

    @property
    def roster(self) -> Roster:
        """Who is there."""
        core = self.core
        return Roster(core.connected, dict(core.engines), dict(core.lost), core.trouble, self.ended, address="memory")

    def next_numbers(self, count: int) -> range:
        """Task numbers nobody else has."""
        first, self._numbers = self._numbers, self._numbers + count
        return range(first, first + count)

    def share(self, frames: Sequence[wire.Frame]) -> Sequence[wire.Frame]:
        """Nothing is shared: a wire has its own copy."""
        return frames

    def submit(self, submission: Submission, receiver: Receiver) -> None:
        """Run tasks; their results are there when this returns."""
        self._check()
        for number in submission.numbers:
            self._receivers[number] = receiver
        self._perform(self.core.submit(submission))

    def attend(self, enough: Callable[[], bool], timeout: float) -> bool:
        """Nothing changes by waiting here."""
        return False

    def receiver(self, number: int) -> Receiver | None:
        """Who gets the result of a task that has not ended."""
        return self._receivers.get(number)

    def cancel(self, numbers: Sequence[int]) -> None:
        """Take queued tasks away."""
        self._perform(self.core.cancel(numbers))

    def give(self, number: int, asked: int, text: str | None, why: str) -> None:
        """A line for a task; the debugger asks ``InProcessCluster.typist`` here."""

    def tell(self, message: m.Interrupt | m.ShutDown) -> None:
        """Something without an answer."""
        self._check()
        self._perform(self.core.tell(message))

    def ask(self, make: Callable[[int], m.Question]) -> Future[dict[str, Any]]:
        """A question, made from its request number."""
        self._check()
        request = next(self._requests)
        future = self._answers[request] = Future()
        self._perform(self.core.ask(make(request)))
        return future

    def wait_roster(self, enough: Callable[[Roster], bool], timeout: float | None) -> bool:
        """Whether the roster is so; nothing changes by waiting here."""
        return enough(self.roster)

    def call_back(self, callback: Callable[[Any], object], future: Any) -> None:
        """Call a user's callback: results arrive inside the calls, and so do they."""
        callback(future)

    def give_up(self, reason: str) -> None:
        """Nothing more will come."""
        self.ended = f"the cluster has ended: {reason}"
        self.do(self.core.end(self.ended))

    def close(self) -> None:
        """Leave."""
        if self.ended is None:
            self._perform(self.core.leave())
            self.ended = "this RemoteController is closed; make a new one"

    def take(self, parts: list[wire.Frame]) -> None:
        """A batch arrived."""
        epoch, entries = self._decode(parts)
        for message, frames in entries:
            if isinstance(message, m.ClusterEnds):
                self.ended = f"the cluster has ended: {message.reason}"
            self.do(self.core.receive(epoch, message, frames, self._cluster.now))

    def _check(self) -> None:
        if self.ended is not None:
            raise NotConnected(self.ended)

    def _perform(self, effects: Iterable[Effect]) -> None:
        self.do(effects)
        self._cluster.pump()

    def do(self, effects: Iterable[Effect]) -> None:
        """Do a client core's effects."""
        for effect in effects:
            match effect:
                case Send(_, message, frames):
                    self._cluster.send(("client", self.client), [(message, frames)])
                case Resolve(result, frames):
                    self._receivers.pop(result.task.number).on_result(result, frames)
                case Show(message) if message.task is not None and message.task.number in self._receivers:
                    self._receivers[message.task.number].on_output(message)
                case Show(message):
                    self.on_stray(message)
                case Overheard(event):
                    self.on_followed(event)
                case Answered(request, body, error):
                    future = self._answers.pop(request)
                    if error is None:
                        future.set_result(body or {})
                    else:
                        future.set_exception(error)
