"""Interrupts, deaths and restarts, with real signals."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.errors import (
    CompositeError,
    EngineLost,
    EngineStartError,
    ForkedClientError,
    NotConnected,
    TaskCancelled,
    TaskInterrupted,
)

FOREVER = "print('begun', flush=True)\nwhile True: pass"


def begun(result):
    """Wait until every task of the result has said that it runs."""
    said = 0
    for output in result.follow():
        said += output.text.count("begun")
        if said == len(result):
            return


def test_output_streams_while_the_code_runs(cluster):
    result = cluster.execute(FOREVER, block=False)
    begun(result)
    assert not result.done()
    assert result.stdout == ["begun\n"] * 2
    cluster.interrupt()
    assert isinstance(result.exception(10), CompositeError)


def test_interrupt_reaches_only_its_targets(cluster):
    cluster.push({"kept": 1})
    one, other = cluster[0].execute(FOREVER, block=False), cluster[1].execute(FOREVER, block=False)
    begun(one)
    begun(other)
    cluster.interrupt(targets=0)
    with pytest.raises(TaskInterrupted):
        one.get(10)
    assert not other.done()
    cluster[1].interrupt()
    with pytest.raises(TaskInterrupted):
        other.get(10)
    assert cluster["kept"] == [1, 1]


def test_cancel_takes_queued_tasks_away_and_interrupts_running_ones(cluster):
    running = cluster.execute(FOREVER, block=False)
    queued = cluster.execute("never = 1", block=False)
    begun(running)
    cluster.cancel([queued, running])
    for result in (queued, running):
        with pytest.raises(CompositeError) as raised:
            result.get(10)
        assert all(isinstance(e, TaskCancelled) for e in raised.value.exceptions)
    assert "never" not in cluster


def test_a_cancelled_result_says_that_it_was_cancelled(cluster):
    several, one = cluster.apply(time.sleep, 600, block=False), cluster[0].apply(time.sleep, 600, block=False)
    mixed = cluster.execute("1", block=False)
    for result in (one, several):
        result.cancel()
    done, _ = concurrent.futures.wait([several, one, mixed], 20)
    assert len(done) == 3
    assert (several.cancelled(), one.cancelled(), mixed.cancelled()) == (True, True, False)
    assert isinstance(several.exception(), CompositeError)


def test_clear_queue_leaves_what_runs(cluster):
    running = cluster[0].execute(FOREVER, block=False)
    begun(running)
    queued = cluster[0].execute("never = 1", block=False)
    cluster[0].clear_queue()
    with pytest.raises(TaskCancelled):
        queued.get(10)
    assert not running.done()
    running.cancel()
    with pytest.raises(TaskCancelled):
        running.get(10)


def test_ctrl_c_in_a_blocking_call_cancels_it():
    script = """
        import os, signal, threading
        from ipkernel_ext import launch
        with launch(n=1) as rc:
            rc.execute("a = 1")
            timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
            timer.start()
            try:
                rc.execute("while True: pass")
            except KeyboardInterrupt:
                print("here")
            print(rc["a"])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=50)
    assert done.stdout.split("\n")[:2] == ["here", "[1]"], done.stderr


