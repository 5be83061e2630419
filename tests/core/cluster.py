"""A controller core with hand-driven peers, for tests by example: no sockets, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.controller import ControllerCore
from ipkernel_ext.core.effects import Deliver, Discard, Effect, Enlist, Expire, Journal, Mailbox, Send
from ipkernel_ext.core.messages import Hint, TaskId
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.net.store import ResultStore

CODE = m.Execute("1")
NOTHING = m.Inventory()


class Controller:
    """A core, its disk, and what it sent last."""

    def __init__(self, before: Controller | None = None, **options: Any) -> None:
        self.journal: dict[TaskId, Hint] = before.journal if before else {}
        self.enlisted: dict[int, str] = before.enlisted if before else {}
        self.expired: dict[str, int] = before.expired if before else {}
        self.begun: dict[str, set[tuple[TaskId, int]]] = before.begun if before else {}
        self.store = before.store if before else ResultStore(None, 2**20, 1e9)
        self.now: float = before.now if before else 0.0
        self.sent: list[tuple[Any, Any]] = []  # (peer, message) of the last stimulus
        self.effects: list[Effect] = []
        self.core = ControllerCore(
            1,
            pid=1,
            host="here",
            now=self.now,
            begun=self.begun.get,
            journal=dict(self.journal),
            enlisted=dict(self.enlisted),
            expired=dict(self.expired),
            kept=self.store.tasks(),
            **options,
        )

    def take(self, effects: list[Effect]) -> None:
        """Do what the core asks for."""
        self.effects = effects
        self.sent = [(effect.peer, effect.message) for effect in effects if isinstance(effect, Send)]
        for effect in effects:
            match effect:
                case Journal(task, None):
                    self.journal.pop(task, None)
                case Journal(task, hint) if hint is not None:
                    self.journal[task] = hint
                case Expire(client, None):
                    self.expired.pop(client, None)
                case Expire(client, number) if number is not None:
                    self.expired[client] = number
                case Enlist(engine, None):
                    self.enlisted.pop(engine, None)
                case Enlist(engine, boot) if boot is not None:
                    self.enlisted[engine] = boot
                case Send(Mailbox(), message, frames):
                    self.store.take(message, frames)
                case Discard(client, number):
                    self.store.discard(client, number)
                case Deliver(peer, task, alias):
                    self.sent.extend((peer, message) for message, _ in self.store.get(task, alias))
                case _:
                    pass
        self.core.check()

    def settle(self) -> None:
        """The store writes what is complete."""
        for task, error, stored in self.store.settle()[0]:
            sent = self.sent
            self.take(self.core.kept(task, error, stored, self.now))
            self.sent = sent + self.sent

    def receive(self, peer: str, message: Any, frames: Sequence[Frame] = ()) -> None:
        """A message arrives."""
        self.take(self.core.receive(peer, message, frames, self.now))

    def left(self, peer: str) -> None:
        """A connection is gone."""
        self.take(self.core.left(peer, self.now))

    def ended(self, boot: str) -> None:
        """The kernel saw a process end."""
        self.take(self.core.process_ended(boot, self.now))

    def wait(self, seconds: float) -> None:
        """Time passes, with all ticks in between; ``sent`` is of all of them."""
        until = self.now + seconds
        sent: list[tuple[Any, Any]] = []
        while (deadline := self.core.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.take(self.core.tick(self.now))
            sent += self.sent
        self.now = until
        self.sent = sent

    def to(self, peer: str, kind: type | None = None) -> list[Any]:
        """What was sent to this peer at the last stimulus."""
        return [message for to, message in self.sent if to == peer and (kind is None or isinstance(message, kind))]

    # ------------------------------------------------------------ peers

    def client(self, name: str = "ann", unresolved: Sequence[int] = (), generation: int = 0) -> None:
        """A client says hello; its connection has its name."""
        hello = m.HelloClient(name, m.PROTOCOL, "3", "here", 1, list(unresolved), generation)
        self.receive(name, hello)

    def engine(
        self,
        boot: str = "b0",
        inventory: m.Inventory = NOTHING,
        generation: int = 1,
        tasks: bool = True,
        **record: Any,
    ) -> None:
        """An engine says hello; its connections are ``boot`` and ``boot/tasks``."""
        fields = {"host": "here", "pid": 1, "python": "3", **record}
        self.receive(boot, m.HelloEngine(m.PROTOCOL, m.EngineRecord(boot, **fields), generation, inventory))
        sent = self.sent
        if tasks:
            self.receive(f"{boot}/tasks", m.HelloTasks(boot, generation))
            self.sent = sent + self.sent

    def agent(self, name: str = "agent", expected: int = 1, **fields: Any) -> None:
        """An agent says hello; its connection has its name."""
        self.receive(name, m.HelloAgent(m.PROTOCOL, name, "here", 1, expected, **fields))

    def submit(self, *numbers: int, peer: str = "ann", work: m.Work = CODE, **fields: Any) -> None:
        """Tasks; balanced ones are submitted one by one."""
        self.receive(peer, m.Submit(list(numbers), work, **fields))

    def tasks(self, boot: str = "b0") -> list[tuple[int, int]]:
        """(number, attempt) of the tasks handed to an engine at the last stimulus."""
        return [(task.id.number, task.attempt) for task in self.to(f"{boot}/tasks", m.Task)]

    def result(self, number: int, attempt: int = 1, boot: str = "b0", client: str = "ann", **fields: Any) -> None:
        """An engine ended a task."""
        self.receive(f"{boot}/tasks", m.Result(TaskId(client, number), attempt, 0, **fields), (b"value",))

    def results(self, peer: str = "ann") -> dict[int, m.Failure | None]:
        """What a client was told of its tasks at the last stimulus."""
        return {result.task.number: result.failure for result in self.to(peer, m.Result)}

    def failure(self, number: int, peer: str = "ann") -> m.Failure:
        """How a task failed, by the last stimulus."""
        failure = self.results(peer)[number]
        assert failure is not None
        return failure


def ann(number: int) -> TaskId:
    """A task of the usual client."""
    return TaskId("ann", number)
