"""What is said when an engine's process dies: how it ended, what it said, what it ran."""

import os
import resource
import signal
import textwrap
import threading

import pytest

from ipkernel_ext import launch
from ipkernel_ext.errors import EngineLost


@pytest.mark.fault("engine code crashes the interpreter")
def test_a_crash_tells_where_it_was_and_no_machinery(cluster):
    with pytest.raises(EngineLost, match=r"signal 11 \(Fatal Python error: Segmentation fault\)") as raised:
        cluster[0].execute("def deep():\n    import ctypes\n    ctypes.string_at(0)\ndeep()")
    lost = raised.value
    assert (lost.engine_id, lost.signal, lost.started, lost.oom) == (0, signal.SIGSEGV, True, False)
    assert "in deep" in lost.last_lines.splitlines()[-2]
    assert "in <module>" in lost.last_lines.splitlines()[-1]
    assert "ipkernel_ext" not in lost.last_lines
    assert any(textwrap.indent(lost.last_lines, "  ") in note for note in lost.__notes__)
    assert f"(task {lost.task})" in str(lost)


def test_a_balanced_task_names_the_engine_and_a_map_its_items(cluster):
    def die(x):
        if x == 5:
            os._exit(7)
        return x

    with pytest.raises(EngineLost, match="exited with code 7") as raised:
        cluster.submit(die, 5).result(20)
    assert raised.value.engine_id in (0, 1)
    cluster.wait_for_engines(2, 20)
    with pytest.raises(EngineLost) as raised:
        cluster.map(die, range(12), chunksize=4)
    assert "in items 4 to 7 of the map" in raised.value.__notes__
    cluster.wait_for_engines(2, 20)
    with pytest.raises(EngineLost) as raised:
        cluster.map(die, range(6), chunksize=1)
    assert "at item 5 of the map" in raised.value.__notes__


@pytest.mark.fault("a task ends every engine it runs on")
def test_a_task_that_kills_engines_is_given_up_after_its_retries_and_named(cluster):
    def die():
        os._exit(1)

    result = cluster.submit(die, retries=2)
    with pytest.raises(EngineLost, match="3 engines have died with it, so it is given up") as raised:
        result.result(30)
    assert raised.value.task in str(raised.value)
    assert cluster.submit(abs, -1).result(20) == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_crash_writes_no_core_file_unless_user_code_wants_one(method):
    with launch(n=1, start_method=method) as rc:
        limits = rc[0].apply(resource.getrlimit, resource.RLIMIT_CORE)
    assert limits == (0, resource.getrlimit(resource.RLIMIT_CORE)[1])


@pytest.mark.fault("an engine dies before the result of the task before has left it")
def test_a_task_that_ends_its_engine_does_not_take_the_result_before_along():
    with launch(n=1, restart_limit=100) as rc:
        for _ in range(10):
            before = [rc[0].apply(lambda x: x, n, block=False) for n in range(20)]
            after = rc[0].apply(lambda: os._exit(3), block=False)
            assert [result.get(20) for result in before] == list(range(20))
            with pytest.raises(EngineLost, match="exited with code 3"):
                after.get(20)
            rc.wait_for_engines(1, 20)
            with pytest.raises(EngineLost, match="restarted"):
                rc[0].apply(int)


def test_who_waits_for_engines_hears_of_one_that_is_not_started_again(monkeypatch):
    monkeypatch.setattr("ipkernel_ext.remote.SILENT", 0.01)
    with launch(n=2, restart_limit=0) as rc:
        with pytest.raises(EngineLost):
            rc[1].apply(os._exit, 3)
        why = r"1 of 2 engines are there after 0.1 s: the last that ended: exited with code 3 \(.*restart_limit is 0"
        with pytest.raises(TimeoutError, match=why):
            rc.wait_for_engines(2, 0.1)
        back = threading.Timer(0.3, rc.cluster.scale, [2])
        back.start()
        with pytest.warns(
            UserWarning, match="1 of 2 engines are there after 0.01 s, and it goes on waiting: the last that"
        ):
            rc.wait_for_engines(2)
        back.join()
        assert len(rc) == 2


def test_a_checkpoint_whose_engine_dies_leaves_the_one_before(cluster, tmp_path):
    path = tmp_path / "run.ckpt"
    cluster.push({"x": 1})
    cluster.checkpoint(path)
    cluster.execute("import os\nclass Fatal:\n    def __reduce__(self): os._exit(9)")
    cluster[1].execute("fatal = Fatal(); x = 2")
    with pytest.raises(ExceptionGroup) as raised:
        cluster.checkpoint(path)
    assert [type(error) for error in raised.value.exceptions] == [EngineLost]
    assert [file.name for file in tmp_path.iterdir() if "ckpt" in file.name] == ["run.ckpt"]
    cluster[0].restore(path, redistribute=True)
    assert cluster[0]["x"] == 1
