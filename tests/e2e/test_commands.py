"""The commands, as a user at a terminal meets them."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from ipkernel_ext import RemoteController
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import EngineLost, NotConnected
from ipkernel_ext.net.local import Connection


def first_lines(process, count):
    return [process.stdout.readline().rstrip() for _ in range(count)]


def run(program, *arguments):
    command = [sys.executable, "-m", "ipkernel_ext.commands", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("program", ["ipcontroller", "ipengine", "ipcluster"])
def test_help_and_version(program):
    assert "--profile" in run(program, "-h").stdout
    assert "Parallel" in run(program, "--help-all").stdout
    assert run(program, "--version").stdout.strip() == "0.1.0"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [(["strat"], "start"), (["profile", "crate"], "create"), (["start", "--engines=loacl"], "local")],
)
def test_a_misspelt_action_is_answered_with_the_one_that_was_meant(wrong, meant):
    ran = run("ipcluster", *wrong)
    assert ran.returncode == 2
    assert ran.stderr.rstrip().endswith(f": did you mean {meant}?")
    assert "did you mean" not in run("ipcluster", "qqq").stderr


def test_an_engine_refuses_an_address_that_is_none():
    ran = run("ipengine", "--url", "foo")
    assert ran.returncode == 1
    assert "--url: 'foo' is no address of a controller; one looks like tcp://HOST:PORT" in ran.stderr


@pytest.mark.fault("two controllers for one profile")
def test_a_controller_says_where_it_listens_and_how_to_join(command):
    controller = command("ipcontroller")
    listens, engines, clients, _ = first_lines(controller, 4)
    assert "ipc://" in listens
    assert "ipengine" in engines
    assert "RemoteController()" in clients
    place = Place.of_profile(None)
    assert place.directory.stat().st_mode & 0o777 == 0o700
    assert place.connection("client").stat().st_mode & 0o777 == 0o600
    second = run("ipcontroller")
    assert second.returncode != 0
    assert f"pid {controller.pid}" in second.stderr
    controller.send_signal(signal.SIGINT)
    assert controller.wait(10) == 0
    assert not place.connection("client").exists()


def test_engines_by_hand_also_before_the_controller(command):
    early = command("ipengine")
    waiting = early.stderr.readline()
    assert "waiting for a controller" in waiting
    assert "engine.json" in waiting
    controller = command("ipcontroller")
    first_lines(controller, 4)
    (joined,) = first_lines(early, 1)
    assert joined.startswith("engine 0 has joined the controller at ipc://")
    late = command("ipengine")
    with RemoteController() as rc:
        rc.wait_for_engines(2, 20)
        pids = set(rc.apply(os.getpid))
        assert pids == {early.pid, late.pid}
        late.send_signal(signal.SIGINT)
        assert late.wait(10) == 0
        assert rc._link.channel.wait_roster(lambda roster: len(roster.ids) == 1, 10)
        with pytest.raises(TimeoutError):
            rc.wait_for_engines(2, 0)
        early.kill()
        early.wait()


def test_the_terminal_of_an_engine_by_hand_gets_its_log_and_crash_but_no_output(command):
    first_lines(command("ipcontroller"), 4)
    engine = command("ipengine")
    with RemoteController() as rc:
        rc.wait_for_engines(1, 20)
        result = rc[0].execute("import os\nprint('printed')\nos.system('echo child; echo error >&2')")
        assert (result.stdout, result.stderr) == ("printed\nchild\n", "error\n")
        with pytest.raises(EngineLost):
            rc[0].execute("os.abort()")
    out, err = engine.communicate(timeout=15)
    assert re.fullmatch(r"engine 0 has joined the controller at ipc://\S+\n", out)
    assert err.startswith("Fatal Python error: Aborted")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_several_engines_by_one_command_end_with_it(command, number):
    controller = command("ipcontroller")
    first_lines(controller, 4)
    several = command("ipengine", "-n", "2")
    assert sorted(line.split(" has")[0] for line in first_lines(several, 2)) == ["engine 0", "engine 1"]
    with RemoteController() as rc:
        rc.wait_for_engines(2, 20)
        engines = [psutil.Process(engine.pid) for engine in rc.engines]
        several.send_signal(number)
        several.wait(15)
        _, alive = psutil.wait_procs(engines, timeout=15)
        assert not alive


def test_nothing_runs_says_which_file_and_what_to_start(ipython_dir):
    with pytest.raises(NotConnected, match="client.json") as raised:
        RemoteController(profile="none")
    assert "ipcluster start --profile=none" in str(raised.value)
    for action in ("stop", "status"):
        done = run("ipcluster", action)
        assert done.returncode != 0
        assert "no cluster" in done.stderr
    assert "no cluster runs" in run("ipcluster", "list").stdout


def test_the_status_of_an_engine_that_is_not_back_names_no_process():
    assert run("ipcluster", "start", "-n", "1", "--daemonize").returncode == 0
    try:
        with RemoteController() as rc:
            engine, controller = rc.known[0], rc.status()["controller"]
            os.kill(engine.pid, signal.SIGSTOP)
            os.kill(controller["pid"], signal.SIGKILL)
            while rc.status()["controller"]["epoch"] == controller["epoch"]:
                pass
            assert "has not come back after the controller was restarted" in rc.why(0)
        status = run("ipcluster", "status").stdout
        assert "[0] not back since the controller was restarted, away" in status
        os.kill(engine.pid, signal.SIGCONT)
    finally:
        run("ipcluster", "stop")


def test_start_daemonized_list_status_stop():
    started = run("ipcluster", "start", "-n", "2", "--daemonize")
    assert started.returncode == 0, started.stderr
    assert "2 engines" in started.stdout
    try:
        (row,) = json.loads(run("ipcluster", "list", "--json").stdout)
        assert (row["profile"], row["engines"]) == ("default", 2)
        assert "[1] pid" in run("ipcluster", "status").stdout
        again = run("ipcluster", "start", "-n", "1", "--daemonize")
        assert again.returncode != 0
        assert "runs already" in again.stderr
        with RemoteController() as rc:
            pids = [engine.pid for engine in rc.engines] + [rc.status()["controller"]["pid"]]
    finally:
        stopped = run("ipcluster", "stop")
    assert stopped.returncode == 0, stopped.stderr
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not Place.of_profile(None).directory.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_end_of_ipcluster_ends_all(command, number):
    cluster = command("ipcluster", "start", "-n", "2")
    assert "2 engines" in cluster.stdout.readline()
    with RemoteController() as rc:
        processes = [psutil.Process(e.pid) for e in rc.engines] + [psutil.Process(rc.status()["controller"]["pid"])]
    cluster.send_signal(number)
    cluster.wait(20)
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive
    agent = Place.of_profile(None).agent
    if agent.exists():
        psutil.wait_procs([psutil.Process(int(agent.read_text()))], timeout=20)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["start", "--ParallelCluster.restrat=never"], "did you mean restart?"),
        (["start", "--Cluster.n=3"], "ParallelCluster"),
        (["start", "--nonsense"], "--nonsense"),
        (["start", "-n", "x"], "-n"),
        (["start", "-n", "-1"], "-1"),
        ([], "start"),
    ],
)
def test_wrong_options_say_what_is_right(arguments, says):
    done = run("ipcluster", *arguments)
    assert done.returncode != 0
    assert says in done.stderr + done.stdout


@pytest.mark.fault("any messages of somebody who was let in")
def test_garbage_on_the_socket_is_counted_and_the_controller_goes_on(command):
    controller = command("ipcontroller")
    first_lines(controller, 4)
    path = str(Place.of_profile(None).socket)
    stranger = Connection.to(path)
    for parts in ([b"garbage"], [b"", b"x"], [b"\x93\x01\x00\x91\x92\xc0\xc0"], [b"\xc1" * 1000, b"y"]):
        stranger.send(parts)
    assert select.select([stranger], [], [], 10), "the stranger is told"
    raw = socket.socket(socket.AF_UNIX)
    raw.connect(path)
    raw.sendall(b"GET / HTTP/1.0\r\n\r\n" * 100)
    raw.close()
    with RemoteController() as rc:
        while rc.status()["controller"]["refused"] < 4:
            pass
    stranger.close()
    assert controller.poll() is None
