"""Which engines a call reaches, and the shape of what it gives."""

import time

import pytest

from ipkernel_ext.errors import NoSuchEngine


def test_ids_len_and_records(rc):
    assert rc.ids == [0, 1, 2, 3]
    assert len(rc) == 4
    assert [engine.id for engine in rc.engines] == rc.ids
    assert bool(rc)
    assert "0-3" in repr(rc)


def test_one_integer_gives_the_value_anything_else_a_list(rc):
    rc.push({"a": 1})
    assert rc[0].pull("a") == 1
    assert rc[0:1].pull("a") == [1]
    assert rc[[2]].pull("a") == [1]
    assert rc.pull("a", targets=3) == 1
    assert rc.pull("a", targets="0,2") == [1, 1]
    assert rc.pull(("a", "a")) == [(1, 1)] * 4
    assert rc[-1].ids == [3]


def test_views_count_along_their_own_ids(rc):
    assert rc[::2].ids == [0, 2]
    assert rc[::2][1].ids == [2]
    assert rc[1:][0].ids == [1]
    assert [view.ids for view in rc[1:3]] == [[1], [2]]
    host = rc.engines[0].host
    assert rc[f"host:{host}"].ids == rc.ids


@pytest.mark.parametrize("bad", [4, -5, [0, 9]])
def test_an_engine_that_does_not_exist_is_said_before_anything_is_sent(rc, bad):
    before = rc.queue_status()
    with pytest.raises(NoSuchEngine, match="0-3"):
        rc[bad]
    with pytest.raises(IndexError):
        rc.execute("a = 1", targets=bad)
    assert rc.queue_status() == before


def test_a_name_is_a_variable_and_a_colon_makes_a_view(rc):
    rc["x"] = 5
    assert rc["x"] == [5] * 4
    assert rc[1]["x"] == 5
    assert "x" in rc
    del rc["x"]
    assert "x" not in rc
    with pytest.raises(NoSuchEngine):
        rc["tag:none"]
    with pytest.raises(ValueError, match="not a name"):
        rc["not a name"] = 1


def test_queue_status_and_status(rc):
    status = rc.queue_status()
    assert set(status) == {0, 1, 2, 3, "unassigned"}
    assert set(status[0]) == {"queued", "running", "done"}
    whole = rc.status()
    assert set(whole) == {"controller", "engines", "clients", "queue"}
    assert {"pid", "host", "address", "started"} <= set(whole["controller"])


def test_engines_say_what_they_use(rc):
    for engine in (*rc.engines, *rc[2].engines, *rc.status()["engines"]):
        assert isinstance(engine.cpu, float) and engine.cpu >= 0
        assert isinstance(engine.rss, int) and engine.rss > 2**20
        assert (engine.state, engine.task, engine.running) == ("ready", "", "")
    assert [engine.id for engine in rc[1:3].engines] == [1, 2]


def test_clients_say_who_is_connected(rc):
    (me,) = [client for client in rc.clients if client["me"]]
    assert {"id", "host", "pid", "since", "queued", "running"} <= set(me)
    assert me["connected"] and (me["queued"], me["running"]) == (0, 0)
    there = rc.status()
    assert rc.clients == [client for client in there["clients"] if client["connected"]]
    assert there["controller"]["started"] == rc.status()["controller"]["started"] <= me["since"] <= time.time()


def test_why_of_an_engine(rc):
    assert rc.why(3) == rc.why(-1) == rc[2:].why(1) == "engine 3 is ready and has nothing to do"
    for bad in (7, -5):
        with pytest.raises(NoSuchEngine, match="the engines are 0-3"):
            rc.why(bad)


def test_why_of_a_result_that_is_here(rc):
    assert rc.why() == "nothing waits"
    good = rc.submit(abs, -1)
    good.get()
    assert rc.why(good).startswith(f"task {good.task_ids[0]} is done: it ran for")
    bad = rc.execute("1 / 0", block=False, targets=1)
    bad.wait()
    said = f"task {bad.task_ids[0]} has failed on engine 1: ZeroDivisionError: division by zero"
    assert rc.why(bad) == rc.why(bad.task_ids[0]) == said
    both = rc.apply(lambda: 1 / 0, block=False, targets=[0, 1])
    both.wait()
    assert rc.why(both).startswith("all 2 tasks have ended, 2 of them badly; first: task ")
    fine = rc.apply(abs, -1, block=False)
    fine.wait()
    assert rc.why(fine) == "all 4 tasks are done, and their values are here"


def test_why_of_what_never_was(rc):
    with pytest.raises(LookupError, match="nothing is known of task nobody:3"):
        rc.why("nobody:3")
    with pytest.raises(ValueError, match="is not the id of a task"):
        rc.why("nobody")
    with pytest.raises(TypeError, match="an engine's id, a task's id or a result"):
        rc.why(3.5)
