"""The agent, its zygote and its engines, with real processes that are really killed."""

import json
import math
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import EngineLost, EngineStartError, NoSuchEngine
from ipkernel_ext.launcher import Cluster, adopt, stop_profile


def processes_of(rc):
    """All processes of a cluster."""
    found = [psutil.Process(engine.pid) for engine in rc.engines]
    found.append(psutil.Process(rc.status()["controller"]["pid"]))
    agent = found[-1].parent()
    return [agent, *agent.children(recursive=True)]


def gone(processes):
    """Wait until they have ended; those that have not."""
    _, alive = psutil.wait_procs(processes, timeout=20)
    return alive


def zygote_of(rc):
    agent = psutil.Process(rc.engines[0].pid).parent()
    (zygote,) = [process for process in agent.children() if process.name() == "zygote"]
    return zygote


@pytest.fixture
def daemonized():
    """The default profile's cluster, which nobody owns."""
    cluster = Cluster(2, profile="default", owned=False)
    cluster.start()
    try:
        with cluster.connect() as rc:
            cluster.wait_ready(rc, 20)
            yield rc
    finally:
        stop_profile("default")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_engines_are_children_of_the_agent_and_begin_alike(method, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/of/the/user")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    with launch(n=2, start_method=method, env={"OMP_NUM_THREADS": "3"}) as rc:
        parents = {psutil.Process(engine.pid).parent().pid for engine in rc.engines}
        assert len(parents) == 1
        assert [psutil.Process(engine.pid).name() for engine in rc.engines] == ["engine 0", "engine 1"]
        assert [os.getsid(engine.pid) for engine in rc.engines] == [engine.pid for engine in rc.engines]
        assert str(rc[0].execute("1+1")) == "Out[0:1]: 2"
        assert str(rc[0].execute("2+2")) == "Out[0:2]: 4"
        begins = rc[1].apply(
            lambda: (__import__("sys").path, __import__("os").environ.get("PYTHONPATH"), __import__("os").getcwd())
        )
        assert begins == (sys.path, "/of/the/user", str(tmp_path))
        limits = rc.apply(lambda: [__import__("os").environ[n] for n in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")])
        assert limits == [["3", "3"]] * 2


def test_no_two_engines_draw_the_same_numbers():
    with launch(n=3) as rc:
        rc.execute("import random, uuid, numpy; drawn = random.random(), numpy.random.rand(), uuid.uuid4()")
        drawn = rc["drawn"]
    assert all(len(set(column)) == 3 for column in zip(*drawn, strict=True))


def test_threads_of_loaded_libraries_follow_the_limit():
    with launch(n=1, env={"OMP_NUM_THREADS": "2"}) as rc:
        code = "from threadpoolctl import threadpool_info\n[pool['num_threads'] for pool in threadpool_info()]"
        assert set(rc[0].execute(f"import numpy\n{code}").value) == {2}


@pytest.mark.fault("the zygote is killed")
def test_a_killed_zygote_takes_nothing_with_it_and_comes_back(cluster):
    cluster.push({"kept": 1})
    zygote = zygote_of(cluster)
    zygote.kill()
    assert not gone([zygote])
    with pytest.raises(EngineLost):
        cluster[0].execute("import os; os._exit(1)")
    cluster.wait_for_engines(2, 20)
    assert cluster[1]["kept"] == 1
    assert zygote_of(cluster).pid != zygote.pid


@pytest.mark.fault("the agent of an owned cluster is killed")
def test_a_killed_agent_takes_all_with_it_when_somebody_owns_it():
    rc = launch(n=2)
    rc[0].execute("import subprocess; child = subprocess.Popen(['sleep', '300'])")
    processes = processes_of(rc)
    assert processes[-1].name() == "sleep"
    directory = rc.cluster.launched.place.directory
    processes[0].kill()
    assert not gone(processes)
    assert not directory.exists()
    rc.close()


@pytest.mark.fault("the agent of a daemonized cluster is killed")
def test_a_killed_agent_has_a_successor_when_nobody_owns_it(daemonized):
    rc = daemonized
    rc.execute("import os; kept = os.getpid()")
    before = rc["kept"]
    agent = psutil.Process(int(Place.of_profile(None).agent.read_text()))
    agent.kill()
    assert not gone([agent])
    rc.execute("more = 1")
    assert adopt(Place.of_profile(None))
    assert not adopt(Place.of_profile(None))
    assert rc["kept"] == before
    os.kill(rc.engines[0].pid, signal.SIGKILL)
    rc._link.channel.wait_roster(lambda roster: len(roster.ids) == 2 and roster.engines[0].pid != before[0], 20)
    assert rc[1]["kept"] == before[1]
    with pytest.raises(EngineLost):
        rc[0].keys()
    assert rc[0].keys() == []


@pytest.mark.fault("the agent of a daemonized cluster is killed")
def test_what_died_with_the_agent_comes_back_with_its_successor(daemonized):
    rc = daemonized
    rc.push({"kept": 1})
    agent = psutil.Process(int(Place.of_profile(None).agent.read_text()))
    victims = [agent, psutil.Process(rc.engines[0].pid), psutil.Process(rc.status()["controller"]["pid"])]
    for victim in victims:
        victim.kill()
    assert not gone(victims)
    done = subprocess.run(
        [sys.executable, "-m", "ipkernel_ext.commands", "ipcluster", "status"],
        capture_output=True,
        text=True,
        timeout=50,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    rc.wait_for_engines(2, 20)
    assert rc[1]["kept"] == 1


def test_stop_ends_what_a_killed_agent_left(daemonized):
    processes = processes_of(daemonized)
    processes[0].kill()
    assert not gone(processes[:1])
    stop_profile("default")
    assert not gone(processes)
    assert not Place.of_profile(None).directory.exists()


@pytest.mark.parametrize("way", ["close the terminal", "Ctrl-C"])
def test_the_end_of_the_terminal_ends_all(way):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "ipkernel_ext.commands", "ipcluster", "start", "-n", "2"])
    shown = b""
    while b"Ctrl-C ends them" not in shown:
        shown += os.read(terminal, 1000)
    with RemoteController() as rc:
        processes = processes_of(rc)
    if way == "Ctrl-C":
        os.write(terminal, b"\x03")
        while b"has ended" not in shown:
            shown += os.read(terminal, 1000)
        assert os.waitpid(pid, 0)[1] == 0
    os.close(terminal)
    assert not gone(processes)
    if way != "Ctrl-C":
        os.waitpid(pid, 0)


@pytest.mark.fault("engine code leaves processes behind")
def test_what_user_code_daemonizes_ends_with_the_cluster():
    with launch(n=1) as rc:
        code = """
            import os
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    import time
                    time.sleep(300)
                os._exit(0)
            os.wait()
        """
        rc.execute(textwrap.dedent(code))
        agent = psutil.Process(rc.engines[0].pid).parent()
        known = {engine.pid for engine in rc.engines} | {rc.status()["controller"]["pid"], zygote_of(rc).pid}
        (orphan,) = [child for child in agent.children() if child.pid not in known]
    assert not gone([orphan])


def test_orphans_that_end_are_buried(cluster):
    code = "import os\nif os.fork() == 0:\n    os._exit(0) if os.fork() else os._exit(0)\nos.wait()"
    agent = psutil.Process(cluster.engines[0].pid).parent()
    for _ in range(3):
        cluster.execute(code)
    cluster.restart()
    assert [p for p in agent.children() if p.status() == psutil.STATUS_ZOMBIE] == []


def module(directory, name, text):
    (directory / f"{name}.py").write_text(text)


def test_modules_are_there_before_the_fork(tmp_path, monkeypatch):
    module(tmp_path, "heavy", "import os\npid = os.getpid()")
    monkeypatch.syspath_prepend(str(tmp_path))
    with launch(n=2, preload=["heavy"]) as rc:
        assert len({result.value for result in rc.execute("import heavy; heavy.pid")}) == 1


def test_a_module_that_starts_threads_is_named_and_engines_are_spawned(tmp_path, monkeypatch):
    module(
        tmp_path,
        "threads",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with launch(n=2, preload=["threads"]) as rc:
        assert rc.execute("1")
        log = (rc.cluster.launched.place.logs / "agent.log").read_text()
    assert "spawned: threads has started 1 threads" in log


@pytest.mark.fault("engines do not start")
def test_a_module_that_is_not_there_is_named():
    with pytest.raises(EngineStartError, match="preload: nosuchmodule cannot be imported"):
        launch(n=1, preload=["nosuchmodule"])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_each_life_of_an_engine_begins_with_the_profiles_own_code(tmp_path, method):
    script = tmp_path / "start.py"
    script.write_text("print('begun by', __file__)\nfrom math import pi\n")
    lines = ["doubled = 2 * pi", "%env STARTED=yes"]
    with launch(n=2, start_method=method, exec_files=[str(script)], exec_lines=lines) as rc:
        assert rc.pull(["pi", "doubled"]) == [(math.pi, 2 * math.pi)] * 2
        assert repr(rc[0].execute("doubled > pi")) == "Out[0:1]: True"
        assert rc.keys() == [["doubled", "pi"]] * 2
        assert f"begun by {script}\n" in rc.cluster.logs(1)
        with pytest.raises(EngineLost):
            rc[1].execute("import os; os._exit(3)")
        rc.wait_for_engines(2, 20)
        with pytest.raises(EngineLost):
            rc[1].pull("doubled")
        assert rc[1].pull("doubled") == 2 * math.pi


@pytest.mark.fault("engines do not start")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"exec_lines": ["ok = 1", "1 / 0"]}, "the start-up line '1 / 0' failed:\n.*line 1.*ZeroDivisionError"),
        ({"exec_files": ["/no/such.py"]}, "the start-up file /no/such.py of ParallelEngine.exec_files: .*No such file"),
        ({"exec_lines": ["print('waits'); import time; time.sleep(100)"], "timeout": 2}, "others still start:\nwaits"),
    ],
)
def test_code_of_the_profile_that_fails_or_does_not_end_is_named(options, says):
    with pytest.raises(EngineStartError, match=f"(?s){says}"):
        launch(n=1, **options)


