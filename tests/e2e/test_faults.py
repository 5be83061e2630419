"""Faults that are injected for real, one at a time: what the user is told, how soon, and what goes on."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import psutil
import pytest

from ipkernel_ext import RemoteController, launch, waiting
from ipkernel_ext.config import connection
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import EngineLost, NoAnswer, NoEngines, NoSuchEngine, NotConnected, ParallelError
from ipkernel_ext.net.doors import SPARE
from tests.e2e.test_commands import first_lines
from tests.e2e.test_life_and_death import FOREVER, begun

SOON = 2.0  # seconds; on an idle machine it takes some hundredths of one


@contextlib.contextmanager
def soon(seconds=SOON):
    """What is inside takes no longer than this."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@contextlib.contextmanager
def stopped(pid):
    """A process that stands still meanwhile; its threads may go on for a moment after the signal was sent."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            pass
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def controller_of(rc):
    return rc.status()["controller"]["pid"]


# ---------------------------------------------------------------- an engine


@pytest.mark.fault("an engine is killed while it is idle")
def test_an_idle_engine_is_killed(cluster):
    cluster.push({"kept": 1})
    victim = cluster.engines[0]
    os.kill(victim.pid, signal.SIGKILL)
    with soon(), pytest.raises(EngineLost, match="signal 9") as raised:
        cluster[0].execute("1")
    assert raised.value.started is not True
    cluster.wait_for_engines(2, 20)
    with contextlib.suppress(EngineLost):  # that there is another one, with an empty namespace
        cluster[0].keys()
    assert cluster[0].keys() == []
    assert cluster[1]["kept"] == 1


@pytest.mark.fault("engine code holds Python's lock in C for ever")
def test_an_engine_that_holds_pythons_lock_is_left_alone_until_it_is_killed(cluster):
    code = "import ctypes; print('begun', flush=True); import time; time.sleep(0.1); ctypes.PyDLL(None).sleep(3600)"
    stuck = cluster[0].execute(code, block=False)
    begun(stuck)
    assert cluster[1].execute("6 * 7").value == 42
    assert {engine.state for engine in cluster.engines} == {"ready"}
    assert not stuck.done()
    with soon(5):
        cluster[0].kill()
        assert isinstance(stuck.exception(10), EngineLost)
    assert cluster[1].execute("6 * 7").value == 42


@pytest.mark.fault("an engine stands still for a while")
def test_an_engine_that_was_stopped_goes_on_as_itself(cluster):
    before = cluster.engines[0]
    cluster.push({"kept": 1})
    with stopped(before.pid):
        waiting = cluster[0].execute("kept + 41", block=False)
        assert cluster.map(abs, range(-20, 0)) == list(range(20, 0, -1))
        assert cluster[1].execute("kept").value == 1
        assert not waiting.done()
    with soon():
        assert waiting.get(10).value == 42
    assert cluster.engines[0].boot == before.boot


@pytest.mark.fault("an engine has no memory left by its own limit")
def test_a_limit_of_memory_is_an_error_of_the_cell(cluster):
    code = """
        import resource
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
        kept = 1
    """
    cluster[0].execute(textwrap.dedent(code))
    for _ in range(3):
        with pytest.raises(MemoryError):
            cluster[0].execute("x = bytearray(2**30)")
    assert cluster[0]["kept"] == 1


@pytest.mark.fault("engine code has opened all the files it may")
def test_no_file_left_is_an_error_of_the_cell_and_the_engine_can_be_told_of(cluster):
    code = """
        import os
        opened = []
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    """
    with pytest.raises(OSError, match="Too many open files"):
        cluster[0].execute(
            f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n{textwrap.dedent(code)}"
        )
    assert cluster[0].execute("len(opened) > 100").value
    cluster[0].execute("for file in opened: os.close(file)")
    assert cluster[0].execute("print('still here')").stdout == "still here\n"


@pytest.mark.fault("engine code closes files that are not its own")
def test_an_engine_whose_connections_were_closed_is_lost_or_goes_on_but_never_hangs(cluster):
    cluster[1].push({"kept": 1})
    result = cluster[0].execute("import os; os.closerange(3, 256); 6 * 7", block=False)
    with soon(15):
        error = result.exception(15)
    assert error is None or isinstance(error, EngineLost)
    assert cluster[1]["kept"] == 1
    cluster.wait_for_engines(2, 20)


@pytest.mark.fault("what engine code left to be done at its end does not end")
def test_an_exit_handler_that_hangs_does_not_hold_the_cluster_up():
    with launch(n=1) as rc:
        rc.execute("import atexit, time; atexit.register(time.sleep, 300)")
        rc.execute("class Slow:\n    def __del__(self): time.sleep(300)\nslow = Slow()")
        process = psutil.Process(rc.engines[0].pid)
        start = time.monotonic()
    assert time.monotonic() - start < 8
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


# ---------------------------------------------------------------- the controller


@pytest.mark.fault("the controller is killed during a large transfer")
def test_a_large_push_survives_its_controller(cluster):
    value = bytes(range(256)) * 2**19  # 128 MB
    result = cluster.push({"large": value}, block=False)
    for _ in range(2):
        os.kill(controller_of(cluster), signal.SIGKILL)
    result.get(40)
    assert cluster.execute("import zlib; len(large), zlib.crc32(large)").values == [(len(value), zlib.crc32(value))] * 2


@pytest.mark.fault("the controller is away for long")
def test_while_there_is_no_controller_calls_say_so_and_work_waits(command):
    controller = command("ipcontroller")
    first_lines(controller, 4)
    command("ipengine")
    with RemoteController() as rc:
        rc.wait_for_engines(1, 20)
        running = rc[0].execute("print('begun', flush=True); import time; time.sleep(0.5); kept = 41", block=False)
        begun(running)
        controller.kill()
        controller.wait()
        rc.timeout = 0.3
        with soon(), pytest.raises(NotConnected, match="controller"):
            rc.status()
        assert not running.wait(1.0)
        first_lines(command("ipcontroller"), 4)
        rc.timeout = 10
        running.get(20)
        assert rc[0]["kept"] == 41


@pytest.mark.fault("the controller dies while the engine that runs a task stands still")
def test_a_task_is_not_given_to_another_engine_because_its_own_is_slow_to_come_back(cluster, tmp_path):
    ledger = tmp_path / "ledger"

    def work(path):
        import os
        import time

        with open(path, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.5)
        return 42

    result = cluster.submit(work, str(ledger))
    while not ledger.exists() or not ledger.read_text():
        pass
    (pid,) = map(int, ledger.read_text().split())
    (other,) = [engine.id for engine in cluster.engines if engine.pid != pid]
    with stopped(pid):
        os.kill(controller_of(cluster), signal.SIGKILL)
        assert cluster[other].execute("6 * 7").value == 42
        assert not result.done()
    assert result.result(20) == 42
    assert ledger.read_text().split() == [str(pid)]


@pytest.mark.fault("the controller stands still for a while")
def test_a_controller_that_was_stopped_takes_nobody_for_dead(cluster):
    cluster.push({"kept": 1})
    boots = [engine.boot for engine in cluster.engines]
    running = cluster.execute("print('begun', flush=True); import time; time.sleep(0.5); kept + 1", block=False)
    begun(running)
    with stopped(controller_of(cluster)):
        later = cluster.execute("kept + 2", block=False)
        assert not later.wait(1.0)
    with soon(5):
        assert running.get(10).values == [2, 2]
        assert later.get(10).values == [3, 3]
    assert [engine.boot for engine in cluster.engines] == boots


@pytest.mark.fault("the controller has no descriptor left for another connection")
@pytest.mark.parametrize("way", ["unix", "tcp"])
def test_a_controller_without_descriptors_goes_on_and_recovers(command, way):
    """Where libzmq finds none it ends the process."""
    controller = command("ipcontroller", "--ip=127.0.0.1")
    first_lines(controller, 7)
    command("ipengine")
    place = Place.of_profile(None)
    port = int(connection.read(place.connection("client")).tcp[0].rpartition(":")[2])
    with RemoteController() as rc:
        rc.wait_for_engines(1, 20)
        limit = psutil.Process(controller.pid).num_fds() + SPARE + 50
        resource.prlimit(controller.pid, resource.RLIMIT_NOFILE, (limit, limit))
        strangers = []
        for _ in range(20):
            for _ in range(10):
                strangers.append(stranger := socket.socket(socket.AF_UNIX if way == "unix" else socket.AF_INET))
                stranger.connect(str(place.socket) if way == "unix" else ("127.0.0.1", port))
            assert rc.execute("6 * 7").values == [42]
        assert rc.status()["controller"]["refused"] > 100
        for stranger in strangers:
            stranger.close()
        with RemoteController() as another, soon():
            assert another.execute("6 * 7").values == [42]
        assert rc.status()["controller"]["pid"] == controller.pid
    controller.terminate()
    controller.wait(10)
    assert len(controller.stderr.read().splitlines()) < 6


# ---------------------------------------------------------------- a client


@pytest.mark.fault("a client is killed in the middle of a map")
def test_a_killed_clients_work_holds_nobody_up(cluster):
    script = """
        import os, signal, sys
        from ipkernel_ext import RemoteController
        rc = RemoteController(connection_file=sys.argv[1])
        rc.map(lambda x: __import__("time").sleep(0.01), range(200), chunksize=1, block=False)
        rc.status()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    file = str(cluster.cluster.launched.place.connection("client"))
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), file], timeout=30)
    assert done.returncode == -signal.SIGKILL
    with soon(5):
        assert cluster.execute("6 * 7").values == [42, 42]
    until = time.monotonic() + 20
    while any(isinstance(q, dict) and (q["queued"] or q["running"]) for q in cluster.queue_status().values()):
        assert time.monotonic() < until
    assert cluster.queue_status()["unassigned"] == 0


