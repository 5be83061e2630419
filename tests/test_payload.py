"""User objects to frames and back."""

import dataclasses
import enum
import functools
import json
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipkernel_ext import payload
from ipkernel_ext.errors import PayloadError

HERE = {**os.environ, "PYTHONPATH": str(Path(payload.__file__).parents[1])}


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

    with pytest.raises(PayloadError, match="cannot pickle lock, a variable that uses_lock uses: "):
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


def test_a_missing_module_is_named():
    frames = [b"\x01\x00\x00\x00" + b"cno_such_module_here\nname\n."]
    with pytest.raises(PayloadError, match="no module 'no_such_module_here'"):
        payload.loads(frames)


def test_a_missing_name_is_named():
    with pytest.raises(PayloadError, match="module 'json' has no 'nothing'"):
        payload.loads([b"\x01\x00\x00\x00" + b"cjson\nnothing\n."])


class Grumpy:
    def __reduce__(self):
        return json.loads, ("{",)


class Exits:
    def __reduce__(self):
        raise SystemExit(3)


def test_what_user_code_raises_is_the_cause():
    frames = payload.dumps([Grumpy()])
    with pytest.raises(PayloadError, match="cannot rebuild an object here: JSONDecodeError") as raised:
        payload.loads(frames)
    assert isinstance(raised.value.__cause__, json.JSONDecodeError)
    with pytest.raises(PayloadError, match=r"cannot pickle result\[1\]: SystemExit: 3"):
        payload.dumps([1, Exits()], "result")


def test_an_interrupt_passes_through():
    class Interrupts:
        def __reduce__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        payload.dumps(Interrupts())


class Slots:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


CACHE = {"lock": LOCK}


def uses_cache():
    return CACHE


uses_cache.__module__ = "__main__"


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        ([0] * 1000 + [{"a": LOCK}], "x[1000]['a']"),
        (Slots([1, LOCK]), "x.a[1]"),
        (Point({"k": LOCK}), "x.x['k']"),
        (functools.partial(max, LOCK), "x.args[0]"),
        (functools.partial(max, key=LOCK), "x.keywords['key']"),
        ({"a", Slots(LOCK)}, "x (a member).a"),
        ({LOCK: 1}, "x (a key)"),
        (ValueError(LOCK), "x.args[0]"),
        (Slots(LOCK).__init__, "x.__self__.a"),
        ({"f": uses_cache}, "CACHE['lock'], a global that x['f'] uses"),
    ],
)
def test_paths(obj, path):
    with pytest.raises(PayloadError) as raised:
        payload.dumps(obj, name="x")
    assert str(raised.value) == f"cannot pickle {path}: cannot pickle '_thread.lock' object"


def test_a_ring_and_a_deep_nest_are_explained():
    ring = [LOCK]
    ring.append(ring)
    with pytest.raises(PayloadError, match=r"ring\[0\]"):
        payload.dumps(ring, "ring")
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PayloadError, match="cannot pickle deep: "):
        payload.dumps(deep, "deep")


def test_arguments_are_named_as_the_user_wrote_them():
    assert payload.loads(payload.dumps_call((1,), {"x": 2})) == ((1,), {"x": 2})
    with pytest.raises(PayloadError, match=r"cannot pickle args\[0\]\['lock'\]"):
        payload.dumps_call((CACHE,), {})
    with pytest.raises(PayloadError, match=r"cannot pickle kwargs\['x'\]:"):
        payload.dumps_call((1,), {"x": LOCK})


def test_the_stream_is_few_frames():
    numbers = list(range(200_000))
    assert travelled(numbers) == numbers
    assert len(payload.dumps(numbers)) <= 3


def test_own_copies_only_what_somebody_else_could_change():
    array = np.arange(100_000)
    frames = payload.dumps(array)
    owned = payload.own(frames)
    array[0] = 9
    assert payload.loads(owned)[0] == 0
    del array, owned
    assert payload.own(frames)[-1] is frames[-1], "nobody else has it now"
    held = np.arange(100_000)
    view = payload.dumps(held[:90_000])
    held[0] = 9
    assert payload.own(view)[-1] is not view[-1]
    data = bytearray(200_000)
    frames = payload.own(payload.dumps(data))
    data[0] = 9
    assert payload.loads(frames)[0] == 0


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}-{a.shape}")
def test_arrays_inside_other_things(array):
    array = array.copy(order="K")
    array.flags.writeable = False
    there = travelled({"a": [array, array], "f": lambda: array})
    assert there["a"][0] is there["a"][1]
    assert there["a"][0].flags.writeable
    np.testing.assert_array_equal(there["f"](), array)