@pytest.mark.fault("an engine is killed while it runs a task")
@pytest.mark.fault("engine code ends its process")
@pytest.mark.parametrize(
    ("code", "exit_code", "number"),
    [
        ("import os; os._exit(3)", 3, None),
        ("import os; os._exit(0)", 0, None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", None, signal.SIGKILL),
        ("import os; os.abort()", None, signal.SIGABRT),
    ],
)
def test_a_dead_engine_says_how_it_ended_and_that_the_task_had_begun(cluster, code, exit_code, number):
    before = time.monotonic()
    with pytest.raises(EngineLost) as raised:
        cluster[0].execute(code)
    assert time.monotonic() - before < 5
    assert (raised.value.exit_code, raised.value.signal, raised.value.started) == (exit_code, number, True)
    assert cluster[1].execute("1").value == 1


@pytest.mark.fault("an engine is killed while it runs a task")
def test_a_restarted_engine_keeps_its_id_and_is_said_once(cluster):
    cluster.push({"a": 1})
    with pytest.raises(EngineLost):
        cluster[0].execute("import os; os._exit(1)")
    cluster.wait_for_engines(2, 20)
    with pytest.raises(EngineLost) as raised:
        cluster[0].execute("b = 1")
    assert raised.value.restarted
    assert cluster[0].keys() == []
    assert cluster[1]["a"] == 1


def test_engine_code_that_ends_its_process_as_if_all_were_well_gets_a_successor(cluster):
    with pytest.raises(EngineLost):
        cluster[0].execute("import os; os._exit(0)")
    cluster.wait_for_engines(2, 20)
    with pytest.raises(EngineLost, match="was restarted"):
        cluster[0].execute("1")
    assert cluster[0].apply(abs, -1) == 1


def test_while_an_engine_is_restarted_it_is_still_addressed_and_said_to_be_lost_once(cluster):
    cluster["a"] = 1
    with pytest.raises(EngineLost):
        cluster[0].execute("import os; os._exit(7)")
    assert cluster.ids == [0, 1]
    with pytest.raises(CompositeError) as raised:
        cluster.execute("b = 1")
    assert [(type(error), error.restarted) for error in raised.value.exceptions] == [(EngineLost, True)]
    assert cluster.execute("2 + 2")[0].value == 4
    assert "a" not in cluster[0]


def test_restart_gives_empty_namespaces_without_a_word(cluster):
    cluster.push({"a": 1})
    cluster.restart()
    assert cluster.keys() == [[], []]


@pytest.mark.fault("an engine is killed while it runs a task")
def test_balanced_tasks_survive_their_engine_when_they_had_not_begun_or_may_be_retried(cluster, tmp_path):
    marker = tmp_path / "died"

    def die_once(path):
        import os

        if not os.path.exists(path):
            open(path, "w").close()
            os.kill(os.getpid(), 9)
        return "alive"

    assert cluster.submit(die_once, str(marker), retries=1).result(30) == "alive"
    marker.unlink()
    with pytest.raises(EngineLost):
        cluster.submit(die_once, str(marker)).result(30)


@pytest.mark.fault("an engine is killed while it runs a task")
def test_a_map_loses_only_what_the_dead_engine_had_begun(cluster, tmp_path):
    marker = str(tmp_path / "died")

    def work(x):
        import os

        if x == 50 and not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), 9)
        return x

    assert cluster.map(work, range(200), chunksize=1, retries=1) == list(range(200))


@pytest.mark.fault("the controller is killed in the middle of a map")
def test_the_controller_dies_and_nothing_is_lost(cluster):
    cluster.execute("import os; a = os.getpid()")
    pids = cluster["a"]
    slow = cluster.map(lambda x: (__import__("time").sleep(0.02), x)[1], range(200), chunksize=1, block=False)
    for number in range(2):
        next(value for value in slow if value >= 20 * (number + 1))
        os.kill(cluster.status()["controller"]["pid"], signal.SIGKILL)
        cluster.execute(f"b = {number}")
    assert slow.get(30) == list(range(200))
    assert cluster["a"] == pids
    assert cluster["b"] == [1, 1]


@pytest.mark.fault("the controller is killed in the middle of a map")
def test_a_task_runs_once_although_its_controller_died(cluster, tmp_path):
    log = tmp_path / "starts"
    code = f"open({str(log)!r}, 'a').write('x'); import time; print('begun', flush=True); time.sleep(1); 7"
    result = cluster[0].execute(code, block=False)
    begun(result)
    os.kill(cluster.status()["controller"]["pid"], signal.SIGKILL)
    assert result.get(20).value == 7
    assert log.read_text() == "x"


@pytest.mark.fault("a client is forked")
def test_a_fork_of_the_client_says_what_to_do(cluster):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            cluster.execute("1")
        except ForkedClientError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert b"make a new one" in os.read(reader, 1000)
    os.close(reader)
    os.close(writer)
    assert cluster.execute("1")


WAITS = {
    "get": lambda result: result.get(),
    "wait": lambda result: result.wait(),
    "with a time": lambda result: result.get(60),
    "iteration": list,
    "index": lambda result: result[0],
    "output": lambda result: list(result.follow()),
    "exception": lambda result: result.exception(),
}


@pytest.mark.fault("a client is forked")
def test_a_result_that_was_not_there_at_a_fork_is_not_waited_for(cluster, tmp_path):
    done = cluster[0].apply(abs, -1, block=False)
    done.wait(20)
    pending = [cluster.execute(FOREVER, block=False), cluster.map(abs, [-1], block=False)]
    future = cluster.executor().submit(abs, -1)
    waits = {f"{name} {n}": (wait, result) for n, result in enumerate(pending) for name, wait in WAITS.items()}
    waits |= {"result": (lambda future: future.result(60), future), "error": (WAITS["exception"], future)}
    said = tmp_path / "said"
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(10)
            for name, (wait, result) in waits.items():
                try:
                    wait(result)
                except ForkedClientError as error:
                    with said.open("a") as file:
                        file.write(f"{name}: {done.get()} {error}\n")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    cluster.cancel(pending)
    lines = said.read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == list(waits)
    assert all("1 this result was not there yet when its process was forked" in line for line in lines)
    concurrent.futures.wait([*pending, future], 20)


