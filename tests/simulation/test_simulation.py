"""Many seeded worlds; ``SEEDS`` and ``START`` in the environment choose how many and from where.

A failing seed prints the last of its story and how to live it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future

import pytest

from tests.simulation.running import BUNCH, Bunch, bunches, live, tell

SEEDS = int(os.environ.get("SEEDS", "500"))
START = int(os.environ.get("START", "0"))
FAILED_ONCE = (
    8451,
    101202,
    111080,
    800435,
    810069,
    820937,
    822071,
    830240,
    833849,
    1003345,
    1008513,
    1011848,
    1013094,
    1014807,
)
"""Worlds that showed a bug, which is mended."""


@pytest.fixture(scope="module")
def worlds():
    with bunches(range(START, START + SEEDS)) as made:
        yield made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("bunch", range(-(-SEEDS // BUNCH)))
def test_worlds(worlds: list[Future[Bunch]], bunch: int) -> None:
    for seed in worlds[bunch].result().failed:
        world, failure = live(seed)
        tell(world, failure or "it passes when lived again", 100)
        pytest.fail(f"replay: python -m tests.simulation {seed}")


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_worlds_that_failed_once(seed: int) -> None:
    world, failure = live(seed)
    if failure is not None:
        tell(world, failure, 100)
    assert failure is None, f"replay: python -m tests.simulation {seed}"


def test_a_seed_is_one_story() -> None:
    assert live(7)[0].trace_hash == live(7)[0].trace_hash
    assert live(7)[0].trace_hash != live(8)[0].trace_hash


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_story_does_not_depend_on_the_hash_seed(hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "tests.simulation", "11"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert live(11)[0].trace_hash in run.stdout
