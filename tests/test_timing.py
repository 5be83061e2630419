"""Where the time of a cell went on each engine."""

import pytest

from ipkernel_ext.pieces import Times
from ipkernel_ext.timing import Share, imbalance, shares, table

RAN = [Times(1, 4.5, 4.0, 1.0), Times(0, 2.5, 2.0, 2.0)]


def test_shares_add_up_to_the_time_of_the_cell():
    moves = [[Times(0, 0.25, 0.1, 0.1), Times(1, 0.75, 0.1, 0.1)]]
    assert shares(RAN, moves) == [Share(0, 2.0, 0.0, 0.75, 2.5), Share(1, 1.0, 3.0, 1.25, 0.0)]
    assert {sum(share[1:]) for share in shares(RAN, moves)} == {5.25}


def test_many_threads_compute_more_than_passes():
    assert shares([Times(0, 1.0, 1.0, 3.5)], []) == [Share(0, 3.5, 0.0, 0.0, 0.0)]


def test_imbalance_is_of_the_slowest():
    times, lost, slowest = imbalance(RAN)
    assert (times, slowest) == (pytest.approx(4 / 3), 1)
    assert lost == pytest.approx(0.25)
    assert imbalance([Times(3, 0.0, 0.0, 0.0)]) == (1.0, 0.0, 3)


def test_the_table():
    text = table(RAN, [], 5.0)
    head, first, second, cell, balance = text.splitlines()
    assert head.split("  ")[0] == "engine"
    assert first.split() == ["0", "2.00", "s", "2.00", "s", "0.0", "ms", "500.0", "ms", "2.00", "s"]
    assert second.split()[:5] == ["1", "4.00", "s", "1.00", "s"]
    assert cell == "the cell took 5.00 s"
    assert (
        balance == "load imbalance: engine 1 took 1.33 × the mean; 25 % of the engines' time was spent waiting for it"
    )
    assert "imbalance" not in table(RAN[:1], [], 5.0)
