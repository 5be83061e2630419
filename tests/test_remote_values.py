"""Which part of which piece an index or slice is, and how a handle is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipkernel_ext.execution.portions import Description
from ipkernel_ext.remote_values import described, find, spread

LENGTHS = st.lists(st.integers(0, 5), min_size=1, max_size=5)
BOUND = st.none() | st.integers(-12, 12)


def pieces_of(lengths):
    numbers = iter(range(sum(lengths)))
    return [[next(numbers) for _ in range(length)] for length in lengths]


@given(LENGTHS, BOUND, BOUND, st.none() | st.integers(-4, 4).filter(bool))
def test_a_slice_over_the_pieces_is_the_slice_of_the_whole(lengths, start, stop, step):
    pieces = pieces_of(lengths)
    part = slice(start, stop, step)
    taken = [item for place in spread(lengths, part) for item in pieces[place.piece][place.part]]
    assert taken == list(range(sum(lengths)))[part]
    assert all(pieces[place.piece][place.part] for place in spread(lengths, part)), "nobody is asked for nothing"


@given(LENGTHS, st.integers(-30, 30))
def test_an_index_over_the_pieces_is_the_index_of_the_whole(lengths, index):
    whole = list(range(sum(lengths)))
    try:
        wanted = whole[index]
    except IndexError:
        with pytest.raises(IndexError, match=f"index {index} of"):
            find(lengths, index)
        return
    place = find(lengths, index)
    assert pieces_of(lengths)[place.piece][place.part] == wanted


def array(rows, dtype="float64"):
    return Description("ndarray", rows, (rows, 3), dtype, rows * 24, "")


def test_pieces_that_make_one_are_shown_as_one():
    assert described("A", [0, 1], [array(2), array(3)]) == "<RemoteValue A: ndarray 5×3 float64, 120 B on engines 0-1>"
    numbers = [Description("list", n, None, "", 100, "") for n in (1, 2)]
    assert described("x", [0, 3], numbers) == "<RemoteValue x: list of 3 items, 200 B on engines 0, 3>"


def test_others_are_shown_by_engine():
    pieces = [array(2), array(1, "int8"), Description("int", None, None, "", 28, "7")]
    assert described("A", [0, 1, 4], pieces).splitlines() == [
        "<RemoteValue A on engines 0-1, 4",
        "  0: ndarray 2×3 float64 48 B",
        "  1: ndarray 1×3 int8 24 B",
        "  4: int 7>",
    ]
    many = [Description("int", None, None, "", 28, str(id)) for id in range(20)]
    assert described("n", range(20), many).splitlines()[-1] == "  … and 12 more>"