def test_an_engine_that_still_starts_ends_with_its_owner(tmp_path):
    pid = tmp_path / "pid"
    script = tmp_path / "start.py"
    script.write_text(f"import os, time\nopen({str(pid)!r}, 'w').write(f'{{os.getpid()}}\\n')\ntime.sleep(300)")
    code = f"from ipkernel_ext import launch; launch(n=1, exec_files=[{str(script)!r}])"
    with subprocess.Popen([sys.executable, "-c", code]) as owner:
        while not pid.exists() or not pid.read_text().endswith("\n"):
            assert owner.poll() is None
        engine = psutil.Process(int(pid.read_text()))
        agent = engine.parent()
        owner.kill()
    assert not gone([engine, agent])


@pytest.mark.fault("engine code crashes the interpreter")
def test_a_fatal_error_of_the_interpreter_is_told(cluster):
    with pytest.raises(EngineLost, match="signal 11.*Segmentation fault"):
        cluster[0].execute("import ctypes; ctypes.string_at(0)")


@pytest.mark.fault("engine code crashes the interpreter")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_an_engine_said_as_it_crashed_is_told_and_logged(method):
    """Also what C code wrote to standard error, which is a pipe that the engine reads itself."""
    with launch(n=1, start_method=method, restart="never") as rc:
        log = Path(rc.engines[0].log)
        with pytest.raises(EngineLost, match=r"signal 6 \(Fatal Python error: the reason\)"):
            rc[0].execute("import ctypes, os; ctypes.pythonapi.Py_FatalError(b'the reason')")
        assert "Fatal Python error: the reason\n" in log.read_text()
        assert "most recent call first" in log.read_text()


