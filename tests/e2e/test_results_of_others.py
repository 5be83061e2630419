"""Results outlive their clients: whoever knows a task's id gets them, with all that was printed."""

import os
import queue
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ipkernel_ext import RemoteController
from ipkernel_ext.errors import ResultExpired, ResultTooLarge
from ipkernel_ext.net import client_channel
from ipkernel_ext.results import MapResult

LEAVES = """
import os, sys
from ipkernel_ext import RemoteController

rc = RemoteController(connection_file=sys.argv[1])
lines = [
    "import os, time",
    "print('first', flush=True)",
    f"while not os.path.exists({sys.argv[2]!r}): time.sleep(0.01)",
    "print('last')",
    "6 * 7",
]
results = [
    rc[0].execute("\\n".join(lines), block=False),
    rc[1].apply(lambda: __import__("numpy").arange(5.0), block=False),
    rc[1].execute("1 / 0", block=False),
]
while "first" not in results[0].stdout:
    pass
results[1].wait(), results[2].wait()
print(*(result.task_ids[0] for result in results), flush=True)
if sys.argv[3] == "goodbye":
    rc.close()
os._exit(0)
"""


def client_of(cluster):
    return RemoteController(connection_file=cluster.cluster.launched.place.connection("client"))


def leave(cluster, go, how):
    """Ids of the tasks of a client that has ended; the first of them runs until there is a file."""
    file = cluster.cluster.launched.place.connection("client")
    ran = subprocess.run([sys.executable, "-c", LEAVES, file, go, how], check=True, capture_output=True, text=True)
    return ran.stdout.split()


@pytest.mark.fault("a client is gone before its results come")
@pytest.mark.parametrize("how", ["goodbye", "killed"])
def test_what_was_under_way_when_its_client_ended_is_found_by_id(cluster, tmp_path, how):
    running, *collected = leave(cluster, tmp_path / "go", how)
    result = cluster.get_result(running)
    assert not result.wait(0)
    (tmp_path / "go").touch()
    cell = result.get(20)
    assert cell.stdout == "first\nlast\n"
    assert cell.value == 42
    assert result.task_ids == [running]
    for id in collected if how == "goodbye" else ():
        with pytest.raises(ResultExpired, match=f"no result of task {id} is here: its client has collected it"):
            cluster.get_result(id).get(20)


@pytest.mark.fault("a client is gone before its results come")
def test_results_in_the_store_survive_the_controller(cluster, tmp_path):
    gate = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)"
    with client_of(cluster) as other:
        other[0].execute(gate, block=False)
        array = other[0].apply(np.arange, 5.0, block=False).task_ids[0]
        error = other[0].execute("1 / 0", block=False).task_ids[0]
    (tmp_path / "go").touch()
    np.testing.assert_array_equal(cluster.get_result(array).get(20), np.arange(5.0))
    with pytest.raises(ZeroDivisionError):
        cluster.get_result(error).get(20)
    os.kill(cluster.status()["controller"]["pid"], signal.SIGKILL)
    cluster[0].apply(abs, -1)
    np.testing.assert_array_equal(cluster.get_result(array).get(20), np.arange(5.0))
    with pytest.raises(ZeroDivisionError):
        cluster.get_result(error).get(20)


def test_another_client_may_wait_for_a_result_too(cluster, tmp_path):
    gate = f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)"
    mine = cluster[1].execute(f"import os, time\nprint(1, flush=True)\n{gate}\nprint(2)", block=False)
    with client_of(cluster) as other:
        theirs = other.get_result(mine.task_ids[0])
        (tmp_path / "go").touch()
        assert theirs.get(20).stdout == mine.get(20).stdout == "1\n2\n"


def test_a_value_too_large_for_the_store_stays_with_its_engine(cluster):
    with client_of(cluster) as other:
        id = other[0].apply(np.ones, 9_000_000, block=False).task_ids[0]
    assert cluster.get_result(id).get(20).sum() == 9_000_000
    assert cluster.get_result(id).get(20).sum() == 9_000_000


def test_one_that_is_too_large_for_this_client_can_be_fetched_again(cluster):
    with client_of(cluster) as other:
        [task] = other[0].apply(bytes, 20_000, block=False).task_ids
        other.get_result(task).wait()
        cluster.max_result = 10_000
        with pytest.raises(ResultTooLarge):
            cluster.get_result(task).get(20)
        cluster.max_result = 0
        assert len(cluster.get_result(task).get(20)) == 20_000


def test_a_task_of_ones_own_is_found_by_its_id_while_it_is_under_way(cluster):
    running = cluster.submit(time.sleep, 600)
    assert cluster.get_result(running.task_ids[0]) is running
    running.cancel()
    running.wait(20)
    with pytest.raises(LookupError, match="is only with whoever has kept it"):
        cluster.get_result(running.task_ids[0])


def test_a_result_that_cannot_be_taken_is_told_and_others_still_come(cluster, monkeypatch):
    told = queue.SimpleQueue()
    monkeypatch.setattr(client_channel.log, "exception", lambda text, *_: told.put(text))
    monkeypatch.setattr(MapResult, "_on_piece", lambda result, index: 1 / 0)
    cluster.map(abs, [-1], block=False)
    assert "could not be taken" in told.get(timeout=20)
    assert cluster.submit(abs, -2).get(20) == 2
    assert told.empty()
