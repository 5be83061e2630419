"""The store is bounded in size and time, and outlives its process."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.messages import Failure, TaskId
from ipkernel_ext.net import store as store_module
from ipkernel_ext.net.store import ResultStore

ALIAS = TaskId("bob", 7)


def ann(number: int) -> TaskId:
    return TaskId("ann", number)


def put(store: ResultStore, number: int, size: int = 10, failure: Failure | None = None) -> list[TaskId]:
    """Take in a result with one piece of output; what had to make room."""
    store.take(m.Stream(ann(number), 0, 0, "stdout", "text", 1), ())
    store.take(m.Result(ann(number), 1, 0, outputs=1, failure=failure), [b"x" * size])
    return store.settle()[1]


def test_a_result_comes_back_after_its_output_as_that_of_another_task() -> None:
    store = ResultStore(None, 10**6, 60.0)
    put(store, 0, 100_000)
    (output, _), (result, frames) = store.get(ann(0), ALIAS)
    assert (output.task, output.text) == (ALIAS, "text")
    assert result.task == ALIAS
    assert b"".join(frames) == b"x" * 100_000


def test_it_outlives_its_process(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results", 10**6, 60.0)
    assert list(tmp_path.iterdir()) == [], "no file while there is nothing to keep"
    put(store, 0)
    put(store, 1, failure=Failure("user", "KeyError", "x"))
    again = ResultStore(tmp_path / "results", 10**6, 60.0)
    assert again.tasks() == {ann(0): "", ann(1): "KeyError: x"}
    assert len(again.get(ann(0), ALIAS)) == 2
    again.close()
    store.close()


def test_the_oldest_make_room() -> None:
    store = ResultStore(None, 5000, 60.0)
    assert [put(store, number, 1500) for number in range(5)] == [[], [], [], [ann(0)], [ann(1)]]
    assert list(store.tasks()) == [ann(2), ann(3), ann(4)]


def test_what_was_discarded_takes_no_room() -> None:
    store = ResultStore(None, 5000, 60.0)
    for number in range(100):
        assert put(store, number, 3000) == []
        store.discard("ann", number)
    assert store.tasks() == {}


def test_a_result_that_comes_twice_is_there_once() -> None:
    store = ResultStore(None, 5000, 60.0)
    assert [put(store, 0, 3000) for _ in range(5)] == [[]] * 5
    assert len(store.get(ann(0), ALIAS)) == 2


def test_what_is_too_old_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(store_module.time, "time", lambda: now)
    store = ResultStore(tmp_path / "results", 10**6, 60.0)
    put(store, 0)
    now = 1061.0
    assert put(store, 1) == [ann(0)]
    store.close()
    now = 1200.0
    assert ResultStore(tmp_path / "results", 10**6, 60.0).tasks() == {}


def test_what_is_too_large_is_only_at_hand() -> None:
    store = ResultStore(None, 5000, 60.0)
    store.take(m.Result(ann(0), 1, 0), [b"x" * 6000])
    assert store.settle() == ([(ann(0), "", False)], [])
    assert len(store.get(ann(0), ALIAS)) == 1
    store.forget_aside()
    assert store.get(ann(0), ALIAS)[0][0].failure.kind == "ResultExpired"


def test_what_is_incomplete_is_discarded_with_its_client() -> None:
    store = ResultStore(None, 5000, 60.0)
    store.take(m.Result(ann(0), 1, 0, outputs=1), ())
    store.discard("ann", None)
    store.take(m.Stream(ann(0), 0, 0, "stdout", "text", 1), ())
    assert store.settle() == ([], [])
