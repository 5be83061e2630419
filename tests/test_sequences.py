"""Cutting and joining."""

from array import array

import numpy as np
import pytest

from ipkernel_ext import sequences


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_cuts_as_array_split_does(length, count):
    ours = sequences.cut(np.arange(length), count)
    for a, b in zip(ours, np.array_split(np.arange(length), count), strict=True):
        np.testing.assert_array_equal(a, b)
    assert sequences.cut(list(range(length)), count) == [p.tolist() for p in ours]


@pytest.mark.parametrize("whole", [[1, 2, 3], (1, 2, 3), "abc", b"abc"])
def test_join_undoes_cut(whole):
    assert sequences.join(sequences.cut(whole, 2)) == whole


def test_arrays_of_the_standard_library_keep_their_type():
    numbers = array("d", [1.5, 2.5, 3.5])
    assert sequences.join(sequences.cut(numbers, 2)) == numbers
    assert sequences.join(sequences.cut(numbers, 2)).typecode == "d"


def test_ranges_become_lists_and_arrays_stay_arrays():
    assert sequences.join(sequences.cut(range(5), 3)) == [0, 1, 2, 3, 4]
    joined = sequences.join(sequences.cut(np.arange(6).reshape(3, 2), 2))
    np.testing.assert_array_equal(joined, np.arange(6).reshape(3, 2))


@pytest.mark.parametrize("thing", [3, iter([1]), {"a": 1}, {1, 2}])
def test_what_cannot_be_cut(thing):
    with pytest.raises(TypeError, match="cannot scatter"):
        sequences.cut(thing, 2)


def test_scalars_are_not_joined():
    with pytest.raises(TypeError, match="use pull"):
        sequences.join([1, 2])
    with pytest.raises(TypeError, match=r"different types \(int, list\); use pull"):
        sequences.join([[1], 2])
