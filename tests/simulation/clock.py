"""Simulated time: what is to happen, in order. Knows nothing of what that is."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Clock:
    """A queue of events; ``now`` jumps from one to the next."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, delay: float, event: Callable[[], None]) -> None:
        """Have something happen in ``delay`` seconds."""
        self.at(self.now + delay, event)

    def at(self, time: float, event: Callable[[], None]) -> None:
        """Have something happen then; events of the same time keep their order."""
        self._count += 1
        heapq.heappush(self._events, (max(time, self.now), self._count, event))

    def step(self, until: float) -> bool:
        """Let the next event happen. False when there is none before ``until``."""
        if not self._events or self._events[0][0] > until:
            return False
        self.now, _, event = heapq.heappop(self._events)
        self.steps += 1
        event()
        return True
