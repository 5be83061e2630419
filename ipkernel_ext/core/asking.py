"""Lines that running tasks ask their users for: from the engine to the client, and back.

An engine says what it wants until it is met, a client gives the same line for the same question as
often as it is asked; so either may be said twice, and none is lost with a connection. Where the
client has left, or stays away, the engine is told that nobody is there, and does not wait.
"""

from __future__ import annotations

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.messages import TaskId
from ipkernel_ext.core.outbox import Outbox
from ipkernel_ext.core.roster import Client, Engine, Roster

NOBODY = "its client is not there any more"


class Asking:
    """What is asked, and not yet met."""

    def __init__(self, out: Outbox, roster: Roster) -> None:
        self._out = out
        self._roster = roster
        self._asked: dict[TaskId, tuple[Engine, m.InputWanted]] = {}

    def wanted(self, engine: Engine, wanted: m.InputWanted) -> None:
        """A task on an engine asks for a line."""
        client = self._roster.clients.get(wanted.task.client)
        if client is not None and client.peer is None and (client.kept or client.left):
            self._answer(engine, m.Input(wanted.task, wanted.asked, None, NOBODY))
            return
        self._asked[wanted.task] = engine, wanted
        self._roster.tell_owner(wanted.task.client, wanted)

    def typed(self, client: Client, input: m.Input) -> None:
        """A client answers."""
        asked = self._asked.get(input.task)
        if asked is not None and input.task.client == client.id and asked[1].asked == input.asked:
            del self._asked[input.task]
            self._answer(asked[0], input)

    def client_is_here(self, client: Client) -> None:
        """It has (re)connected."""
        for task, (_, wanted) in self._asked.items():
            if task.client == client.id and client.peer is not None:
                self._out.send(client.peer, wanted)

    def nobody(self, client: Client) -> None:
        """It has left, or stays away."""
        for task, (engine, wanted) in list(self._asked.items()):
            if task.client == client.id:
                del self._asked[task]
                self._answer(engine, m.Input(task, wanted.asked, None, NOBODY))

    def settle(self) -> None:
        """What has ended asks nothing any more."""
        if not self._asked:
            return
        for task, (engine, _) in list(self._asked.items()):
            over = task not in engine.sent and task not in engine.orphans
            if engine.gone or (over and engine.control is not None):
                del self._asked[task]

    def _answer(self, engine: Engine, input: m.Input) -> None:
        if engine.control is not None:
            self._out.send(engine.control, input)

    def check(self) -> None:
        """Assert that only engines that are known ask."""
        for task, (engine, wanted) in self._asked.items():
            assert not engine.gone and wanted.task == task, f"{task} asks on engine {engine.id}"

    def sizes(self) -> dict[str, int]:
        """How much is kept that should not last."""
        return {"asked": len(self._asked)}
