"""Connections as ZMTP over TCP or a unix socket gives them.

First in, first out inside a connection, random delays, no order between connections. A connection
that breaks loses an arbitrary suffix of what is under way, in each direction by itself; each side
notices in its own time, the listening side possibly before it has read what did arrive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.clock import Clock

if TYPE_CHECKING:
    from tests.simulation.actor import Actor

Parts = Sequence[Any]


class Delays:
    """How long a message is under way, and how long a break goes unnoticed."""

    def __init__(self, random: Random, typical: float, slow: float) -> None:
        self._random = random
        self._typical = typical
        self._slow = slow

    def message(self) -> float:
        """Seconds a message takes."""
        random = self._random
        if random.random() < self._slow:
            return random.uniform(0.0, 1.0)
        return random.expovariate(1 / self._typical)

    def notice(self) -> float:
        """Seconds until a side notices that a connection broke."""
        random = self._random
        return random.uniform(0.0, 2.0) if random.random() < 0.2 else random.uniform(0.0, 0.05)


class Pipe:
    """One direction of a connection. Holds everything back until ``attach``."""

    def __init__(self, clock: Clock, delays: Delays) -> None:
        self._clock = clock
        self._delays = delays
        self._under_way: deque[Parts] = deque()
        self._last = 0.0
        self._left: int | None = None  # how many of those under way still arrive, once it broke
        self._receive: Callable[[Parts], None] | None = None

    def attach(self, receive: Callable[[Parts], None]) -> None:
        """Somebody listens at the far end."""
        self._receive = receive
        for _ in self._under_way:
            self._schedule()

    def send(self, parts: Parts) -> None:
        """Put a message in; it is lost when the connection broke, known or not."""
        if self._left is not None:
            return
        self._under_way.append(parts)
        if self._receive is not None:
            self._schedule()

    def cut(self, left: int | None = None) -> None:
        """The connection broke; the first few of what is under way still arrive."""
        if self._left is None:
            most = len(self._under_way)
            self._left = most if left is None else min(left, most)

    @property
    def under_way(self) -> int:
        """How many messages have not arrived."""
        return len(self._under_way)

    def _schedule(self) -> None:
        self._last = max(self._last, self._clock.now + self._delays.message())
        self._clock.at(self._last, self._arrive)

    def _arrive(self) -> None:
        parts = self._under_way.popleft()
        if self._left is not None:
            if self._left == 0:
                return
            self._left -= 1
        assert self._receive is not None
        self._receive(parts)


class Connection:
    """Two pipes between an edge and a controller."""

    def __init__(self, name: str, actor: Actor, clock: Clock, delays: Delays) -> None:
        self.name = name
        self.actor = actor
        self.up = Pipe(clock, delays)
        self.down = Pipe(clock, delays)
        self.broken = False
        self.given_up = False  # the edge closed its socket
        self.on_broken: list[Callable[[], None]] = []  # each side's noticing

    def cut(self, random: Random, keep: bool = False) -> None:
        """Break it."""
        if self.broken:
            return
        self.broken = True
        for pipe in (self.up, self.down):
            pipe.cut(None if keep else random.randint(0, pipe.under_way))
        for notice in self.on_broken:
            notice()
