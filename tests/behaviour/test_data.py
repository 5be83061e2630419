"""Moving objects."""

import threading

import numpy as np
import pytest

from ipkernel_ext.errors import NoEngines, PayloadError


def test_push_and_pull(rc):
    rc.push({"a": 3, "b": [1, {"c": None}]})
    assert rc.pull("a") == [3] * 4
    assert rc[0].pull("b") == [1, {"c": None}]


@pytest.mark.parametrize("array", [np.arange(10), np.arange(300_000.0).reshape(3, -1), np.asfortranarray(np.eye(200))])
def test_arrays_arrive_writable_there_and_here(rc, array):
    rc.push({"array": array})
    rc.execute("array[0] += 1")
    back = rc[1].pull("array")
    expected = array.copy()
    expected[0] += 1
    np.testing.assert_array_equal(back, expected)
    assert back.dtype == array.dtype
    assert back.flags.f_contiguous == array.flags.f_contiguous
    back[0] = 0


def test_large_bytes_and_text(rc):
    rc.push({"data": b"x" * 300_000, "text": "y" * 300_000})
    assert rc[0].pull("data") == b"x" * 300_000
    assert rc[3].pull("text") == "y" * 300_000


def test_what_cannot_be_pickled_is_named_and_nothing_is_bound(rc):
    with pytest.raises(PayloadError, match=r"names\['lock'\]"):
        rc.push({"fine": 1, "lock": threading.Lock()})
    assert "fine" not in rc
    rc.execute("import threading; there = threading.Lock()")
    with pytest.raises(PayloadError, match="there"):
        rc[0].pull("there")


@pytest.mark.parametrize("sequence", [list(range(10)), (1, 2, 3), "abcdefg", np.arange(9).reshape(3, 3), []])
def test_gather_undoes_scatter(rc, sequence):
    rc.scatter("piece", sequence)
    assert [len(p) for p in rc.pull("piece")] == [len(p) for p in np.array_split(np.arange(len(sequence)), 4)]
    joined = rc.gather("piece")
    if isinstance(sequence, np.ndarray):
        np.testing.assert_array_equal(joined, sequence)
    else:
        assert joined == sequence


def test_scatter_and_gather_of_what_has_no_pieces(rc):
    with pytest.raises(TypeError, match="no length"):
        rc.scatter("x", 3)
    rc.push({"x": 3})
    with pytest.raises(TypeError, match="use pull"):
        rc.gather("x")
    with pytest.raises(NoEngines, match="there are 0-3"):
        rc[[]].scatter("x", [1])


def test_what_the_caller_changes_after_sending_does_not_travel(rc):
    array = np.zeros(100_000)
    results = [rc.push({"array": array}, block=False), rc.submit(np.sum, array)]
    array += 1
    for result in results:
        result.get()
    assert rc[0].pull("array").sum() == 0
    assert results[1].get() == 0
