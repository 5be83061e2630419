"""Each kind of object that people move, by each of the calls that move."""

import numpy as np
import pytest

from tests.objects import ARRAYS, OBJECTS, TABLES, assert_same, assert_writable

SEQUENCES = {
    **{f"array: {name}": array for name, array in ARRAYS.items() if array.ndim},
    **{name: table for name, table in TABLES.items() if name not in ("range index", "interval index")},
    "bytes": b"abcdefg",
    "bytearray": bytearray(b"abcdefg"),
    "text": "äbcdefg" * 30_000,
    "list": [1, "two", 3.0, None, {}],
    "tuple": (1, 2, 3),
    "empty": [],
}


def test_push_and_pull(rc):
    for name, here in OBJECTS.items():
        rc[0].push({"x": here})
        there = rc[0].pull("x")
        assert_same(there, here)
        assert_writable(there)
        assert name


def test_arguments_and_results(rc):
    for here in OBJECTS.values():
        there = rc[1].apply(lambda *args, **kwargs: {"args": args, **kwargs}, here, kept=[here])
        assert_same(there["args"][0], here)
        assert_same(there["kept"][0], here)
        assert_writable(there)


def test_engines_write_to_what_arrived(rc):
    rc[0].push({"nested": {"short": np.zeros(3), "long": [np.zeros(100_000)]}})
    rc[0].execute("nested['short'][0] = nested['long'][0][0] = 5")
    there = rc[0].pull("nested")
    assert (there["short"][0], there["long"][0][0]) == (5, 5)


def test_gather_undoes_scatter(rc):
    for name, here in SEQUENCES.items():
        rc[:3].scatter("piece", here)
        there = rc[:3].gather("piece")
        try:
            assert_same(there, here)
        except AssertionError as error:
            error.add_note(name)
            raise
        assert_writable(there)
    rc.scatter("piece", range(10))
    assert rc.gather("piece") == list(range(10))


@pytest.mark.parametrize("thing", [3, 1.5, None, np.float64(2), np.array(3.0)], ids=repr)
def test_what_has_no_length_is_not_scattered_and_not_gathered(rc, thing):
    with pytest.raises(TypeError, match="no length"):
        rc.scatter("x", thing)
    rc.push({"x": thing})
    with pytest.raises(TypeError, match="use pull"):
        rc.gather("x")
