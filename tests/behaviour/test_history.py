"""What was called, and its results again."""

import gc

import pytest

from ipkernel_ext import history
from ipkernel_ext.errors import ResultExpired


def test_calls_are_numbered_and_their_results_there_again(rc, tmp_path):
    first = len(rc.history)
    rc.execute("a = 1\na + 1")
    rc[0].apply(abs, -3)
    rc.map(abs, [-1, -2])
    script = tmp_path / "script.py"
    script.write_text("b = 2")
    rc.run(script)
    rc.push({"other": "no call"})
    rc.submit(abs, -1).result()
    calls = rc.history[first:]
    assert [call.kind for call in calls] == ["execute", "apply", "map", "run"]
    assert [call.number for call in calls] == [first + 1, first + 2, first + 3, first + 4]
    assert calls[0].engine_ids == (0, 1, 2, 3)
    assert calls[1].text == "abs"
    assert repr(calls[0]) == f"{first + 1}: execute a = 1"
    assert [result.value for result in rc.get_result(first + 1).get()] == [2] * 4
    assert rc.get_result(-3).get() == 3
    assert rc.get_result(first + 3).get() == [1, 2]
    assert len(rc.get_result().get()) == 4
    assert rc.get_result(rc.get_result(first + 2).task_ids[0]).get() == 3


def test_what_there_is_not_is_said(rc):
    rc.execute("1")
    with pytest.raises(LookupError, match="there is no call 100000 of this client; its calls are 1 to"):
        rc.get_result(100_000)
    mine = rc.get_result().task_ids[0]
    with pytest.raises(LookupError, match="no task"):
        rc.get_result(mine.rpartition(":")[0] + ":1000000")
    with pytest.raises(ResultExpired, match="no result of task x:1 is here"):
        rc.get_result("x:1").get()
    with pytest.raises(ValueError, match="'x' is not the id of a task"):
        rc.get_result("x")


def test_collected_results_are_dropped_and_others_are_not(rc):
    kept = len(rc.history) + 1
    rc.execute("1", block=False)
    for _ in range(history.LATEST + 1):
        rc.execute("2")
    gc.collect()
    assert len(rc.get_result(kept).get()) == 4
    gc.collect()
    with pytest.raises(ResultExpired, match="latest 20"):
        rc.get_result(kept)
