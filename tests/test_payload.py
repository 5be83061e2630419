"""User objects to frames and back."""

import dataclasses
import enum
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipkernel_ext import payload
from ipkernel_ext.errors import PayloadError


def travelled(obj):
    """The object after a journey in which every frame became plain bytes."""
    return payload.loads([bytes(frame) for frame in payload.dumps(obj)])


ARRAYS = [
    np.arange(5),
    np.arange(100_000.0),
    np.asfortranarray(np.arange(60_000.0).reshape(200, 300)),
    np.arange(40_000)[::2],
    np.zeros((0, 3)),
    np.array([(1, 2.5)] * 3000, dtype=[("a", "i4"), ("b", "f8")]),
    np.array(["x", None, 3], dtype=object),
    np.array(3.0),
    np.arange(10_000, dtype=">i2"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}-{a.shape}")
def test_arrays_arrive_equal_and_writable(array):
    array = array.copy(order="K")
    array.flags.writeable = False
    there = travelled(array)
    assert there.dtype == array.dtype
    assert there.flags.f_contiguous == array.flags.f_contiguous
    np.testing.assert_array_equal(there, array)
    assert there.flags.writeable


@pytest.mark.parametrize("size", [0, 1, payload.LARGE - 1, payload.LARGE, 10**6])
@pytest.mark.parametrize("make", [lambda n: b"x" * n, lambda n: "é" * n, lambda n: bytearray(n)])
def test_bytes_and_text_of_any_size(size, make):
    obj = make(size)
    assert travelled(obj) == obj
    assert travelled([obj, 1, {"k": obj}]) == [obj, 1, {"k": obj}]


def test_large_bytes_and_buffers_are_frames_of_their_own():
    data, array = b"y" * 200_000, np.ones(100_000)
    frames = payload.dumps({"data": data, "array": array})
    assert data in frames, "the bytes object itself, not a copy of the stream"
    assert any(getattr(frame, "nbytes", 0) == array.nbytes for frame in frames)


def test_writable_buffers_are_used_as_they_are():
    frames = payload.dumps(np.zeros(100_000))
    buffers = [bytearray(frame) for frame in frames[1:]]
    there = payload.loads([frames[0], *buffers])
    there[0] = 7
    assert np.frombuffer(buffers[-1])[0] == 7


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    )
)
def test_plain_objects_survive(obj):
    assert travelled(obj) == obj


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int


def test_closures_and_local_classes_go_by_value():
    factor = 3

    class Local:
        def __init__(self, x):
            self.x = x

    there = travelled(lambda x: Local(x * factor))
    assert there(2).x == 6
    assert travelled(Point(3)) == Point(3)
    assert travelled(Colour.RED) is Colour.RED


def test_the_path_to_what_cannot_be_pickled_is_named():
    with pytest.raises(PayloadError, match=r"args\[0\]\['lock'\].*lock"):
        payload.dumps(({"fine": 1, "lock": threading.Lock()},), name="args")

    class Holder:
        pass

    holder = Holder()
    holder.inner = [1, threading.Lock()]
    with pytest.raises(PayloadError, match=r"holder\.inner\[1\]"):
        payload.dumps(holder, name="holder")


LOCK = threading.Lock()


def test_a_function_that_uses_what_cannot_be_pickled():
    lock = LOCK

    def uses_lock():
        return lock

    with pytest.raises(PayloadError, match="uses_lock, which uses 'lock'"):
        payload.dumps_function(uses_lock)


def test_functions_have_a_digest_of_what_they_are():
    digest, frames = payload.dumps_function(lambda x: x + 1)
    assert digest == payload.dumps_function(lambda x: x + 1)[0] or frames
    assert payload.dumps_function(abs)[0] == payload.dumps_function(abs)[0] != digest
    with pytest.raises(TypeError, match="not callable"):
        payload.dumps_function(3)


def test_a_function_that_brings_much_along_warns_and_names_it():
    table = bytes(11 * 2**20)
    with pytest.warns(UserWarning, match="'table'"):
        payload.dumps_function(lambda: table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        payload.dumps_function(lambda: 1)


class Liar(Exception):
    def __init__(self, a, b):
        super().__init__(a)


def test_exceptions_that_cannot_be_rebuilt_do_not_travel():
    assert payload.dumps_exception(Liar(1, 2)) is None
    assert isinstance(payload.loads(payload.dumps_exception(ValueError(3))), ValueError)


def test_a_missing_module_is_named():
    frames = [b"\x01\x00\x00\x00" + b"cno_such_module_here\nname\n."]
    with pytest.raises(PayloadError, match="no module 'no_such_module_here'"):
        payload.loads(frames)
