"""A simulated process: it can be paused, and be killed, and then does nothing any more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world import World


class Actor:
    """Base of the processes in a world."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.paused = False
        self.isolated = False  # no connection of it reaches the controller
        self._backlog: deque[Callable[[], None]] = deque()

    def perform(self, action: Callable[[], None]) -> None:
        """Do it now, or when the process goes on."""
        if not self.alive:
            return
        if self.paused:
            self._backlog.append(action)
        else:
            action()

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Do it after a while."""
        self.world.clock.after(delay, lambda: self.perform(action))

    def pause(self) -> None:
        """Stop; what arrives waits."""
        if not self.paused:
            self.world.trace(self.name, "is paused")
        self.paused = True

    def resume(self) -> None:
        """Go on."""
        if self.paused:
            self.world.trace(self.name, "goes on")
        self.paused = False
        while self._backlog and self.alive and not self.paused:
            self._backlog.popleft()()

    def check(self) -> None:
        """Assert the invariants of the core inside."""
