"""Engines' variables in a file and back."""

import os
import warnings

import numpy as np
import pandas as pd
import pytest

from ipkernel_ext import checkpoints
from ipkernel_ext.errors import CheckpointError, NameNotFound, PayloadError
from ipkernel_ext.units import bytes_text
from tests.objects import OBJECTS, assert_same, assert_writable

CODE = """
import math, threading
import numpy as np
x = 3
words = ["a", "b"]
table = {"words": words, "numbers": np.arange(10_000.0)}

def scaled(y):
    return x * y

def counted():
    global calls
    calls = globals().get("calls", 0) + 1

class Point:
    def __init__(self, x):
        self.x = x
    def doubled(self):
        return scaled(2 * self.x)

point = Point(5)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.ckpt"


def test_there_and_back(rc, path):
    objects = {f"x{i}": value for i, value in enumerate(OBJECTS.values())}
    rc[0].push(objects)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rc[0].checkpoint(path)
    rc[0].reset()
    rc[0].restore(path)
    for name, value in objects.items():
        there = rc[0].pull(name)
        assert_same(there, value)
        assert_writable(there)


def test_each_engine_gets_its_own_again(rc, path):
    rc.scatter("A", np.arange(40_000))
    rc.execute("import math; n = len(A)")
    saved = rc.checkpoint(path)
    assert saved.path == path
    assert saved.names == {id: ["A", "math", "n"] for id in rc.ids}
    assert (saved.skipped, saved.nbytes > 320_000) == ([], True)
    assert repr(saved) == f"<Checkpoint {path}: 3 variables of 4 engines, {bytes_text(saved.nbytes)}>"
    rc.reset()
    rc.push({"other": 1})
    assert rc.restore(path).names == saved.names
    assert rc.keys() == [["A", "math", "n", "other"]] * 4
    np.testing.assert_array_equal(rc.gather("A"), np.arange(40_000))
    assert rc.execute("math.floor(2.5) + n").values == [10_002] * 4


def test_functions_and_classes_live_in_the_namespace_again(rc, path):
    rc[1].execute(CODE)
    rc[1].checkpoint(path)
    rc[1].reset()
    rc[1].restore(path)
    assert rc[1].execute("x = 100; scaled(2), point.doubled(), type(point) is Point").value == (200, 1000, True)
    rc[1].execute("counted(); counted()")
    assert rc[1]["calls"] == 2


def test_what_is_shared_is_shared_again(rc, path):
    rc[0].execute(CODE + "again = table; chain = [point]; chain.append(chain)")
    saved = rc[0].checkpoint(path)
    rc[0].reset()
    rc[0].restore(path)
    rc[0].execute("words.append('c')")
    assert rc[0].execute("again is table, table['words'], chain[0] is point, chain[1] is chain").value == (
        True,
        ["a", "b", "c"],
        True,
        True,
    )
    assert saved.names[0] == rc[0].keys()


def test_what_cannot_be_saved_is_listed(rc, path):
    rc.execute(CODE + "good = 1; bad = {'model': [point]}; point.lock = threading.Lock()")
    rc[3].execute("numbers = (n for n in range(3))")
    with pytest.warns(UserWarning, match="without what cannot be saved") as caught:
        saved = rc.checkpoint(path)
    by_name = {skipped.name: skipped for skipped in saved.skipped}
    assert set(by_name) == {"bad", "point", "numbers"}
    assert (by_name["bad"].engines, by_name["numbers"].engines) == ([0, 1, 2, 3], [3])
    assert by_name["bad"].why.startswith("cannot pickle bad['model'][0].lock: ")
    assert "point.lock" in by_name["point"].why
    assert "numbers of engine 3: cannot pickle numbers" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert "left out bad of engines 0-3: cannot pickle" in repr(saved)
    rc.reset()
    rc.restore(path)
    assert "good" in rc
    assert "bad" not in rc


def test_only_some_engines(rc, path):
    rc.execute("import os")
    rc.push({"x": 1})
    rc[1:3].checkpoint(path)
    rc.reset()
    assert rc.restore(path, targets=[0, 3]).names == {0: ["os", "x"], 3: ["os", "x"]}
    assert rc.keys() == [["os", "x"], [], [], ["os", "x"]]


def test_another_number_of_engines(rc, path):
    whole = np.arange(10_000).reshape(-1, 2)
    frame = pd.DataFrame({"a": range(10), "b": list("abcdefghij")})
    rc.scatter("A", whole)
    rc.scatter("frame", frame)
    rc.execute(CODE)
    rc.execute("from os import getpid; mine = {'x': len(A)}")
    rc[0]["mine"] = {"x": 0}
    rc.checkpoint(path)
    rc.reset()
    with pytest.raises(ValueError, match=r"variables of 4 engines, and here are 3.*redistribute"):
        rc[:3].restore(path)
    assert rc.keys() == [[]] * 4
    with pytest.warns(UserWarning, match="cannot be redistributed"):
        restored = rc[:3].restore(path, redistribute=True)
    assert [(skipped.name, skipped.engines) for skipped in restored.skipped] == [("mine", [0, 1, 2, 3])]
    np.testing.assert_array_equal(rc[:3].gather("A"), whole)
    assert [len(piece) for piece in rc[:3]["A"]] == [1667, 1667, 1666]
    assert_same(rc[:3].gather("frame"), frame)
    assert rc[:3].execute("scaled(point.x), table['words'] is words").values == [(15, True)] * 3
    assert set(restored.names) == {0, 1, 2}


def test_only_these_names_are_cut_anew(rc, path):
    rc.scatter("A", [0] * 8)
    rc.scatter("B", list(range(8)))
    rc.checkpoint(path)
    rc.reset()
    with pytest.warns(UserWarning, match="B of engines 0-3: it differs"):
        rc[:2].restore(path, redistribute=["A"])
    assert rc[:2]["A"] == [[0] * 4] * 2, "equal pieces are cut anew too, when they are named"
    assert rc.restore(path, redistribute="B", targets=1).names == {1: ["A", "B"]}
    assert rc[1].pull(["A", "B"]) == ([0, 0], list(range(8)))
    with pytest.raises(ValueError, match="has no C; it has A, B"):
        rc.restore(path, redistribute="C")


def test_of_one_to_many(rc, path):
    rc[2].push({"A": list(range(8)), "n": 1})
    rc[2].checkpoint(path)
    rc.reset()
    rc.restore(path, redistribute=["A"])
    assert (rc["A"], rc["n"]) == ([[0, 1], [2, 3], [4, 5], [6, 7]], [1] * 4)


def test_larger_than_a_block(rc, path, monkeypatch):
    monkeypatch.setattr(checkpoints, "BLOCK", 100_000)
    monkeypatch.setattr(checkpoints, "UNDER_WAY", 300_000)
    rc.execute("import numpy as np; A = np.random.rand(60_000); B = A.tobytes()")
    before = rc.apply(lambda: hash(A.tobytes() + B))  # noqa: F821
    rc.max_result, taken = 50_000, rc.max_result
    try:
        rc.checkpoint(path)
    finally:
        rc.max_result = taken
    rc.reset()
    rc.restore(path)
    assert rc.apply(lambda: hash(A.tobytes() + B)) == before  # noqa: F821


def test_no_file_is_better_than_half_of_one(rc, path, monkeypatch):
    rc.push({"x": 1})
    rc.checkpoint(path)
    rc.push({"x": 2})

    def broken(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "_close", broken)
    with pytest.raises(OSError, match="No space"):
        rc.checkpoint(path)
    assert [name for name in os.listdir(path.parent) if path.name in name] == [path.name]
    rc.restore(path)
    assert rc["x"] == [1] * 4


def test_it_is_on_the_disk_before_it_has_its_name(rc, path, monkeypatch):
    done = []
    fsync, replace = os.fsync, type(path).replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("fsync"), fsync(file))[1])
    monkeypatch.setattr(type(path), "replace", lambda *args: (done.append("rename"), replace(*args))[1])
    rc[0].checkpoint(path)
    assert done == ["fsync", "rename", "fsync"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.fault("a checkpoint is truncated, damaged or from another version")
def test_truncated_anywhere(rc, path):
    rc.push({"x": list(range(1000)), "y": b"y" * 200_000})
    rc.checkpoint(path)
    rc.reset()
    whole = path.read_bytes()
    for size in [1, 30, 60, 1000, len(whole) // 2, len(whole) - 100, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="run.ckpt is no"):
            rc.restore(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="empty"):
        rc.restore(path)
    damaged = bytearray(whole)
    damaged[whole.index(b"yyyyy") + 50] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="damaged"):
        rc.restore(path)


@pytest.mark.fault("a checkpoint is truncated, damaged or from another version")
def test_of_another_version(rc, path):
    rc[0].checkpoint(path)
    path.write_bytes(path.read_bytes().replace(b"format 1, written by version", b"format 7, written by version", 1))
    with pytest.raises(
        CheckpointError, match=r"format 7, written by ipkernel_ext \S+; this is \S+, which reads format 1"
    ):
        rc[0].restore(path)
    path.write_bytes(b"PK\x03\x04 something else, long enough to be anything at all" * 10)
    with pytest.raises(CheckpointError, match="no checkpoint of ipkernel_ext"):
        rc[0].restore(path)


def test_no_such_place(rc, tmp_path):
    with pytest.raises(FileNotFoundError, match="no directory"):
        rc.checkpoint(tmp_path / "nowhere" / "run.ckpt")
    with pytest.raises(FileNotFoundError):
        rc.restore(tmp_path / "run.ckpt")


def test_what_cannot_be_rebuilt_does_not_keep_the_rest_back(rc, path, tmp_path):
    rc[0].execute(
        "import sys, types\n"
        "sys.modules['made_there'] = made = types.ModuleType('made_there')\n"
        "exec('class Odd:\\n    def __reduce__(self): return (eval, (\"1 / 0\",))', made.__dict__)\n"
        "odd, fine = made.Odd(), 1\n"
        "del made, sys, types"
    )
    rc[0].checkpoint(path)
    rc[0].reset()
    with pytest.raises(ExceptionGroup, match="not all of") as caught:
        rc[0].restore(path)
    (error,) = caught.value.exceptions
    assert isinstance(error, PayloadError)
    assert f"of odd, restored from {path} to engine 0" in error.__notes__
    assert rc[0]["fine"] == 1
    with pytest.raises(NameNotFound):
        rc[0]["odd"]


def test_it_waits_for_what_was_sent_before(rc, path):
    result = rc.execute("import os; x = 5", block=False)
    rc.checkpoint(path)
    assert result.done()
    rc.reset()
    rc.restore(path)
    assert rc["x"] == [5] * 4
