"""Profiles, logs, leftovers and the doctor, as a user at a terminal meets them."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from ipkernel_ext import RemoteController, clean, launch
from ipkernel_ext.config import logs
from ipkernel_ext.config.place import Place
from ipkernel_ext.config.profiles import profile_dir
from ipkernel_ext.errors import NotConnected
from ipkernel_ext.launcher import Cluster
from tests.e2e.test_commands import first_lines, run


@pytest.fixture
def daemon():
    """A cluster of one engine that goes on by itself."""
    started = run("ipcluster", "start", "-n", "1", "--daemonize")
    assert started.returncode == 0, started.stderr
    yield Place.of_profile(None)
    run("ipcluster", "stop")


def configure(file, *lines, profile="default"):
    path = profile_dir(profile) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as opened:
        opened.write("\n".join(lines) + "\n")
    return path


# ---------------------------------------------------------------- help and exit codes


@pytest.mark.parametrize(
    "action", ["logs", "clean", "doctor", "rotate-keys", "profile", "profile create", "profile list"]
)
def test_every_action_has_help(action):
    for option in ("-h", "--help-all"):
        done = run("ipcluster", *action.split(), *(["x"] if option != "-h" and "create" in action else []), option)
        assert done.returncode == 0
        assert f"usage: ipcluster {action}" in done.stdout
    assert "Parallel" in done.stdout
    assert run("ipcluster", *action.split(), "--version").stdout.strip() == "0.1.0"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["profile"], 2, "create"),
        (["profile", "create"], 2, "NAME"),
        (["profile", "create", "a/b"], 1, "is no name for a profile"),
        (["logs"], 1, "there are no logs in"),
        (["logs", "-n", "x"], 2, "'x' is no number of lines"),
        (["clean"], 0, "nothing to clean"),
        (["profile", "list"], 0, "`ipcluster profile create NAME` makes one"),
    ],
)
def test_exit_codes(arguments, code, says):
    done = run("ipcluster", *arguments)
    assert done.returncode == code
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.fault("a directory cannot be made")
def test_a_directory_that_cannot_be_made_is_named(ipython_dir):
    ipython_dir.write_text("a file is in the way")
    done = run("ipcluster", "profile", "create", "mpi")
    assert done.returncode == 1
    assert done.stderr == f"ipcluster profile create: {ipython_dir}: File exists\n"


# ---------------------------------------------------------------- profiles and configuration


def test_a_profile_is_made_found_by_ipython_and_left_alone():
    made = run("ipcluster", "profile", "create", "mpi")
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("wrote") == 3
    listed = subprocess.run(
        [sys.executable, "-m", "IPython", "profile", "list"], capture_output=True, text=True, timeout=60
    )
    assert "mpi" in listed.stdout
    configure("ipcluster_config.py", "c.ParallelCluster.n = 1", profile="mpi")
    text = (profile_dir("mpi") / "ipcluster_config.py").read_text()
    assert run("ipcluster", "profile", "create", "mpi").stdout.count("left as it is") == 3
    assert (profile_dir("mpi") / "ipcluster_config.py").read_text() == text
    (row,) = json.loads(run("ipcluster", "profile", "list", "--json").stdout)
    assert (row["profile"], len(row["files"]), row["running"]) == ("mpi", 3, False)


def test_options_in_the_three_files_take_effect():
    configure("ipcluster_config.py", "c.ParallelCluster.n = 1")
    configure("ipengine_config.py", "c.ParallelEngine.max_output = 100")
    configure("ipcontroller_config.py", "c.ParallelController.result_ttl = 1234")
    assert "1 engine of" in run("ipcluster", "start", "--daemonize").stdout
    try:
        with RemoteController() as rc:
            assert len(rc[0].execute("print('x' * 10_000)").stdout) < 1000
    finally:
        run("ipcluster", "stop")
    assert "2 engines" in run("ipcluster", "start", "--daemonize", "--ParallelCluster.n", "2").stdout
    run("ipcluster", "stop")


def test_a_private_cluster_reads_the_files_of_its_profile():
    configure("ipcluster_config.py", "c.ParallelCluster.n = 1", profile="mpi")
    configure("ipengine_config.py", "c.ParallelEngine.max_output = 100", profile="mpi")
    with launch(profile="mpi") as rc:
        assert len(rc) == 1
        assert len(rc[0].execute("print('x' * 10_000)").stdout) < 1000
    with pytest.raises(ValueError, match="Did you mean 'mpi'"):
        launch(profile="mip")


@pytest.mark.parametrize(
    ("program", "file", "line"),
    [
        (["ipcluster", "start"], "ipcluster_config.py", "c.ParallelCluster.restrat = 'never'"),
        (["ipcluster", "start"], "ipengine_config.py", "c.ParallelEngine.max_output = 'much'"),
        (["ipcluster", "start"], "ipcontroller_config.py", "c.ParalelController.result_ttl = 1"),
        (["ipcontroller"], "ipcontroller_config.py", "raise RuntimeError('mine')"),
        (["ipengine"], "ipengine_config.py", "c.ParallelEngine.max_output = = 1"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(program, file, line):
    path = configure(file, "x = 1", line)
    done = run(*program)
    assert done.returncode == 1
    assert f"{path}, line 2: " in done.stderr
    assert "Traceback" not in done.stderr
    assert run("ipcluster", "stop").stderr.startswith("ipcluster stop: no cluster"), "needs no configuration"


def test_an_option_of_another_command_names_that():
    done = run("ipcontroller", "--ParallelCluster.n=3")
    assert done.returncode == 1
    assert "ParallelCluster is for ipcluster" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["ipcluster", "stop"],
        ["ipcluster", "status"],
        ["ipcluster", "logs"],
        ["ipcluster", "doctor"],
        ["ipengine"],
    ],
)
def test_looking_for_a_profile_that_is_not_there_makes_none(command, ipython_dir):
    profile_dir("mpi").mkdir(parents=True)
    done = run(*command, "--profile=mip")
    assert done.returncode == 1
    assert "Did you mean 'mpi'? `ipcluster profile create mip` makes it" in done.stderr
    assert not profile_dir("mip").exists()


def test_a_client_of_a_profile_that_is_not_there_is_told_so():
    profile_dir("mpi").mkdir(parents=True)
    with pytest.raises(NotConnected, match="Did you mean 'mpi'"):
        RemoteController(profile="mip")


def test_a_cluster_that_is_started_in_a_new_profile_says_so():
    started = run("ipcluster", "start", "-n", "1", "--daemonize", "--profile=new")
    assert started.returncode == 0, started.stderr
    try:
        assert "profile 'new' is new" in started.stderr
        assert (profile_dir("new") / "startup").is_dir()
        with RemoteController(profile="new") as rc:
            assert len(rc) == 1
    finally:
        assert run("ipcluster", "stop", "--profile=new").returncode == 0


# ---------------------------------------------------------------- logs


def test_logs_are_shown_by_who_wrote_them(daemon):
    with RemoteController() as rc:
        rc.execute("1")
    done = run("ipcluster", "logs")
    assert done.returncode == 0
    assert "controller | " in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "this is engine 0" in line]
    engine = line.partition(" | ")[0].removeprefix("engine ")
    assert run("ipcluster", "logs", engine).stdout.splitlines()[-1].endswith("this is engine 0")
    assert run("ipcluster", "logs", engine, "-n", "0").stdout == ""
    missing = run("ipcluster", "logs", "no")
    assert missing.returncode == 1
    assert f"there are engine {engine}" in missing.stderr


def test_following_logs_shows_what_comes_and_ends_with_the_cluster(daemon, command):
    following = command("ipcluster", "logs", "-f")
    with RemoteController() as rc:
        rc.execute("import os; os._exit(1)", block=False)
        while "engine 0 ended" not in (line := following.stdout.readline()):
            assert line
    assert run("ipcluster", "stop").returncode == 0
    assert following.wait(20) == 0
    assert "the cluster has ended" in following.stderr.read()


def test_following_one_engine_ends_with_the_cluster_too(daemon, command):
    with RemoteController() as rc:
        rc.execute("1")
    (log,) = logs.engine_logs(daemon.logs)
    following = command("ipcluster", "logs", "-f", log)
    assert "an engine begins" in following.stdout.readline()
    assert run("ipcluster", "stop").returncode == 0
    assert following.wait(20) == 0, following.stderr.read()


def test_ctrl_c_ends_following(daemon, command):
    following = command("ipcluster", "logs", "-f")
    assert "controller | " in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    assert following.wait(10) == 0
    assert following.stderr.read() == ""


def test_a_reader_that_has_had_enough_ends_it_quietly(daemon):
    command = f"{sys.executable} -m ipkernel_ext.commands ipcluster logs -f | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert "controller" in done.stdout


def test_nothing_is_logged_per_task():
    with launch(n=1) as rc:
        directory = rc.cluster.launched.place.logs
        rc.execute("1")
        before = {path: path.stat().st_size for path in directory.iterdir()}
        for _ in range(20):
            rc.execute("x = 1")
        rc.map(abs, range(200), chunksize=1)
        rc.push({"a": 1})
        assert {path: path.stat().st_size for path in directory.iterdir()} == before


# ---------------------------------------------------------------- what is left behind


def kill_all(place):
    """End every process of a cluster at once, the agent first stopped, so that nobody can clean up."""
    agent = psutil.Process(int(place.agent.read_text()))
    agent.suspend()
    processes = [*agent.children(recursive=True), agent]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=20)


def test_what_killed_clusters_left_is_removed(daemon):
    running = run("ipcluster", "clean")
    assert running.stdout == "nothing to clean\n"
    kill_all(daemon)
    files = [daemon.directory, daemon.connection("client"), daemon.connection("engine")]
    for arguments, word in ((["--dry-run"], "would remove"), ([], "removed")):
        done = run("ipcluster", "clean", *arguments)
        assert done.returncode == 0
        assert sorted(done.stdout.splitlines()) == sorted(f"{word} {path}" for path in files)
        assert all(path.exists() for path in files) == bool(arguments)
    assert run("ipcluster", "clean").stdout == "nothing to clean\n"


def test_an_engine_that_outlived_its_cluster_is_ended_only_when_told():
    cluster = Cluster(1, profile="default")
    cluster.start()
    place = cluster.place
    agent = psutil.Process(int(place.agent.read_text()))
    with cluster.connect() as rc:
        cluster.wait_ready(rc, 20)
        engine = psutil.Process(rc.engines[0].pid)
    engine.suspend()
    agent.suspend()
    others = [child for child in agent.children(recursive=True) if child != engine]
    for process in [*others, agent]:
        process.kill()
    psutil.wait_procs([*others, agent], timeout=20)
    try:
        done = run("ipcluster", "clean")
        assert f"ipengine (pid {engine.pid}), whose cluster is gone" in done.stdout
        assert engine.is_running()
        assert place.directory.exists(), "the engine's"
        assert run("ipcluster", "doctor").returncode == 1
        assert f"would end ipengine (pid {engine.pid})" in run("ipcluster", "clean", "--kill", "--dry-run").stdout
        done = run("ipcluster", "clean", "--kill")
        assert f"ended ipengine (pid {engine.pid})" in done.stdout
        assert not engine.is_running()
        assert not place.directory.exists()
    finally:
        if engine.is_running():
            engine.kill()
        cluster.stop()


def test_an_engine_that_waits_for_a_controller_is_left_alone(command):
    waiting = command("ipengine")
    assert "waiting for a controller" in waiting.stderr.readline()
    assert f"ipengine (pid {waiting.pid}) waits there" in run("ipcluster", "clean").stdout
    controller = command("ipcontroller")
    first_lines(controller, 4)
    assert run("ipcluster", "clean").stdout == "nothing to clean\n"
    with RemoteController() as rc:
        rc.wait_for_engines(1, 20)
    assert {process.program for process in clean.processes(os.getuid())} >= {"ipengine", "ipcontroller"}


# ---------------------------------------------------------------- the doctor


def test_the_doctor_sees_a_cluster_that_is_well(daemon):
    done = run("ipcluster", "doctor", "--json")
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert found["connection"]["ok"]
    assert "with 1 engine" in found["connection"]["text"]
    assert found["skew"]["ok"]
    assert found["stale files"]["ok"]


def test_the_doctor_names_what_is_wrong(daemon):
    kill_all(daemon)
    configure("ipengine_config.py", "c.ParallelEngine.max_output = 'much'")
    profile_dir(None).chmod(0o777)
    done = run("ipcluster", "doctor")
    assert done.returncode == 1
    bad = [line for line in done.stdout.splitlines() if line.startswith("problem")]
    for words in (
        "ipengine_config.py, line 1",
        "`ipcluster clean` removes them",
        "that was killed",
        "changed by others",
    ):
        assert any(words in line for line in bad), words
    run("ipcluster", "clean")