def test_a_ref_is_small_and_equal():
    ref = payload.Ref("x")
    assert travelled(ref) == ref
    assert repr(ref) == "Ref(name='x')"
    with pytest.raises(AttributeError):
        ref.name = "y"


def test_code_keeps_the_name_of_its_file():
    assert travelled(lambda: 1).__code__.co_filename == __file__


class Liar(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


class Wraps(Exception):
    def __init__(self, a):
        super().__init__(f"bad {a}")


class OddSyntax(SyntaxError):
    def __init__(self, line):
        super().__init__("odd", ("file", line, 1, "text"))


class Unspeakable(Exception):
    def __str__(self):
        raise OSError


def raised(f):
    try:
        f()
    except BaseException as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError(3),
        Liar(1, 2),
        Wraps("x"),
        OddSyntax(7),
        Unspeakable("x"),
        FileNotFoundError(2, "no such file", "name"),
        UnicodeDecodeError("utf8", b"a", 0, 1, "reason"),
        subprocess.CalledProcessError(1, "x"),
        raised(lambda: json.loads("{")),
        raised(lambda: compile("x =", "f", "exec")),
        ExceptionGroup("group", [Liar(1, 2)]),
        StopIteration(4),
    ],
    ids=lambda e: type(e).__name__,
)
def test_exceptions_arrive_as_they_were(error):
    error.add_note("a note")
    there = payload.loads([bytes(frame) for frame in payload.dumps_exception(error)])
    assert type(there) is type(error)
    assert there.args == error.args or repr(there.args) == repr(error.args)
    assert {**vars(there)} == {**vars(error)}
    assert there.__notes__ == ["a note"]
    for name in ("lineno", "filename", "value", "exceptions", "errno"):
        assert repr(getattr(there, name, None)) == repr(getattr(error, name, None))


def test_what_is_behind_an_exception_goes_with_it():
    error = ValueError("front")
    error.__cause__ = Liar(1, 2)
    error.__cause__.__context__ = KeyError("far")
    error.__context__ = OSError(LOCK)  # cannot be pickled
    there = payload.loads(payload.dumps_exception(error))
    assert isinstance(there.__cause__, Liar)
    assert isinstance(there.__cause__.__context__, KeyError)
    assert there.__context__ is None
    assert there.__suppress_context__
    assert there.__traceback__ is None


def test_a_ring_of_exceptions_ends():
    one, two = ValueError(1), ValueError(2)
    one.__context__, two.__context__ = two, one
    assert payload.loads(payload.dumps_exception(one)).args == (1,)


def test_exceptions_that_cannot_be_rebuilt_do_not_travel():
    assert payload.dumps_exception(ValueError(LOCK)) is None


def test_classes_and_functions_of_a_script_go_by_value(tmp_path):
    script = textwrap.dedent(
        """
        import dataclasses, enum, sys
        from ipkernel_ext import payload

        SCALE = 2

        class Colour(enum.Enum):
            RED = 1

        @dataclasses.dataclass
        class Point:
            x: int
            colour: Colour = Colour.RED
            def scaled(self):
                return helper(self.x)

        def helper(x):
            return x * SCALE

        class Error(Exception):
            def __init__(self, a, b):
                super().__init__(a + b)

        frames = [payload.dumps(Point(4)), payload.dumps_function(helper)[1], payload.dumps_exception(Error(1, 2))]
        sys.stdout.buffer.write(repr([[bytes(f) for f in fs] for fs in frames]).encode())
        """
    )
    path = tmp_path / "script.py"
    path.write_text(script)
    done = subprocess.run([sys.executable, path], capture_output=True, check=True, text=True, env=HERE)
    point, helper, error = map(payload.loads, eval(done.stdout))
    assert (point.scaled(), point.colour.name, helper(5)) == (8, "RED", 10)
    assert (type(error).__name__, error.args) == ("Error", (3,))


def test_numpy_is_not_needed():
    code = "import sys; from ipkernel_ext import payload; payload.dumps([object]); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=HERE)


def test_the_items_of_a_range_are_three_numbers():
    [frame] = payload.dumps_items([range(10, 10**6, 3)], 0)
    assert len(frame) < 60 and payload.loads([frame]) == [range(10, 10**6, 3)]
