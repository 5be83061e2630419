"""Engines that do not answer: the process is stopped, or C code keeps Python's lock."""

import os
import signal

import pytest

from ipkernel_ext import launch
from ipkernel_ext.errors import DependencyFailed, TaskTimeout
from tests.e2e.test_faults import stopped


def wait_for_state(rc, id, state):
    there = rc._link.channel.wait_roster(lambda roster: roster.engines[id].state == state, 20)
    assert there, rc.known


@pytest.mark.fault("an engine stands still for a while")
def test_a_stopped_engine_is_shown_gets_nothing_new_and_is_ready_when_it_goes_on(cluster):
    cluster["a"] = 1
    pid = cluster.known[0].pid
    with stopped(pid):
        assert len(cluster.engines) == 2, "nobody waits for ever"
        wait_for_state(cluster, 0, "unresponsive")
        while (seen := cluster.engines[0]).cpu is None:
            pass  # its agent has measured it once
        assert seen.cpu < 50 and seen.rss > 2**20
        assert "engine 0 has not answered for" in cluster.why(0)
        assert set(cluster.map(lambda x: __import__("os").getpid(), range(8), chunksize=1)) == {cluster.known[1].pid}
        waiting = cluster[0].apply(abs, -1, block=False)
        assert "engine 0 has not answered for" in cluster.why()
        assert "has not begun: engine 0 has not answered for" in cluster.why(waiting)
    assert waiting.get(20) == 1
    assert "is done" in cluster.why(waiting)
    assert cluster.why() == "nothing waits"
    wait_for_state(cluster, 0, "ready")
    assert (cluster.known[0].pid, cluster["a"]) == (pid, [1, 1])


@pytest.mark.fault("an item has a time, and its engine does not answer")
def test_items_end_in_time_on_engines_that_do_not_answer_and_run_once(tmp_path):
    log = tmp_path / "starts"

    def work(x):
        import ctypes
        import os
        import signal

        with open(log, "a") as file:
            file.write(f"{x}\n")
        if x == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        if x == 2:
            ctypes.PyDLL(None).sleep(3600)
        return x

    with launch(n=3) as rc:
        rc.execute("import ctypes, signal")
        result = rc.map(work, range(6), timeout=1.5, chunksize=1, return_exceptions=True, retries=1, block=False)
        after = rc.submit(abs, -1, after=result)
        values = result.get(60)
        assert [value for value in values if not isinstance(value, TaskTimeout)] == [0, 3, 4, 5]
        assert [type(value) for value in values[1:3]] == [TaskTimeout, TaskTimeout]
        assert "each item, from 1 on, had 1.5 s" in str(values[1])
        assert "each item, from 2 on, had 1.5 s" in str(values[2])
        with pytest.raises(DependencyFailed, match="TaskTimeout"):
            after.get(20)
        silent = [engine for engine in rc.engines if engine.state == "unresponsive"]
        stopped, held = sorted(silent, key=lambda engine: engine.running)
        assert (stopped.running, held.running) == ("work() from item 1 on", "work() from item 2 on")
        assert rc.map(abs, [-1, -2, -3]) == [1, 2, 3]
        os.kill(stopped.pid, signal.SIGCONT)
        wait_for_state(rc, stopped.id, "ready")
        assert rc[stopped.id].apply(abs, -1) == 1
        rc[held.id].restart()
        assert [engine.state for engine in rc.engines] == ["ready"] * 3
        assert rc.why() == "nothing waits"
        assert sorted(log.read_text().split()) == ["0", "1", "2", "3", "4", "5"]