@pytest.mark.fault("a client stands still while its results come")
def test_a_stopped_client_slows_nobody_down_and_gets_all_in_the_end(cluster):
    script = """
        import sys
        from ipkernel_ext import RemoteController
        rc = RemoteController(connection_file=sys.argv[1])
        result = rc.map(lambda x: b"x" * 10_000, range(3000), chunksize=1, block=False)
        next(iter(result))
        print("begun", flush=True)
        print(sum(map(len, result.get(40))), flush=True)
    """
    file = str(cluster.cluster.launched.place.connection("client"))
    command = [sys.executable, "-c", textwrap.dedent(script), file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout.readline() == "begun\n"
        with stopped(client.pid):
            for _ in range(50):
                with soon():
                    assert cluster.execute("6 * 7").values == [42, 42]
        assert client.stdout.readline() == "30000000\n"


@pytest.mark.fault("a client stands still while more results come than the controller may hold")
@pytest.mark.slow
def test_what_a_stopped_client_does_not_take_is_not_in_the_controllers_memory(cluster):
    script = """
        import sys
        from ipkernel_ext import RemoteController
        rc = RemoteController(connection_file=sys.argv[1])
        result = rc.map(lambda x: b"x" * 50_000, range(16_000), chunksize=1, block=False)
        next(iter(result))
        print("begun", flush=True)
        print(sum(map(len, result.get(60))), flush=True)
    """
    controller = psutil.Process(cluster.status()["controller"]["pid"])
    before = controller.memory_info().rss
    file = str(cluster.cluster.launched.place.connection("client"))
    command = [sys.executable, "-c", textwrap.dedent(script), file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout.readline() == "begun\n"
        with stopped(client.pid):
            most = 0
            while any(row["running"] or row["queued"] for row in rows_of(cluster)):
                most = max(most, controller.memory_info().rss - before)
                assert cluster.execute("6 * 7").values == [42, 42]
        assert client.stdout.readline() == "800000000\n"
    assert most < 400e6, f"{most / 1e6:.0f} MB"


def rows_of(cluster):
    """What is said of each engine's queue."""
    return [row for engine, row in cluster.queue_status().items() if engine != "unassigned"]


@pytest.fixture
def mistaken(tmp_path, monkeypatch):
    """Has a method of controllers meet tasks of a given code with a mistake."""

    def plant(module, kind, method, code):
        text = f"""
            import sys
            if "ipkernel_ext.nursery.controller" in sys.orig_argv:
                from ipkernel_ext.core.{module} import {kind}
                right = {kind}.{method}
                def mistaken(self, *args):
                    if {code!r} in str([getattr(arg, "work", arg) for arg in args]):
                        1 / 0
                    return right(self, *args)
                {kind}.{method} = mistaken
        """
        (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(text))
        monkeypatch.syspath_prepend(tmp_path)

    return plant


@pytest.mark.fault("a message brings a mistake in the controller to light")
@pytest.mark.parametrize(
    ("where", "anew"),
    [(("controller", "ControllerCore", "_on_submit"), False), (("dispatch", "Dispatch", "place"), True)],
)
def test_a_mistake_in_the_controller_fails_what_met_it_and_nothing_else(mistaken, where, anew):
    mistaken(*where, "poison")
    with launch(n=2) as rc:
        rc.push({"kept": 1})
        pid = rc.status()["controller"]["pid"]
        running = rc.map(lambda x: (time.sleep(0.01), x)[1], range(100), chunksize=1, block=False)
        with pytest.raises(ParallelError, match="by a mistake in it .*ZeroDivisionError"):
            rc[0].execute("poison")
        assert rc["kept"] == [1, 1]
        assert running.get(20) == list(range(100))
        assert (rc.status()["controller"]["pid"] != pid) is anew
        assert "division by zero" in (rc.cluster.launched.place.logs / "controller.log").read_text()


@pytest.mark.fault("a message brings a mistake in the controller to light")
def test_a_question_that_meets_a_mistake_is_answered_at_once(mistaken):
    mistaken("controller", "ControllerCore", "_on_ask", "queue_status")
    with launch(n=1) as rc, soon():
        with pytest.raises(ParallelError, match="by a mistake in it .*ZeroDivisionError"):
            rc.queue_status()
        assert rc.status()["engines"]


@pytest.mark.fault("a script ends while its calls have not")
def test_a_script_ends_although_its_calls_have_not(cluster):
    script = """
        import sys
        from ipkernel_ext import RemoteController
        rc = RemoteController(connection_file=sys.argv[1])
        result = rc[0].execute("import time; time.sleep(2)", block=False)
        waiting = rc.submit(abs, -1)
    """
    file = str(cluster.cluster.launched.place.connection("client"))
    with soon(6):
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), file], capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.fault("engine code runs in an endless loop")
def test_an_endless_loop_is_interrupted_and_costs_nothing_else(cluster):
    cluster.push({"kept": 1})
    result = cluster[0].execute(FOREVER, block=False)
    begun(result)
    assert cluster[1].execute("kept").value == 1
    with soon():
        cluster[0].interrupt()
        assert result.exception(10) is not None
    assert cluster[0]["kept"] == 1


