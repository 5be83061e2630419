"""A client that does not take its results counts as away until it does."""

from __future__ import annotations

import pytest

from ipkernel_ext.core import credit
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.credit import BRIEF, CREDIT, FEW, STALL, Credit, size_of
from ipkernel_ext.core.messages import TaskId
from tests.core.cluster import Controller, ann


@pytest.fixture
def behind(two: Controller, monkeypatch: pytest.MonkeyPatch) -> Controller:
    """Engine 0 has done a task, whose result its client is told and does not take."""
    monkeypatch.setattr(credit, "CREDIT", 8)
    two.submit(0, 1, 2, engines=[0, 0, 0])
    two.result(0)
    return two


def test_results_that_are_taken_late_are_taken(behind: Controller) -> None:
    behind.now += STALL / 2
    behind.result(1)
    assert set(behind.results()) == {1}
    behind.receive("ann", m.Acknowledge([0]))
    behind.now += STALL
    behind.result(2)
    assert behind.to("ann", m.HelloWanted) == [m.HelloWanted()]


def test_whoever_takes_nothing_for_too_long_is_told_behind_what_is_on_its_way(behind: Controller) -> None:
    behind.now += STALL
    behind.result(1)
    assert [type(message) for message in behind.to("ann")] == [m.Result, m.HelloWanted]
    behind.result(2)
    assert behind.to("ann") == []


def test_it_gets_the_rest_when_it_comes_again(behind: Controller) -> None:
    behind.now += STALL
    behind.result(1)
    behind.result(2)
    behind.client(unresolved=[2], generation=1)
    behind.submit(2, engines=[0])
    assert behind.to("b0", m.SendAgain) == [m.SendAgain([ann(2)])]
    behind.result(2)
    assert set(behind.results()) == {2}


def test_what_is_small_may_wait_for_ever(two: Controller) -> None:
    two.submit(0, 1, engines=[0, 0])
    two.result(0)
    two.now += 3600.0
    two.result(1)
    assert two.to("ann", m.HelloWanted) == []


def test_many_small_ones_are_waited_for_less_long() -> None:
    mine = Credit()
    for number in range(FEW):
        mine.owe(number, 1 + CREDIT // FEW, 0.0)
    assert not mine.exhausted(BRIEF)
    mine.owe(FEW, 1, 0.0)
    assert mine.exhausted(BRIEF)


def test_output_counts_with_its_result() -> None:
    id = TaskId("ann", 0)
    assert size_of(m.Stream(id, 0, 0, "stdout", "12345")) == 5
    assert size_of(m.Display(id, 0, 0, {"text/plain": "123", "image/png": b"1234", "json": {}}, {})) == 7


def test_a_result_that_comes_again_counts_once() -> None:
    mine = Credit()
    mine.owe(1, CREDIT, 0.0)
    mine.owe(1, CREDIT, 0.0)
    assert not mine.exhausted(STALL)
    mine.owe(2, 1, 0.0)
    assert mine.exhausted(STALL)
    mine.settle([2], 1.0)
    assert not mine.exhausted(1.0 + STALL)
