"""Random streams of items."""

import random

import numpy as np

from ipkernel_ext.execution import seeding
from ipkernel_ext.execution.seeding import Streams


def drawn(seed, index):
    with Streams(seed) as streams:
        streams.begin(index)
        return random.random(), np.random.random()


def test_a_stream_depends_on_seed_and_index_alone():
    assert drawn("5/0", 3) == drawn("5/0", 3)
    values = [drawn(seed, index) for seed in ("5/0", "6/0", "5/1/1", "5/2") for index in range(3)]
    assert len({ours for ours, _ in values}) == len({numpys for _, numpys in values}) == 12


def test_numpy_follows_its_own_seed_sequence():
    np.random.seed(np.random.SeedSequence(5, spawn_key=(0, 3)).generate_state(8))
    expected = np.random.random()
    assert drawn("5/0", 3)[1] == expected


def test_afterwards_the_generators_go_on_as_before():
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    drawn("5", 0)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_without_numpy_random_gives_the_same(monkeypatch):
    with_numpy = drawn("5/0", 3)[0]
    monkeypatch.setattr(seeding, "_numpy_random", lambda: None)
    assert drawn("5/0", 3)[0] == with_numpy


def test_seeds_may_be_large():
    assert drawn(f"{2**200}/0", 1) != drawn("1/0", 1)
