"""Results of clients that are not here, kept in the controller's store, for them and for whoever asks by id.

The store is the shell's. To the core it is a peer, the *mailbox* of a client: it is told what the
client would be told, and says when all that belongs to a result is on disk (``kept``). From then on
neither an engine nor the ledger knows the task. What another client wants of a client that is here
goes into the mailbox too, so whoever asks is served in one way.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipkernel_ext.core import failures
from ipkernel_ext.core.dispatch import Dispatch
from ipkernel_ext.core.effects import Deliver, Discard, Journal
from ipkernel_ext.core.ledger import Ledger
from ipkernel_ext.core.messages import Failure, TaskId
from ipkernel_ext.core.outbox import Outbox
from ipkernel_ext.core.recovery import Recovery
from ipkernel_ext.core.roster import Client, Engine, Roster

KEEP_AFTER = 10.0  # seconds for which a client may be away before its results go into the store

LOOKS = 2
"""How often all connections are read before a result is said to be unknown: the first time may have begun already."""


class Keeping:
    """What is in the store, and who waits for it."""

    def __init__(self, out: Outbox, roster: Roster, ledger: Ledger, dispatch: Dispatch, recovery: Recovery) -> None:
        self._out = out
        self._roster = roster
        self._ledger = ledger
        self._dispatch = dispatch
        self._recovery = recovery
        self._asked: dict[TaskId, Engine] = {}  # who was asked to send again what is wanted
        self.due: float | None = None  # when it is to be looked again for what is not known
        self._looks = 0  # until those who want it are told that it is not here
        for client, numbers in ledger.kept.items():
            for number in numbers:
                out.add(Journal(TaskId(client, number), None))

    # ------------------------------------------------------------ clients

    def begin(self, client: Client, now: float) -> None:
        """The client is not here: from now on the store hears what it would hear, and what it may have missed."""
        client.kept = True
        for task in list(client.tasks.values()):
            self._dispatch.repeat(task, now)
        self._dispatch.retry_blocked(now)

    def end(self, client: Client) -> None:
        """The client is here again, and wants what it calls unresolved."""
        if client.kept:
            client.kept = False
            self._out.add(Discard(client.id, None))
        for number in [n for n in self._ledger.kept.get(client.id, ()) if n not in client.expected]:
            self.acknowledge(client, [number])

    def replay(self, client: Client, number: int) -> bool:
        """Whether the result of a task that its client sends again is in the store; if so, it is on its way."""
        if number not in self._ledger.kept.get(client.id, ()):
            return False
        id = TaskId(client.id, number)
        assert client.peer is not None
        self._out.add(Deliver(client.peer, id, id))
        return True

    def acknowledge(self, client: Client, numbers: Iterable[int]) -> None:
        """The client has these results."""
        kept = self._ledger.kept.get(client.id)
        if kept is None:
            return
        for number in numbers:
            if kept.pop(number, None) is not None:
                self._out.add(Discard(client.id, number))
        if not kept:
            del self._ledger.kept[client.id]

    # ------------------------------------------------------------ what others want

    def fetch(self, client: Client, number: int, wanted: TaskId, now: float) -> None:
        """A client wants the result of any task, as that of its own task of this number."""
        alias = TaskId(client.id, number)
        if wanted.number in self._ledger.kept.get(wanted.client, ()):
            assert client.peer is not None
            self._out.add(Deliver(client.peer, wanted, alias))
            return
        task = self._ledger.tasks.get(wanted)
        engine = None if task is not None else self._recovery.holder(wanted)
        if task is None and engine is None and wanted == alias:
            self._tell(alias, failures.unknown_result(wanted))
            return
        self._roster.wanted.setdefault(wanted, {})[alias] = None
        if task is None and engine is None:
            self.due, self._looks = now, LOOKS
        if task is not None:
            if task.holder is not None:
                self._asked[wanted] = task.holder
            self._dispatch.repeat(task, now)
        elif engine is not None:
            self._dispatch.send_again(engine, [wanted])

    def cancel(self, client: Client, numbers: Iterable[int]) -> None:
        """The client does not wait for these any more."""
        for number in numbers:
            alias = TaskId(client.id, number)
            for wanted, aliases in list(self._roster.wanted.items()):
                if alias in aliases:
                    self._leave(wanted, alias)
                    self._tell(alias, failures.cancelled(False))

    def left(self, client: Client) -> None:
        """The client is not here; if it comes again, it asks again."""
        for wanted, aliases in list(self._roster.wanted.items()):
            for alias in [alias for alias in aliases if alias.client == client.id]:
                self._leave(wanted, alias)

    def _leave(self, wanted: TaskId, alias: TaskId) -> None:
        aliases = self._roster.wanted[wanted]
        del aliases[alias]
        if not aliases:
            del self._roster.wanted[wanted]
            self._asked.pop(wanted, None)

    def engine_is_here(self, boot: str) -> None:
        """Nothing that it was asked for before is under way any more; what it still has, it has said."""
        for wanted in [id for id, engine in self._asked.items() if engine.boot == boot]:
            del self._asked[wanted]
        self.settle()

    def tick(self, now: float) -> None:
        """What a client had sent may be unread yet when another one, whom it has told of it, is read already."""
        if self.due is not None and now >= self.due:
            self._looks -= 1
            self.due = now if self._looks else None
        self.settle()

    def settle(self) -> None:
        """Those who wait for what nobody has any more are told so."""
        if self._roster.recovery_until or self._looks or not self._roster.wanted:
            return
        for wanted in [id for id in self._roster.wanted if id not in self._ledger.tasks]:
            asked = self._asked.get(wanted)
            if self._recovery.holder(wanted) is None and (asked is None or asked.gone):
                self._asked.pop(wanted, None)
                for alias in self._roster.wanted.pop(wanted):
                    self._tell(alias, failures.unknown_result(wanted))

    def _tell(self, alias: TaskId, failure: Failure) -> None:
        self._roster.tell_owner(alias.client, failures.result(alias, failure))

    # ------------------------------------------------------------ the store

    def kept(self, id: TaskId, error: str, stored: bool, now: float) -> None:
        """The store has all that belongs to this result: on disk, or only at hand for who wants it now."""
        if stored:
            self._ledger.kept.setdefault(id.client, {})[id.number] = error
            client = self._roster.clients.get(id.client)
            if client is not None and client.peer is None:
                self._ledger.acknowledge(client, [id.number], now)
            self._recovery.forget(id, now)
        self._asked.pop(id, None)
        for alias in self._roster.wanted.pop(id, ()):
            asked = self._roster.clients.get(alias.client)
            if asked is not None and asked.peer is not None:
                self._out.add(Deliver(asked.peer, id, alias))

    def dropped(self, ids: Iterable[TaskId]) -> None:
        """The store had to make room. A client that comes again is not to run these a second time."""
        for id in ids:
            numbers = self._ledger.kept.get(id.client, {})
            if numbers.pop(id.number, None) is not None:
                self._recovery.expired(id.client, id.number)
            if not numbers:
                self._ledger.kept.pop(id.client, None)

    def sizes(self) -> dict[str, int]:
        """How much is kept that should not last."""
        return {"results wanted": len(self._roster.wanted), "results asked for": len(self._asked)}
