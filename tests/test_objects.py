"""Each kind of object that people move arrives as it was, and writable, by whatever way its frames came."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ipkernel_ext import payload
from tests.objects import OBJECTS, OTHERS, TABLE, assert_same, assert_writable, memory

WAYS = {
    "read-only": lambda frames: [memoryview(bytes(frame)) for frame in frames],
    "writable": lambda frames: [bytearray(frame) for frame in frames],
    "own": payload.own,
    "mapped": lambda frames: [memoryview(bytearray(frame)).toreadonly() for frame in frames],
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def travelled(request):
    return lambda obj: payload.loads(request.param(payload.dumps(obj)))


@pytest.mark.parametrize("name", OBJECTS)
def test_it_arrives_as_it_was(travelled, name):
    there = travelled(OBJECTS[name])
    assert_same(there, OBJECTS[name])
    assert_writable(there)


@pytest.mark.parametrize("name", OBJECTS)
def test_inside_containers_and_functions_too(travelled, name):
    here = OBJECTS[name]
    there = travelled({"list": [here, (here,)], "function": lambda: here})
    assert_same(there["list"][0], here)
    if name not in OTHERS:
        assert there["list"][0] is there["list"][1][0] is there["function"]()
    assert_writable(there)


def test_what_was_read_only_is_writable_on_arrival(travelled):
    for size in (3, 3000):
        array = np.arange(size)
        array.flags.writeable = False
        for obj in (array, pd.Series(array), pd.DataFrame({"a": array})):
            assert memory(travelled([obj]))
            assert_writable(travelled([obj]))


def test_a_mapped_file_arrives_as_an_array_in_memory(travelled, tmp_path):
    mapped = np.memmap(tmp_path / "file", dtype="f8", mode="w+", shape=(100, 50))
    mapped[:] = 3
    for mode in ("r", "r+", "c"):
        there = travelled(np.memmap(tmp_path / "file", dtype="f8", mode=mode, shape=(100, 50)))
        there += 1
        assert there.sum() == 4 * 5000
    assert mapped.sum() == 3 * 5000, "the file stays as it is"


def size(obj):
    return sum(memoryview(frame).nbytes for frame in payload.dumps(obj))


WHOLE = pa.table({"n": range(100_000), "s": [str(i) for i in range(100_000)]})


@pytest.mark.parametrize(
    "piece",
    [
        WHOLE.slice(10, 5),
        WHOLE.slice(10, 0),
        WHOLE.to_batches()[0].slice(10, 5),
        WHOLE.to_batches()[0].slice(10, 0),
        WHOLE["s"].slice(10, 5),
        WHOLE["s"].chunk(0)[10:15],
        WHOLE["s"].chunk(0)[10:10],
        pa.array([None, *"ab"] * 50_000).dictionary_encode()[1:5],
        WHOLE.to_pandas().iloc[10:15],
        WHOLE.to_pandas()["s"].iloc[10:15],
        pd.Index(WHOLE.to_pandas()["s"])[10:15],
    ],
    ids=lambda piece: f"{type(piece).__name__} {len(piece)}",
)
def test_a_piece_does_not_bring_the_whole_along(piece):
    assert size(piece) < 10_000
    assert_same(payload.loads([bytes(frame) for frame in payload.dumps(piece)]), piece)


def test_a_piece_of_a_type_that_arrow_cannot_write_comes_with_the_whole(monkeypatch):
    def refuses(*_):
        raise pa.ArrowNotImplementedError

    monkeypatch.setattr(pa.ipc, "new_stream", refuses)
    piece = WHOLE.slice(10, 5)
    assert size(piece) > 1_000_000
    assert_same(payload.loads([bytes(frame) for frame in payload.dumps(piece)]), piece)


def test_arrays_are_not_copied_on_the_way_out():
    frames = payload.dumps([TABLE, np.arange(100_000)])
    assert any(memoryview(frame).nbytes == 800_000 and not isinstance(frame, bytes) for frame in frames)
