"""A simulated MPI job: ranks that start one by one, and an mpiexec that may end all when one dies."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tests.simulation.engines import SimEngine

if TYPE_CHECKING:
    from tests.simulation.world import World


class SimJob:
    """One mpiexec.

    Parameters
    ----------
    random
        Apart from the world's own chance.
    """

    def __init__(self, world: World, number: int, random: Random) -> None:
        self._world = world
        self._parent = number + 1
        named = random.random() < 0.5
        self.name = f"job{number}" if named else ""
        self.size = random.randint(2, 5)
        self._hosts = ("host0", "host1") if named else ("host0",)
        self.ranks: dict[int, SimEngine] = {}
        late = random.choice((0.1, 3.0))
        begin = random.uniform(0.0, 6.0)
        for rank in range(self.size):
            host = random.choice(self._hosts)
            world.clock.after(begin + random.uniform(0.0, late), lambda rank=rank, host=host: self._start(rank, host))
        if random.random() < 0.3:
            world.clock.after(begin + random.uniform(0.0, 6.0), self._end)

    def _start(self, rank: int, host: str) -> None:
        self.ranks[rank] = self._world.start_engine(
            host, None, None, rank=rank, size=self.size, job=self.name, parent=self._parent
        )

    def _end(self) -> None:
        self._world.trace("mpiexec", f"ends the ranks of job {self._parent}")
        for engine in self.ranks.values():
            self._world.kill_engine(engine)

    def ids(self) -> dict[int, int]:
        """Engine ids of the ranks that live."""
        return {rank: engine.core.id for rank, engine in self.ranks.items() if engine.alive}
