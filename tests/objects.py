"""One of each kind of object that people move, and how to tell that it arrived as it was."""

import datetime
import decimal
from collections import OrderedDict, deque

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse

N = 3000  # long enough for buffers of their own

CUBE = np.arange(24_000.0).reshape(20, 30, 40)
PAIRS = np.dtype([("a", "i4"), ("b", "f8", (2,))])

FRAME = pd.DataFrame(
    {
        "integer": np.arange(N),
        "float": np.linspace(0, 1, N),
        "text": ["a", "b"] * (N // 2),
        "category": pd.Categorical(["x", "y", None] * (N // 3), categories=["y", "x"], ordered=True),
        "day": pd.date_range("2020", periods=N),
        "zone": pd.date_range("2020", periods=N, tz="Europe/Berlin"),
        "lasted": pd.timedelta_range("1s", periods=N),
        "period": pd.period_range("2020", periods=N, freq="h"),
        "nullable": pd.array([1, None] * (N // 2), dtype="Int64"),
        "flag": [True, False] * (N // 2),
        "object": [{"any": 1}] * N,
        "arrow": pd.array(["q"] * N, dtype="string[pyarrow]"),
    }
)

TABLE = pa.table({"n": range(N), "s": ["x"] * N, "l": [[1, 2]] * N})

ARRAYS = {
    "C order": CUBE,
    "Fortran order": np.asfortranarray(CUBE),
    "strided": CUBE[::2, ::3],
    "reversed": CUBE[::-1],
    "transposed": CUBE.transpose(2, 0, 1),
    "broadcast": np.broadcast_to(np.arange(1000.0), (5, 1000)),
    "no items": np.zeros((0, 3), "f4"),
    "no dimension": np.array(3.0),
    "short": np.arange(5),
    "big-endian": np.arange(N, dtype=">i2"),
    "boolean": np.ones(N, bool),
    "complex": np.full(N, 1j, "c8"),
    "half": np.ones(N, "f2"),
    "long double": np.ones(N, np.longdouble),
    "bytes": np.array([b"ab"] * N),
    "text": np.array(["ab"] * N),
    "dates": np.array(["2020-01-01", "NaT"] * N, "M8[D]"),
    "durations": np.arange(N).astype("m8[us]"),
    "structured": np.zeros(N, PAIRS),
    "padded": np.zeros(N, np.dtype({"names": ["a"], "formats": ["i4"], "offsets": [4], "itemsize": 16})),
    "a field": np.zeros(N, PAIRS)["b"],
    "objects": np.array([1, "a", [None]], dtype=object),
    "objects in Fortran order": np.asfortranarray(np.array([[1, "a"], [None, 2.0]] * 3, dtype=object)),
    "structured objects": np.array([(1, "x")], dtype=[("a", "i4"), ("o", "O")]),
    "masked": np.ma.masked_array(CUBE, CUBE > 7, fill_value=-1),
    "masked, none": np.ma.masked_array(np.arange(N)),
    "record": np.rec.array([(1, 2.0)] * N, dtype=[("a", "i4"), ("b", "f8")]),
    "matrix": np.asmatrix(np.eye(100)),
}

TABLES = {
    "frame": FRAME,
    "frame with labels": FRAME.set_index(["text", "integer"]),
    "no rows": FRAME.iloc[:0],
    "few rows": FRAME.iloc[5:8],
    **{f"series of {name}": FRAME[name] for name in FRAME},
    "range index": pd.RangeIndex(2, 9, 3),
    "dates index": pd.DatetimeIndex(FRAME["day"]),
    "several levels": FRAME.set_index(["category", "integer"]).index,
    "category index": pd.CategoricalIndex(["a", "b"], name="c"),
    "interval index": pd.interval_range(0, 5),
    "categorical": FRAME["category"].array,
    "table": TABLE,
    "batch": TABLE.to_batches()[0],
    "column": pa.chunked_array([[1, 2], [3]]),
    "array": TABLE["s"].chunk(0),
    "dictionary": pa.array(["a", "b", "a"]).dictionary_encode(),
    "piece of a table": TABLE.slice(10, 5),
    **{
        f"sparse {form}": sparse.random(300, 200, 0.3, format=form, random_state=0)
        for form in ("csr", "csc", "coo", "bsr", "lil")
    },
    "sparse dok": sparse.random(30, 20, 0.3, format="dok", random_state=0),
    "sparse dia": sparse.dia_matrix(np.eye(100)),
    "sparse array": sparse.csr_array(sparse.random(300, 200, 0.3, random_state=1)),
}

OTHERS = {
    "bytes": b"x" * 300_000,
    "text": "é" * 300_000,
    "bytearray": bytearray(b"x" * 300_000),
    "short bytearray": bytearray(b"x" * 3),
    "scalar": np.float32(3),
    "containers": OrderedDict(a=deque([1, {2}, frozenset({3})]), b=(slice(1), range(3), ...)),
    "moment": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    "decimal": decimal.Decimal("1.10"),
    "large integer": 7**5000,
}

OBJECTS = {**{f"array: {k}": v for k, v in ARRAYS.items()}, **TABLES, **OTHERS}


def assert_same(there, here):
    """Type, value, dtype and order."""
    assert type(there) is type(here)
    match here:
        case np.ndarray():
            assert there.dtype == here.dtype
            assert there.shape == here.shape
            if here.flags.forc:
                assert there.flags.f_contiguous == here.flags.f_contiguous
            np.testing.assert_array_equal(there, here)
            if isinstance(here, np.ma.MaskedArray):
                np.testing.assert_array_equal(np.ma.getmaskarray(there), np.ma.getmaskarray(here))
                assert there.fill_value == here.fill_value
        case pd.DataFrame():
            pd.testing.assert_frame_equal(there, here)
        case pd.Series():
            pd.testing.assert_series_equal(there, here)
        case pd.Index():
            pd.testing.assert_index_equal(there, here, exact=True)
        case pd.api.extensions.ExtensionArray():
            pd.testing.assert_extension_array_equal(there, here)
        case _ if sparse.issparse(here):
            assert there.format == here.format
            assert there.dtype == here.dtype
            assert there.shape == here.shape
            assert (there.tocsr() - here.tocsr()).count_nonzero() == 0
        case _ if type(here).__module__ == "pyarrow.lib":
            assert there.equals(here)
        case _:
            assert there == here


def memory(obj):
    """The arrays that an object keeps its values in, and which a user may write to."""
    match obj:
        case np.ma.MaskedArray():
            return [np.ma.getdata(obj), *([obj.mask] if obj.mask is not np.ma.nomask else [])]
        case np.ndarray():
            return [obj]
        case pd.DataFrame():
            return [array for block in obj._mgr.blocks for array in memory(block.values)]
        case pd.Series():
            return memory(obj.array)
        case pd.api.extensions.ExtensionArray():
            kept = [getattr(obj, name, None) for name in ("_ndarray", "_data", "_mask")]
            return [array for array in kept if isinstance(array, np.ndarray)]
        case _ if sparse.issparse(obj):
            return [array for array in vars(obj).values() if isinstance(array, np.ndarray)]
        case list() | tuple():
            return [array for item in obj for array in memory(item)]
        case dict():
            return [array for item in obj.values() for array in memory(item)]
    return []


def assert_writable(obj):
    assert all(array.flags.writeable for array in memory(obj))
