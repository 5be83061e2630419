"""Living through worlds: one, or many spread over the cores."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from tests.simulation.world import World

BUNCH = 20  # worlds that a process lives through between two reports


class Bunch(NamedTuple):
    """What came of some worlds."""

    worlds: int
    steps: int
    seconds: float
    """That passed in them, of simulated time."""
    failed: dict[int, str]
    """The last line of the failure of each seed that has one."""


def live(seed: int) -> tuple[World, str | None]:
    """One world, and how it failed."""
    world = World(seed)
    try:
        world.run()
    except Exception:
        return world, traceback.format_exc()
    return world, None


def live_all(seeds: Sequence[int]) -> Bunch:
    """Some worlds, one after the other."""
    lived = [live(seed) for seed in seeds]
    return Bunch(
        len(lived),
        sum(world.clock.steps for world, _ in lived),
        sum(world.clock.now for world, _ in lived),
        {world.seed: failure.strip().splitlines()[-1] for world, failure in lived if failure is not None},
    )


@contextmanager
def bunches(seeds: Sequence[int]) -> Iterator[list[Future[Bunch]]]:
    """Worlds in the making, spread over the cores."""
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        try:
            yield [pool.submit(live_all, seeds[n : n + BUNCH]) for n in range(0, len(seeds), BUNCH)]
        finally:
            pool.shutdown(cancel_futures=True)


def tell(world: World, failure: str, lines: int) -> None:
    """A failing world's story."""
    print(f"---- seed {world.seed}: the last {lines} events")
    print("\n".join(list(world.lines)[-lines:]))
    print(failure)
    print(f"replay: python -m tests.simulation {world.seed}")
