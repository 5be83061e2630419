"""Rows of what was seen, and what changed in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipkernel_ext.core import messages as m
from ipkernel_ext.dashboard.state import Facts, State, applied, coarse, difference, seen

IDLE = m.EngineRecord("b0", "here", 12, "3", 0, cpu=0.4, rss=35_123_456)
BUSY = m.EngineRecord("b1", "here", 13, "3", 1, cpu=99.6, rss=1000, task="ann:7", running="f()", seconds=2.0)
CONTROLLER = {"pid": 1, "host": "here", "started": 1000.4, "address": "ipc://x"}
ANN = {"id": "ann", "host": "here", "pid": 9, "connected": True, "since": 5.2, "queued": 1, "running": 1, "tasks": 2}
QUEUE = {0: {"queued": 0, "running": 0, "done": 4}, 1: {"queued": 1, "running": 1, "done": 2}, "unassigned": 3}


def facts(*engines: m.EngineRecord, at: float = 10.0) -> Facts:
    return Facts(at, CONTROLLER, engines, QUEUE, [ANN])


def test_a_row_says_what_an_engine_runs_and_since_when():
    state = seen(facts(IDLE, BUSY), State())
    assert state.engines["1"] == {
        "id": 1, "host": "here", "pid": 13, "state": "busy", "task": "ann:7", "running": "f()", "since": 8.0,
        "queued": 1, "done": 2, "cpu": 100, "memory": 1000,
    }  # fmt: skip
    assert (state.engines["0"]["state"], state.engines["0"]["since"]) == ("ready", None)


def test_the_cluster_is_summed_up():
    cluster = seen(facts(IDLE, BUSY), State(), 12.34).cluster
    assert cluster["states"] == {"busy": 1, "ready": 1}
    assert (cluster["queued"], cluster["running"], cluster["done"]) == (4, 1, 6)
    assert (cluster["cpu"], cluster["memory"], cluster["rate"]) == (100, 35_100_000, 12.3)


def test_a_client_has_what_engines_run_for_it():
    others = [m.EngineRecord(f"b{i}", "here", 1, "3", i, task=f"ann:{i}", running="g()") for i in (2, 3)]
    assert seen(facts(BUSY, *others), State()).clients["ann"]["runs"] == ["g() ×2", "f()"]


def test_a_task_that_goes_on_is_no_difference():
    before = seen(facts(IDLE, BUSY), State())
    later = m.EngineRecord("b1", "here", 13, "3", 1, cpu=99.7, rss=1000, task="ann:7", running="f()", seconds=3.13)
    after = seen(facts(IDLE, later, at=11.0), before)
    assert difference(before, after) == {}


def test_only_what_changed_is_told():
    before = seen(facts(IDLE, BUSY), State())
    after = seen(facts(m.EngineRecord("b0", "here", 12, "3", 0, cpu=7.0, rss=35_123_456)), before)
    told = difference(before, after)
    assert told["engines"] == {"0": {"cpu": 7}, "1": None}
    assert told["clients"] == {"ann": {"runs": []}}


def test_trouble_is_told_and_hides_nothing():
    before = seen(facts(IDLE), State())
    after = seen(Facts(11.0, trouble="the controller does not answer"), before)
    assert difference(before, after) == {"cluster": {"trouble": "the controller does not answer"}}
    assert difference(after, seen(facts(IDLE), after)) == {"cluster": {"trouble": ""}}


def test_sizes_have_three_digits():
    assert [coarse(size) for size in (0, 7, 999, 35_123_456)] == [0, 7, 999, 35_100_000]


ROWS = st.dictionaries(st.sampled_from("abc"), st.dictionaries(st.sampled_from("xy"), st.integers(0, 2), min_size=1))
STATES = st.builds(State, st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2)), ROWS, ROWS)


@given(STATES, STATES)
def test_who_is_told_the_difference_has_all(before, after):
    names = {
        id: {**dict.fromkeys(row, 0), **after.engines[id]} for id, row in before.engines.items() if id in after.engines
    }
    after = State({**before.cluster, **after.cluster}, {**after.engines, **names}, after.clients)
    for id, row in before.clients.items():
        if id in after.clients:
            after.clients[id] = {**row, **after.clients[id]}
    assert applied(before, difference(before, after)) == after


def test_a_thousand_engines_that_are_idle_cost_nothing():
    engines = [m.EngineRecord(f"b{i}", "here", i, "3", i, cpu=0.1, rss=1000) for i in range(1024)]
    before = seen(facts(*engines), State())
    moved = [m.EngineRecord(f"b{i}", "here", i, "3", i, cpu=0.2, rss=1000) for i in range(1024)]
    assert difference(before, seen(facts(*moved, at=12.0), before)) == {}
