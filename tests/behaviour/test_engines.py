"""Which engines a call reaches, and the shape of what it gives."""

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