LEAVING = """
import os, sys, signal
from ipkernel_ext import launch
from ipkernel_ext.errors import ForkedClientError
signal.alarm(60)
with launch(n=1) as rc:
    pending = rc.execute("import time; time.sleep(600)", block=False)
    before = rc.status()["controller"]["pid"]
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)  # a child that hangs does not leave with 7
        try:
            rc.ids, sys.exit(1)
        except ForkedClientError:
            WAY
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    pending.cancel()
    print(rc.apply(abs, -1), rc.status()["controller"]["pid"] == before)
"""


@pytest.mark.fault("a client is forked")
@pytest.mark.parametrize(
    "way", ["rc.close()", "rc.__exit__(None, None, None)", "repr(rc)", "rc.cluster.launched.stop()"]
)
def test_a_fork_that_leaves_does_nothing_to_the_cluster(way):
    ran = subprocess.run(
        [sys.executable, "-c", LEAVING.replace("WAY", way)], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout == "7\n[1] True\n", ran.stderr


@pytest.mark.fault("engine code forks, and the child comes back")
def test_user_code_that_forks_does_not_run_twice(cluster):
    results = cluster[0].execute("import os\nif os.fork() == 0: x = 'child'\nelse: x = 'parent'; os.wait()")
    assert results.engine_id == 0
    assert cluster[0]["x"] == "parent"


@pytest.mark.fault("engines do not start")
def test_launch_leaves_nothing_when_engines_do_not_come(tmp_path):
    with pytest.raises(EngineStartError, match="of 1 engine is"):
        launch(n=1, env={"PYTHONSTARTUP": "", "IPYTHONDIR": str(tmp_path)}, timeout=0)


def test_shutdown_ends_the_cluster_and_says_so():
    rc = launch(n=1)
    pid = rc.engines[0].pid
    unfinished = rc.execute("import time; time.sleep(60)", block=False)
    rc.shutdown()
    assert not psutil.pid_exists(pid)
    assert isinstance(unfinished.exception(5), CompositeError)
    with pytest.raises(NotConnected, match="ended"):
        rc.execute("1")
    rc.close()


def test_leaving_launch_cancels_what_is_unfinished():
    with launch(n=1) as rc:
        result = rc[0].execute("import time; time.sleep(60)", block=False)
    with pytest.raises(TaskCancelled):
        result.get(5)


@pytest.mark.fault("the owner of a cluster is killed")
def test_a_killed_client_leaves_nothing():
    script = """
        import os, signal
        from ipkernel_ext import launch
        rc = launch(n=1)
        print(rc.engines[0].pid, rc.status()["controller"]["pid"], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=50)
    processes = [psutil.Process(int(pid)) for pid in done.stdout.split() if psutil.pid_exists(int(pid))]
    parents = [p.parent() for p in processes]
    _, alive = psutil.wait_procs([*processes, *[p for p in parents if p is not None and p.pid != 1]], timeout=20)
    assert not alive


def test_a_process_pool_on_an_engine_comes_to_its_end(cluster):
    code = "from multiprocessing import Pool\nwith Pool(2) as pool: z = pool.map(abs, [-1, -2])\nz"
    for _ in range(5):
        assert cluster[0].execute(code).value == [1, 2]


@pytest.mark.fault("engine code leaves processes behind")
def test_what_user_code_starts_ends_with_its_engine():
    with launch(n=1) as rc:
        code = "import os\npid = os.fork()\nif pid == 0:\n    import time\n    time.sleep(300)\n    os._exit(0)"
        rc.execute(code)
        child = psutil.Process(rc[0]["pid"])
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


@pytest.mark.fault("several engines are killed at once")
def test_all_engines_may_die_at_once_and_all_come_back():
    with launch(n=5) as rc:
        before = {engine.boot for engine in rc.engines}
        for engine in rc.engines:
            os.kill(engine.pid, signal.SIGKILL)
        back = rc._link.channel.wait_roster(
            lambda r: len(r.ids) == 5 and not before & {e.boot for e in r.engines.values()}, 20
        )
        assert back
        assert rc.ids == [0, 1, 2, 3, 4]


def test_closing_one_client_of_a_shared_cluster_says_so(cluster):
    other = RemoteController(connection_file=cluster.cluster.launched.place.connection("client"))
    result = other[0].execute("import time; time.sleep(0.5); v = 6", block=False)
    other.close()
    with pytest.raises(TaskCancelled, match="was closed before the result came"):
        result.get(5)
    begun = time.monotonic()
    with pytest.raises(NotConnected, match="is closed"):
        other.execute("1")
    assert time.monotonic() - begun < 1
    assert cluster[0].execute("v").value == 6
