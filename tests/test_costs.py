"""What a task costs in counts, which are the same on every machine: messages, bytes, wake-ups, objects, calls.

Each limit is a little above what was counted when it was written. Who exceeds one on purpose raises it, and says why.
"""

from __future__ import annotations

import gc
import pickle
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale import Cluster
from ipkernel_ext import RemoteController, launch, payload
from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.futures import ClientFuture
from ipkernel_ext.net import edge as edge_module
from ipkernel_ext.net import sockets

ROUND_TRIPS = 200
TASKS = 4000


@pytest.fixture(scope="module")
def cluster() -> Iterator[RemoteController]:
    with launch(n=2) as rc:
        yield rc


@pytest.fixture
def counts(cluster, monkeypatch) -> Counter[str]:
    """Polls that returned, batches and bytes of the client; from the moment that a test clears it."""
    count: Counter[str] = Counter()
    poll, encode, receive = sockets.Poller.poll, wire.encode, edge_module.Edge.receive

    def counting_poll(self: sockets.Poller, timeout: int | None = None) -> dict[Any, int]:
        ready = poll(self, timeout)
        count["polls"] += 1
        return ready

    def counting_encode(epoch: int, entries: list[Any], refer: Any = None) -> list[Any]:
        parts = encode(epoch, entries, refer)
        count["batches out"] += 1
        count["messages out"] += len(entries)
        count["bytes out"] += sum(map(len, parts))
        return parts

    def counting_receive(self: edge_module.Edge) -> Any:
        batch = receive(self)
        count["batches in"] += batch is not None
        return batch

    tell = ClientFuture.tell

    def counting_tell(self: ClientFuture) -> None:
        count["tells"] += 1
        tell(self)

    monkeypatch.setattr(ClientFuture, "tell", counting_tell)
    monkeypatch.setattr(sockets.Poller, "poll", counting_poll)
    monkeypatch.setattr(edge_module, "encode", counting_encode)
    monkeypatch.setattr(edge_module.Edge, "receive", counting_receive)
    cluster.submit(abs, -1).result()
    cluster[0].apply(abs, -1)
    return count


def switches(pid: int) -> int:
    """How often threads of a process have gone to sleep: once for each time that they were woken."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        [line] = [line for line in (thread / "status").read_text().splitlines() if line.startswith("voluntary")]
        total += int(line.split()[1])
    return total


@pytest.mark.parametrize("kind", ["balanced", "addressed"])
def test_a_round_trip_wakes_each_thread_on_its_way_once_in_each_direction(cluster, counts, kind: str) -> None:
    one = cluster[0]
    engines = [engine.pid for engine in cluster.engines]
    controller = cluster.status()["controller"]["pid"]
    slept = {pid: switches(pid) for pid in (controller, *engines)}
    counts.clear()
    for _ in range(ROUND_TRIPS):
        one.apply(abs, -1) if kind == "addressed" else cluster.submit(abs, -1).result()
    assert counts["tells"] == ROUND_TRIPS, "whoever waits is woken once"
    assert counts["polls"] <= ROUND_TRIPS, "who calls sends and receives; the I/O thread acknowledges now and then"
    assert counts["batches out"] <= 1.5 * ROUND_TRIPS
    assert counts["batches in"] <= 1.1 * ROUND_TRIPS
    slept = {pid: switches(pid) - before for pid, before in slept.items()}
    assert slept[controller] <= 2.5 * ROUND_TRIPS, "two messages"
    assert sum(slept[pid] for pid in engines) <= 1.5 * ROUND_TRIPS


def test_many_small_tasks_share_messages_and_wakes(cluster, counts) -> None:
    [future.result() for future in [cluster.submit(abs, i) for i in range(TASKS)]]
    engines = [engine.pid for engine in cluster.engines]
    controller = cluster.status()["controller"]["pid"]
    slept = {pid: switches(pid) for pid in (controller, *engines)}
    counts.clear()
    [future.result() for future in [cluster.submit(abs, i) for i in range(TASKS)]]
    assert counts["bytes out"] <= 60 * TASKS, "the arguments, a number, an acknowledgement"
    assert counts["messages out"] <= TASKS / 2
    assert counts["batches out"] <= TASKS / 2
    assert sum(switches(pid) - before for pid, before in slept.items()) <= 2 * TASKS


def test_a_function_is_pickled_once_and_arguments_once_a_task(cluster, counts, monkeypatch) -> None:
    pickled: list[Any] = []

    def counting(pickle: Any) -> Any:
        return lambda obj, *rest: pickled.append(obj) or pickle(obj, *rest)

    monkeypatch.setattr(pickle, "dumps", counting(pickle.dumps))
    monkeypatch.setattr(payload, "_dump", counting(payload._dump))
    [future.result() for future in [cluster.submit(abs, i) for i in range(100)]]
    assert pickled == [((i,), {}) for i in range(100)]


def test_large_arguments_leave_as_the_memory_that_they_are_in(cluster, counts) -> None:
    data = bytearray(2**20)
    frames = payload.dumps_call((data,), {})
    counts.clear()
    parts = wire.encode(1, [(m.Goodbye(), frames)])
    assert any(part is frame for part in parts for frame in frames if len(frame) >= 2**20)
    assert len(parts[0]) < 1000
    cluster[0].apply(len, data)
    assert counts["bytes out"] < 2000, "what it says of them; the memory itself is shared"


def test_a_task_under_way_is_few_objects_for_the_garbage_collector(cluster) -> None:
    cluster.execute("import time")
    cluster.submit(abs, -1).result()
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        futures = [cluster.submit(abs, i) for i in range(1000)]
        [future.result() for future in futures]
        assert (len(gc.get_objects()) - before) / 1000 <= 6.5
    finally:
        gc.enable()


def calls(cluster: Cluster, tasks: int) -> float:
    """Functions that one task calls in the controller's core, Python's own among them."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        cluster.run(tasks, 2 * tasks)
    finally:
        sys.setprofile(None)
    return count / tasks


def test_a_task_costs_the_controller_as_much_among_2000_engines_as_among_20() -> None:
    few, many = Cluster(20), Cluster(2000)
    for cluster in (few, many):
        cluster.run(4000, 4000)
    assert calls(many, 4000) <= 1.1 * calls(few, 4000)
    before = many.messages
    many.run(4000, 4000)
    assert (many.messages - before) / 4000 <= 2.6, "to the engine, to the client, and something for many at once"


def test_the_next_engine_is_found_at_once_behind_many_that_were_taken() -> None:
    """In a dict, the first item is found behind the holes that earlier ones have left."""
    cluster = Cluster(2000)
    pool = cluster.core._dispatch.pool
    for engines in (pool._idle, pool._partial):
        assert hasattr(engines, "move_to_end"), "an ordered dict has no holes"
