"""Functions by digest: counted, kept for a while, waited for."""

from __future__ import annotations

import pytest

from ipkernel_ext.core import functions as module
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.functions import FunctionStore
from ipkernel_ext.core.queues import State, Task
from ipkernel_ext.core.roster import Engine
from tests.core.cluster import ann


def waiting(digest: str = "f") -> Task:
    """A task that waits for its function."""
    task = Task(ann(0), m.Apply(digest), (), None, None, 0)
    task.state = State.WAITING
    return task


def test_idle_functions_are_dropped_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 2)
    store = FunctionStore()
    store.use("f")
    for digest in "fghi":
        store.add(digest, (b"code",))
    assert [store.get(digest) is not None for digest in "fghi"] == [True, False, True, True]
    store.release("f")
    assert [store.get(digest) is not None for digest in "fhi"] == [True, False, True]


def test_many_bytes_are_dropped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_BYTES", 10)
    store = FunctionStore()
    store.add("f", (b"12345", b"12345"))
    assert store.get("f") is not None
    store.add("g", (b"1",))
    assert store.get("f") is None


def test_tasks_that_wait_are_handed_over_once() -> None:
    store = FunctionStore()
    task, cancelled = waiting(), waiting()
    for one in (task, cancelled):
        store.use("f")
        store.wait(one)
    assert list(store.waiting()) == [task, cancelled]
    cancelled.state = State.ENDED
    store.release("f")
    assert store.add("f", (b"code",)) == [task]
    assert store.add("f", (b"code",)) == []


def test_each_client_is_asked_once() -> None:
    store = FunctionStore()
    store.use("f")
    assert store.ask("f", "ann")
    assert not store.ask("f", "ann")
    assert store.ask("f", "bob")


def test_engines_that_want_a_function() -> None:
    store = FunctionStore()
    engine = Engine(m.EngineRecord("b0", "here", 1, "3"))
    store.want("f", engine)
    assert store.take_wanting("f") == []
    store.use("f")
    store.want("f", engine)
    store.want("f", engine)
    assert store.take_wanting("f") == [engine]
    store.want("f", engine)
    store.release("f")
    assert not any(store.sizes().values())
