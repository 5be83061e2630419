"""Results of small tasks wait for each other on their engine, but for nothing else."""

import os
import time

import pytest

from ipkernel_ext import launch
from ipkernel_ext.errors import EngineLost


@pytest.fixture(scope="module")
def one():
    with launch(n=1) as rc:
        rc[0].apply(abs, -1)
        yield rc[0]


def behind_each_other(one, last, *arguments):
    """Small calls, and one behind them that the engine has before it has ended the first."""
    first = one.apply(time.sleep, 0.3, block=False)
    small = [one.apply(abs, -i, block=False) for i in range(10)]
    return first, small, one.apply(last, *arguments, block=False)


def test_results_do_not_wait_for_a_long_task_behind_them(one):
    _, small, long = behind_each_other(one, time.sleep, 20)
    assert [result.get(10) for result in small] == list(range(10))
    assert not long.done()
    long.cancel()
    assert long.wait(10)


@pytest.mark.fault("an engine dies before the result of the task before has left it")
def test_results_that_wait_are_no_loss_when_the_next_task_ends_the_process(one):
    _, small, last = behind_each_other(one, os._exit, 3)
    assert [result.get(10) for result in small] == list(range(10))
    with pytest.raises(EngineLost, match="3"):
        last.get(10)


def test_output_comes_before_the_result_that_it_belongs_to(one):
    first = one.apply(time.sleep, 0.3, block=False)
    printing = [one.execute(f"print({i})", block=False) for i in range(20)]
    assert [result.get(10).stdout for result in printing] == [f"{i}\n" for i in range(20)]
    assert first.done()
