"""Handles of variables that stay on the engines."""

import functools
import operator

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import sparse

from ipkernel_ext.errors import NameNotFound
from tests.objects import assert_same


def test_it_says_what_there_is(rc):
    rc.scatter("A", np.arange(30.0).reshape(10, 3))
    A = rc.remote_value("A")
    assert (A.name, A.ids) == ("A", rc.ids)
    assert A.shapes == [(3, 3), (3, 3), (2, 3), (2, 3)]
    assert (A.dtypes, A.dtype) == (["float64"] * 4, "float64")
    assert (A.sizes, A.nbytes) == ([72, 72, 48, 48], 240)
    assert (A.shape, A.ndim, len(A), A.types) == ((10, 3), 2, 10, ["ndarray"] * 4)
    assert repr(A) == "<RemoteValue A: ndarray 10×3 float64, 240 B on engines 0-3>"


KEYS = [
    0,
    9,
    -1,
    np.int64(4),
    slice(None),
    slice(2, 5),
    slice(None, None, 3),
    slice(8, 1, -2),
    slice(4, 4),
    (3, 1),
    (slice(2, 8), 2),
    (slice(None), slice(0, 2)),
    (Ellipsis, 0),
    Ellipsis,
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_an_item_is_what_it_is_in_the_whole(rc, key):
    whole = np.arange(30.0).reshape(10, 3)
    rc.scatter("A", whole)
    got, wanted = rc.remote_value("A")[key], whole[key]
    np.testing.assert_array_equal(got, wanted)
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)


WHOLES = {
    "list": list(range(10)),
    "tuple": tuple("abcdefghij"),
    "str": "abcdefghij",
    "bytes": b"abcdefghij",
    "series": pd.Series(range(10), index=list("abcdefghij")),
    "frame": pd.DataFrame({"a": range(10), "b": list("abcdefghij")}),
    "chunked": pa.chunked_array([[*range(10)]]),
    "arrow array": pa.array(range(10)),
    "table": pa.table({"a": range(10)}),
    "matrix": sparse.csc_array(np.arange(20.0).reshape(10, 2)),
}


@pytest.mark.parametrize("name", WHOLES)
def test_slices_of_each_kind(rc, name):
    whole = WHOLES[name]
    rc.scatter("A", whole)
    A = rc.remote_value("A")
    rows = getattr(whole, "iloc", whole)
    assert len(A) == 10
    if name == "table":
        assert A[2:7].to_pydict() == {"a": [2, 3, 4, 5, 6]}
        assert A[7].to_pydict() == {"a": [7]}
    elif name == "matrix":
        np.testing.assert_array_equal(A[2:7].toarray(), whole.toarray()[2:7])
    elif name in ("chunked", "arrow array"):
        assert A[2:7].to_pylist() == [2, 3, 4, 5, 6]
        assert A[7].as_py() == 7
    else:
        assert_same(A[2:7], rows[2:7])
        assert_same(A[7], rows[7])
    if name not in ("table", "matrix"):
        assert len(list(A)) == 10


def test_only_what_is_asked_for_travels(rc):
    rc.execute("import numpy as np; A = np.zeros((1000, 1000))")
    rc.max_result, before = 100_000, rc.max_result
    try:
        A = rc.remote_value("A")
        assert A[3].shape == (1000,)
        assert A[10:14].shape == (4, 1000)
        assert A[:, 0].shape == (4000,)
        assert A.reduce(np.add).shape == (1000,)
    finally:
        rc.max_result = before


def test_what_has_no_items_is_one(rc):
    rc.execute("n = 5; settings = {'a': 1}")
    rc[2]["n"] = 7
    n = rc.remote_value("n")
    assert (len(n), n[2], n[1:3], n[4:], list(n)) == (4, 7, [5, 7], [], [5, 5, 7, 5])
    assert (n.shapes, n.reduce(operator.add), n.reduce(max)) == ([None] * 4, 22, 7)
    assert rc.remote_value("settings")[0] == {"a": 1}
    with pytest.raises(TypeError, match="pull"):
        n.gather()
    with pytest.raises(ValueError, match="no single one"):
        n.shape
    assert repr(n).splitlines()[3] == "  2: int 7"


def test_gather_and_reduce(rc):
    whole = [3, 1, 4, 1, 5, 9, 2, 6, 5]
    rc.scatter("A", whole)
    A = rc.remote_value("A")
    assert A.gather() == whole
    assert A.reduce(operator.add) == A.reduce(sum) == sum(whole)
    assert (A.reduce(max), A.reduce(min)) == (9, 1)
    np.testing.assert_array_equal(np.asarray(A), whole)
    assert np.asarray(A, float).dtype == float
    assert A.reduce(lambda x, y: x * y, 100) == functools.reduce(operator.mul, whole, 100)
    rc.scatter("A", [1])
    assert A.reduce(operator.add) == 1
    rc.scatter("A", [])
    assert A.reduce(operator.add, 0) == 0
    with pytest.raises(TypeError, match="no items"):
        A.reduce(operator.add)


@pytest.mark.parametrize("f", [np.sum, len, lambda piece: piece], ids=["numpy.sum", "len", "lambda"])
def test_a_function_of_one_is_refused(rc, f):
    rc.scatter("A", range(8))
    with pytest.raises(TypeError, match=r"function of two items.*rc\.apply"):
        rc.remote_value("A").reduce(f)


def test_as_an_argument_it_is_a_reference(rc):
    rc.scatter("A", np.arange(8))
    A = rc.remote_value("A")
    assert rc.apply(lambda piece, more: int(piece.sum()) + more, A, more=rc.remote_value("A")[0]) == [1, 5, 9, 13]
    rc.apply(lambda piece: piece.__setitem__(0, 100), A)
    assert A[0] == 100, "it was the engine's own"
    assert rc.submit(lambda piece: len(piece), A).get() == 2
    assert rc[1].apply(lambda piece, again: again is piece, A, again=A)


def test_it_is_asked_anew(rc):
    rc.scatter("A", range(4))
    A = rc.remote_value("A")
    rc.scatter("A", np.arange(40))
    assert (len(A), A[39], A.dtype) == (40, 39, "int64")
    rc.execute("del A")
    with pytest.raises(ExceptionGroup) as caught:
        A[0]
    assert all(isinstance(error, NameNotFound) for error in caught.value.exceptions)


def test_of_some_engines(rc):
    rc.scatter("A", range(8))
    assert rc[1:3].remote_value("A").gather() == [2, 3, 4, 5]
    assert rc.remote_value("A", targets=[3, 0])[0] == 6
    one = rc[2].remote_value("A")
    assert (len(one), one[1], repr(one)) == (2, 5, "<RemoteValue A: range of 2 items, 48 B on engine 2>")


def test_bad_input(rc):
    with pytest.raises(ExceptionGroup) as caught:
        rc.remote_value("nothing")
    assert isinstance(caught.value.exceptions[0], NameNotFound)
    with pytest.raises(NameNotFound, match="on engine 1"):
        rc[1].remote_value("nothing")
    with pytest.raises(ValueError, match="not a name"):
        rc.remote_value("a b")
    rc.scatter("A", range(8))
    A = rc.remote_value("A")
    with pytest.raises(IndexError, match="index 8 of 8 items"):
        A[8]
    with pytest.raises(TypeError, match="gather"):
        A["x"]
    with pytest.raises(TypeError, match="gather"):
        A[[1, 2]]


def test_nothing_of_it_is_in_the_history(rc):
    rc.scatter("A", range(8))
    before = len(rc.history)
    rc.remote_value("A")[3]
    assert len(rc.history) == before
