"""Moving objects."""

import threading

import numpy as np
import pytest

from ipkernel_ext import payload
from ipkernel_ext.errors import CompositeError, NameNotFound, NoEngines, PayloadError


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


def test_push_is_all_or_nothing_and_takes_names_only(rc):
    for wrong in ("not a name", "class", "a.b", ""):
        with pytest.raises(ValueError, match="is not a name of a variable"):
            rc.push({"fine": 1, wrong: 2})
    with pytest.raises(TypeError, match="a name is a string"):
        rc.push({3: 1})
    assert "fine" not in rc


@pytest.mark.parametrize("rc", ["forked", "spawned"], indirect=True)
def test_a_missing_name_says_where_and_what_is_close(rc):
    rc[:3].push({"velocity": 1})
    for missing in (lambda: rc.pull("velocity"), lambda: rc.gather("velocity"), lambda: rc.__delitem__("velocity")):
        with pytest.raises(CompositeError) as raised:
            missing()
        (error,) = raised.value.exceptions
        assert isinstance(error, NameNotFound) and isinstance(error, NameError) and isinstance(error, KeyError)
        assert "engine 3" in str(error)
        rc[:3].push({"velocity": 1})
    with pytest.raises(NameNotFound, match="no variable 'velocty' on engine 0; did you mean 'velocity'"):
        rc[0].pull(("velocity", "velocty"))
    with pytest.raises(NameNotFound, match="no variable 'velocty' on engine 1; did you mean 'velocity'"):
        del rc[1]["velocty"]


def test_a_map_pickles_its_function_once(rc, monkeypatch):
    pickled = []

    def dumps_function(f):
        pickled.append(f)
        return original(f)

    original = payload.dumps_function
    monkeypatch.setattr(payload, "dumps_function", dumps_function)
    assert rc.map(lambda x: -x, range(100), chunksize=1) == [-x for x in range(100)]
    assert len(pickled) == 1
    for _ in range(2):
        rc.apply(abs, 1)
        rc.submit(abs, 1).result()
    assert len(pickled) == 5
