"""Clients that follow what the others run and print.

What happens is told to them in words, as it comes, and the latest of it is kept while anybody follows,
so that a follower who was away is told what it has missed. Results travel to their owners only. There
is a limit to how much is told in a second; what is more is counted.
"""

from __future__ import annotations

from collections import deque

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.outbox import Outbox
from ipkernel_ext.core.roster import Client, Roster
from ipkernel_ext.core.status import label

KEPT = 1000  # events that are kept for those who come back
LONGEST = 4000  # characters of one
RATE = 200  # events that are told in a second


class Following:
    """Who follows, and what was told."""

    def __init__(self, out: Outbox, roster: Roster) -> None:
        self._out = out
        self._roster = roster
        self._followers: set[str] = set()  # clients
        self._events: deque[m.Followed] = deque(maxlen=KEPT)
        self._number = 0
        self._second = 0  # of the controller's clock, and how many were told in it
        self._told = 0
        self._left_out = 0

    @property
    def active(self) -> bool:
        """Whether anybody follows."""
        return bool(self._followers)

    def follow(self, client: Client, on: bool, since: int) -> int:
        """A client follows from now on, or no more; the number of the latest event.

        Parameters
        ----------
        since : int
            It has been told all up to the event of this number; what came later is told again.
        """
        if on:
            self._followers.add(client.id)
            if 0 <= since <= self._number and client.peer is not None:
                for event in self._events:
                    if event.number > since and event.client != client.id:
                        self._out.send(client.peer, event)
        else:
            self.forget(client.id)
        return self._number

    def forget(self, client: str) -> None:
        """It does not follow any more, or is gone for good."""
        self._followers.discard(client)
        if not self._followers:
            self._events.clear()

    def ran(self, client: Client, submit: m.Submit, now: float) -> None:
        """A client has sent work. Of a map, only its first chunk is told."""
        work = submit.work
        if isinstance(work, m.Fetch) or (isinstance(work, m.Map) and work.start):
            return
        text = work.code if isinstance(work, m.Execute) else label(work)
        self._tell(client.id, "run", submit.engines or [], text, now)

    def wrote(self, output: m.Stream | m.Display, now: float) -> None:
        """A task, or what it has left behind, wrote something."""
        client = output.client if output.task is None else output.task.client
        if isinstance(output, m.Stream):
            self._tell(client, output.name, [output.engine], output.text, now)
        elif not output.update:
            self._tell(client, "display", [output.engine], str(output.bundle.get("text/plain", "")), now)

    def failed(self, result: m.Result, now: float) -> None:
        """A task has failed."""
        if result.failure is not None:
            text = f"{result.failure.type_name}: {result.failure.message}"
            self._tell(result.task.client, "failed", [result.engine], text, now)

    def _tell(self, client: str, kind: m.Kind, engines: list[int], text: str, now: float) -> None:
        if int(now) != self._second:
            self._second, self._told = int(now), 0
        self._told += 1
        if self._told > RATE:
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        if len(text) > LONGEST:
            text = f"{text[:LONGEST]}…"
        who = self._roster.clients.get(client)
        host, pid = ("", 0) if who is None else (who.host, who.pid)
        self._number += 1
        event = m.Followed(self._number, client, host, pid, kind, engines, text, left_out)
        self._events.append(event)
        for id in self._followers:
            follower = self._roster.clients.get(id)
            if id != client and follower is not None and follower.peer is not None:
                self._out.send(follower.peer, event)

    def settle(self) -> None:
        """Those who are gone for good follow no more."""
        for id in [id for id in self._followers if self._roster.has_left(id)]:
            self.forget(id)

    def check(self) -> None:
        """Assert that nothing is kept for nobody."""
        assert self._followers or not self._events, "events are kept for nobody"
