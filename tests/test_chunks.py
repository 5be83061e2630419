"""How many items travel together, and the items cut for it."""

import itertools

import numpy as np
import pytest

from ipkernel_ext.chunks import AIM, BYTES, GROWTH, LEAST, Columns, Pace, Rows, even


def learned(seconds, items=1, size=1):
    pace = Pace()
    pace.learn(items, seconds, size)
    return pace


def test_the_first_chunks_are_single_items():
    assert not Pace().known
    assert Pace().size(4, 1000) == 1


@pytest.mark.parametrize(("seconds", "expected"), [(1.0, 1), (AIM / 2, 2), (AIM / 50, 50), (1e-9, GROWTH)])
def test_a_chunk_lasts_as_long_as_is_good_and_grows_with_what_is_known(seconds, expected):
    assert learned(seconds).size(4) == expected


def test_growth_reaches_what_is_good():
    pace = Pace()
    sizes = []
    for _ in range(5):
        size = pace.size(4)
        sizes.append(size)
        pace.learn(size, 50e-6 + size * 1e-6, 1)
    assert sizes[0] == 1
    assert AIM / 1.2e-6 < sizes[-1] <= AIM / 1e-6


def test_the_last_chunks_get_smaller_but_not_tiny():
    pace = learned(1e-3, items=100, size=1)
    pace = learned(0.1, items=100)
    left, sizes = 1000, []
    while left:
        sizes.append(min(left, pace.size(4, left)))
        left -= sizes[-1]
    assert sizes[0] == round(AIM / 1e-3)
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes[:-1]) == round(LEAST / 1e-3)


def test_large_items_travel_few_at_a_time():
    assert learned(1e-6, items=10, size=10 * BYTES // 4).size(4) == 4
    assert learned(1e-6, size=10 * BYTES).size(4) == 1


def test_items_that_take_no_time_at_all():
    assert learned(0.0, items=10).size(4, 10_000) == 10 * GROWTH


def test_even_chunks():
    assert even(0, 4) == even(5, 4) == even(5, 0) == 1
    assert even(1280, 4) == 10


@pytest.mark.parametrize(
    "iterables",
    [
        (range(10),),
        ([1, 2, 3], (4, 5)),
        (iter([1, 2, 3]),),
        (itertools.count(), "abc"),
        ("ab", itertools.count(), {1, 2, 3}),
        ({"a": 1, "b": 2},),
        ([], [1]),
        (iter([]), [1]),
        (b"ab", np.arange(3)),
        (np.arange(6).reshape(3, 2),),
    ],
)
def test_columns_hold_what_zip_gives(iterables):
    copies = [itertools.tee(one) if hasattr(one, "__next__") else (one, one) for one in iterables]
    expected = [tuple(map(str, row)) for row in zip(*(copy for copy, _ in copies), strict=False)]
    columns = Columns([copy for _, copy in copies])
    assert len(columns) == len(expected)
    cut = [columns.cut(start, 2) for start in range(0, len(columns), 2)]
    assert [tuple(map(str, row)) for part in cut for row in zip(*part, strict=True)] == expected


def test_ranges_and_arrays_stay_what_they_are():
    [cut] = Columns([range(1000)]).cut(10, 5)
    assert cut == range(10, 15)
    [cut] = Columns([np.arange(10)]).cut(8, 5)
    assert isinstance(cut, np.ndarray)
    assert list(cut) == [8, 9]


def test_rows_are_taken_as_they_are_wanted():
    taken = []
    rows = Rows([(taken.append(i) or i for i in itertools.count())])
    assert rows.take(3, lambda: False) == ([[0, 1, 2]], 3)
    assert rows.take(3, lambda: True) == ([[3]], 1)
    assert taken == [0, 1, 2, 3]
    assert Rows(["ab", "cde"]).take(9, lambda: False) == ([["a", "b"], ["c", "d"]], 2)
    assert Rows([[]]).take(9, lambda: False)[1] == 0
