"""Which functions draw random numbers that nobody has seeded."""

import functools
import random

import numpy as np
import pytest

from ipkernel_ext.execution import draws
from ipkernel_ext.execution.draws import Draws


def run(found, function, digest="f"):
    """Whether the function, which runs now, is said to draw; None: it was not looked at."""
    look = found.look(digest)
    function()
    return None if look is None else look(function)


def much():
    return sum(random.random() for _ in range(1000))


def indirectly():
    return much()


class Callable:
    def __call__(self):
        return np.random.standard_normal(3)


@pytest.mark.parametrize(
    "function",
    [
        random.random,
        np.random.random,
        lambda: random.gauss(0, 1),
        lambda: np.random.normal(),
        lambda: random.choice([1, 2]),
        lambda: np.random.permutation(5),
        functools.partial(random.randint, 1, 6),
        much,
        indirectly,
        Callable(),
    ],
)
def test_those_that_draw(function):
    assert run(Draws(), function) is True


def seeds():
    random.seed(3)
    np.random.seed(3)
    return random.random(), np.random.random()


@pytest.mark.parametrize(
    "function",
    [
        lambda: random.Random(3).random(),
        lambda: np.random.default_rng(3).normal(),
        lambda: np.random.RandomState(3).normal(),
        lambda: sum(range(10)),
        seeds,
        lambda: seeds(),
        functools.partial(seeds),
    ],
)
def test_those_whose_results_are_the_same_again(function):
    assert run(Draws(), function) is False


@pytest.fixture
def clock():
    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    return Clock()


def test_a_function_is_looked_at_ever_less_often(clock):
    found = Draws(clock)
    looked = [n for n in range(1, 100) if run(found, dict) is not None]
    assert looked == [1, 2, 4, 8, 16, 32, 64]


def test_what_draws_is_known_from_then_on():
    found = Draws()
    assert run(found, random.random) is True
    assert [run(found, dict) for _ in range(5)] == [True] * 5
    assert run(found, dict, "another") is False


def test_where_every_task_brings_a_new_function_few_are_looked_at(clock, monkeypatch):
    monkeypatch.setattr(draws, "KEPT", 8)
    found = Draws(clock)
    assert sum(run(found, dict, str(n)) is not None for n in range(1000)) in (draws.BURST - 1, draws.BURST)
    clock.now += 2.5 * draws.PAUSE
    assert sum(run(found, dict, f"then {n}") is not None for n in range(1000)) in (2, 3)
    assert len(found._runs) <= 8


def test_what_could_not_be_looked_at_is_looked_at_later(clock):
    found = Draws(clock)
    for n in range(draws.BURST + 1):
        run(found, dict, str(n))
    assert run(found, random.random, "g") is None
    clock.now += 2 * draws.PAUSE
    assert run(found, random.random, "g") is True