# ---------------------------------------------------------------- files


def connects(file):
    """A new client, as soon as one can connect."""
    until = time.monotonic() + 20
    while True:
        try:
            return RemoteController(connection_file=file)
        except NotConnected:
            assert time.monotonic() < until


@pytest.mark.fault("somebody removes the socket of the controller, or all files of a cluster")
@pytest.mark.parametrize("what", ["socket", "directory"])
def test_what_was_removed_is_made_anew(cluster, what):
    place = cluster.cluster.launched.place
    cluster.push({"kept": 1})
    running = cluster[0].execute("print('begun', flush=True); import time; time.sleep(1); 42", block=False)
    begun(running)
    if what == "socket":
        place.socket.unlink()
    else:
        shutil.rmtree(place.directory)
    with connects(place.connection("client")) as another:
        another.wait_for_engines(2, 20)
        assert another.execute("kept").values == [1, 1]
        assert running.get(20).value == 42
        assert cluster["kept"] == [1, 1]
        assert place.agent_pid() is not None
    os.kill(cluster.engines[1].pid, signal.SIGKILL)
    cluster.wait_for_engines(2, 20)
    assert cluster[0]["kept"] == 1


# ---------------------------------------------------------------- what is told of a death


@pytest.mark.fault("engine code crashes the interpreter")
def test_of_a_later_death_nothing_of_an_earlier_ones_is_told(cluster):
    with pytest.raises(EngineLost, match="Segmentation fault") as raised:
        cluster[0].execute("import ctypes; ctypes.string_at(0)")
    assert raised.value.last_lines.startswith("Fatal Python error: Segmentation fault\n")
    assert "ctypes" in raised.value.last_lines
    cluster.wait_for_engines(2, 20)
    with contextlib.suppress(EngineLost):
        cluster[0].keys()
    with pytest.raises(EngineLost, match="signal 9") as raised:
        cluster[0].execute("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert "Segmentation" not in str(raised.value)
    assert raised.value.last_lines == ""
    assert not raised.value.oom


MEMORY = 400 * 2**20


@pytest.fixture
def small_cgroup():
    """A cgroup with little memory, to start processes in."""
    cgroup = Path("/sys/fs/cgroup")
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    if "memory" in own:
        directory, limit = cgroup / "memory" / own["memory"].lstrip("/") / "small", "memory.limit_in_bytes"
    else:
        directory, limit = cgroup / own[""].lstrip("/") / "small", "memory.max"
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup of its own can be made here: {error}")
    try:
        (directory / limit).write_text(str(MEMORY))
        yield directory
    except OSError as error:
        pytest.skip(f"its memory cannot be limited here: {error}")
    finally:
        while (directory / "cgroup.procs").read_text():
            pass
        directory.rmdir()


@pytest.mark.fault("the kernel kills an engine for want of memory")
def test_an_engine_that_the_kernel_killed_for_want_of_memory_is_told_to_be_so(small_cgroup):
    script = """
        import os, sys
        open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
        from ipkernel_ext import launch
        from ipkernel_ext.errors import EngineLost
        with launch(n=2) as rc:
            rc[1]["kept"] = 1
            try:
                rc[0].execute("x = b'x' * 2**30")
            except EngineLost as error:
                print(error.signal, error.oom, error.started, rc[1]["kept"])
                print(error)
            rc.wait_for_engines(2, 20)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(small_cgroup)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    facts, text, *_ = done.stdout.splitlines()
    assert facts == "9 True True 1", done.stdout + done.stderr
    assert "killed by signal 9 from the kernel, for want of memory" in text


@pytest.mark.fault("the controller is killed in the middle of a map")
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_twenty_deaths_of_the_controller_cost_none_of_ten_thousand_items(tmp_path):
    ledger = str(tmp_path / "ledger")

    def work(x):
        file = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, b"%d\n" % x)
        os.close(file)
        time.sleep(0.001)
        return x

    with launch(n=2, restart_limit=1000) as rc:
        rc.push({"kept": 1})
        result = rc.map(work, range(10_000), chunksize=5, block=False)
        for death in range(20):
            while result.progress < 480 * (death + 1):
                assert not result.wait(0.01)
            os.kill(controller_of(rc), signal.SIGKILL)
        assert result.get(60) == list(range(10_000))
        assert rc["kept"] == [1, 1]
    with open(ledger) as file:
        assert sorted(map(int, file)) == list(range(10_000))


@pytest.mark.fault("engine code prints without end")
def test_a_flood_of_output_costs_nobody_else_and_can_be_interrupted(cluster):
    result = cluster[0].execute("print('begun', flush=True)\nwhile True: print('x' * 100)", block=False)
    begun(result)
    for _ in range(50):
        with soon():
            assert cluster[1].execute("6 * 7").value == 42
    with soon(5):
        cluster[0].interrupt()
        assert result.exception(10) is not None
    assert cluster[0].execute("6 * 7").value == 42


@pytest.mark.fault("the controller is stopped")
def test_a_controller_that_is_silent_is_told_to_who_waits(cluster, capsys, monkeypatch):
    monkeypatch.setattr(waiting, "ASKS_AFTER", 0.0)
    monkeypatch.setattr(waiting, "SILENT", 0.1)
    with stopped(controller_of(cluster)):
        pending = cluster[0].execute("6 * 7", block=False)
        with soon(), pytest.raises(TimeoutError):
            pending.get(0.5)
        assert "the controller has not answered for 0 s" in capsys.readouterr().err
    assert pending.get(20).value == 42


@pytest.mark.fault("an engine dies again and again")
def test_an_engine_that_does_not_stay_up_is_given_up_and_that_is_said():
    with launch(n=1, restart_limit=2) as rc, soon(10):
        view = rc[0]
        while rc.ids:
            with contextlib.suppress(EngineLost, NoSuchEngine):
                view.execute("import os; os._exit(3)")
        result = rc.submit(abs, -1)
        with pytest.raises(NoEngines, match="engines do not stay up"):
            result.result(5)
        told = "exited with code 3.* died 3 times within 10 s, so it is not started again until the cluster is scaled"
        for call in (
            lambda: rc[0],
            lambda: rc[[0]],
            lambda: rc.execute("1", targets=0),
            lambda: rc.submit(abs, -1, targets=[0]),
            lambda: rc.debug(0),
            view.restart,
        ):
            with pytest.raises(NoSuchEngine, match=told):
                call()
        with pytest.raises((EngineLost, NoSuchEngine), match=told):
            view.execute("1")
        with pytest.raises(NoAnswer, match=told):
            view.peek("a")
        rc.cluster.scale(1)
        assert rc[0].execute("6 * 7").value == 42