def test_the_log_of_an_engine_is_where_its_record_says(cluster):
    cluster.execute("1")
    for engine in cluster.engines:
        with open(engine.log) as log:
            assert f"this is engine {engine.id}" in log.read()


@pytest.mark.fault("hundreds of engines come at once")
def test_256_engines_on_one_controller():
    with launch(n=256) as rc:
        assert rc.ids == list(range(256))
        assert len(set(rc.apply(os.getpid))) == 256
        assert rc.map(abs, range(-1000, 0)) == list(range(1000, 0, -1))
        processes = processes_of(rc)
    assert not gone(processes)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_low_limit_of_open_files_is_no_limit_on_engines(method):
    script = f"""
        import resource
        from ipkernel_ext import launch
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with launch(n=24, start_method={method!r}) as rc:
            rc.execute("import resource; limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]")
            print(set(rc["limit"]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=50)
    assert done.stdout.strip() == "{64}", done.stderr


def test_scale_starts_engines_and_ends_those_with_the_highest_ids(cluster):
    cluster.push({"kept": 1})
    cluster.cluster.scale(4)
    assert cluster.ids == [0, 1, 2, 3]
    assert cluster.map(abs, range(-10, 0)) == list(range(10, 0, -1))
    busy = cluster[3].execute("while True: pass", block=False)
    queued = cluster[3].apply(abs, -1, block=False)
    cluster.cluster.scale(1)
    assert cluster.ids == [0]
    for result in (busy, queued):
        with pytest.raises(EngineLost, match="it was scaled away"):
            result.get(10)
    cluster.cluster.scale(3)
    assert cluster.ids == [0, 1, 2]
    assert cluster[0]["kept"] == 1
    assert cluster[1].keys() == []
    cluster.cluster.scale(0)
    assert cluster.ids == []
    with pytest.raises(ValueError, match="not -1"):
        cluster.cluster.scale(-1)


def test_logs_of_an_engine_by_its_client(cluster):
    cluster.execute("1")
    assert "this is engine 1" in cluster.cluster.logs(1)
    with pytest.raises(NoSuchEngine):
        cluster.cluster.logs(7)


def test_an_adopting_agent_finds_another_at_work(daemonized):
    register = json.loads(Place.of_profile(None).register.read_text())
    orders = {**register["orders"], "adopt": True}
    done = subprocess.run(
        [sys.executable, "-m", "ipkernel_ext.nursery"],
        input=json.dumps(orders) + "\n",
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert "runs there already" in json.loads(done.stdout)["error"]
    assert daemonized.execute("1")


@pytest.mark.slow
def test_a_log_that_has_grown_too_long_is_cut_to_its_end(cluster):
    cluster.execute("1")
    log = cluster.engines[0].log
    with open(log, "a") as file:
        file.write("long\n" * 2_000_000 + "the end\n")
    until = time.monotonic() + 30
    while os.path.getsize(log) > 2**20:
        assert time.monotonic() < until
        time.sleep(0.1)  # the agent looks now and then
    assert cluster.cluster.logs(0).endswith("the end\n")
    assert cluster.execute("1")
