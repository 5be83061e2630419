"""What goes wrong at a bad moment: a second death, a full disk, a number that belongs to somebody else."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import psutil
import pytest

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import EngineStartError, NotConnected
from ipkernel_ext.launcher import Cluster, adopt, find, stop_profile
from tests.e2e.test_commands import run
from tests.e2e.test_nursery import daemonized, gone

__all__ = ["daemonized"]


def script(text, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=50, **options
    )


def place():
    return Place.of_profile(None)


def kill(*pids):
    """Kill them, and wait until they are gone."""
    processes = [psutil.Process(pid) for pid in pids]
    for process in processes:
        process.kill()
    assert not gone(processes)


@pytest.mark.fault("the controller is killed while it starts again")
def test_a_controller_that_is_killed_while_it_starts_again_is_one_death_more(cluster):
    cluster.push({"kept": 1})
    controller = cluster.status()["controller"]["pid"]
    agent = psutil.Process(controller).parent()
    os.kill(controller, signal.SIGKILL)
    successor = None
    while successor is None:
        others = [
            p for p in agent.children() if p.pid != controller and p.name() not in ("zygote", "engine 0", "engine 1")
        ]
        successor = next((p for p in others if p.status() != psutil.STATUS_ZOMBIE), None)
    successor.kill()
    assert cluster["kept"] == [1, 1]


@pytest.mark.fault("the port was taken while the controller was away")
def test_a_fixed_port_that_was_taken_meanwhile_is_another_one_then(ipython_dir):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with launch(n=1, ip="127.0.0.1", port=port) as rc:
        rc.push({"kept": 1})
        file = rc.cluster.launched.place.connection("client")
        assert json.loads(file.read_text())["tcp"] == [f"tcp://127.0.0.1:{port}"]
        controller = psutil.Process(rc.status()["controller"]["pid"])
        controller.suspend()
        controller.kill()
        squatter = socket.socket()
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            try:
                squatter.bind(("127.0.0.1", port))
                squatter.listen()
                break
            except OSError:
                if json.loads(file.read_text())["pid"] != controller.pid:
                    pytest.skip("the new controller was faster than the squatter")
        with squatter:
            assert rc["kept"] == [1]
            (url,) = json.loads(file.read_text())["tcp"]
        assert url != f"tcp://127.0.0.1:{port}"


@pytest.mark.fault("a process id belongs to somebody else by now")
def test_a_number_that_belongs_to_somebody_else_is_no_cluster(daemonized, monkeypatch):
    here = place()
    register = json.loads(here.register.read_text())
    pids = [
        register["agent"]["pid"],
        register["controller"]["pid"],
        *(e["process"]["pid"] for e in register["engines"]),
    ]
    kill(*pids)
    innocent = subprocess.Popen(["sleep", "300"])
    try:
        here.agent.write_text(str(innocent.pid))
        (here.directory / "lock").write_text(str(innocent.pid))
        assert find(here) is None
        assert not stop_profile("default")
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()
    cluster = Cluster(1, profile="default")
    cluster.start()
    cluster.stop()


def test_two_commands_may_adopt_at_once(daemonized):
    kill(place().agent_pid())
    adopted = []
    threads = [threading.Thread(target=lambda: adopted.append(adopt(place()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(adopted) == [False, False, True]


def test_a_successor_can_scale_also_when_the_controller_had_died_before(daemonized):
    controller = daemonized.status()["controller"]["pid"]
    os.kill(controller, signal.SIGKILL)
    daemonized.execute("1")
    kill(place().agent_pid())
    assert adopt(place())
    daemonized.cluster.scale(3)
    assert daemonized.ids == [0, 1, 2]


def test_what_user_code_started_ends_with_an_adopted_engine(daemonized):
    daemonized[0].execute("import subprocess; child = subprocess.Popen(['sleep', '300']).pid")
    child = psutil.Process(daemonized[0]["child"])
    kill(place().agent_pid())
    stop_profile("default")
    assert not gone([child])


def test_engines_that_were_still_to_start_come_with_the_successor(daemonized):
    (zygote,) = [p for p in psutil.Process(place().agent_pid()).children() if p.name() == "zygote"]
    zygote.suspend()
    daemonized.cluster.scale(2)
    boot, pid = daemonized.known[0].boot, daemonized.known[0].pid
    os.kill(pid, signal.SIGKILL)
    while boot in {engine["boot"] for engine in json.loads(place().register.read_text())["engines"]}:
        time.sleep(0.01)  # until the agent has written down that it is to start another one
    kill(place().agent_pid(), zygote.pid)
    assert adopt(place())
    back = daemonized._link.channel.wait_roster(
        lambda roster: len(roster.ids) == 2 and all(engine.boot != boot for engine in roster.engines.values()), 30
    )
    assert back
    assert daemonized.ids == [0, 1]


def test_a_removed_working_directory_does_not_stop_a_successor(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    cluster = Cluster(1, profile="default", owned=False, cwd=tmp_path / "gone")
    cluster.start()
    with cluster.connect() as rc:
        cluster.wait_ready(rc, 20)
    (tmp_path / "gone").rmdir()
    kill(place().agent_pid())
    assert stop_profile("default")
    assert not place().directory.exists()


def test_a_damaged_connection_file_does_not_hide_a_cluster(daemonized):
    place().connection("client").write_text('{"url": 5}')
    assert stop_profile("default")
    assert not place().directory.exists()


@pytest.mark.fault("engines do not start")
@pytest.mark.parametrize("arguments", ["cwd='/no/such/place'", "n=1, preload=['nosuchmodule']", "n=1, timeout=0.001"])
def test_a_launch_that_fails_leaves_nothing(arguments):
    done = script(f"from ipkernel_ext import launch\nlaunch({arguments})")
    assert done.returncode == 1
    assert "Error" in done.stderr.splitlines()[-1] or "EngineStartError" in done.stderr


def test_launch_does_not_wait_for_a_controller_longer_than_it_may(monkeypatch):
    monkeypatch.setattr("ipkernel_ext.launcher.LISTENS", 0.0)
    with pytest.raises(EngineStartError, match="nothing came of it within"):
        launch(n=1, timeout=0.0)


def test_a_fork_of_the_owner_does_not_keep_its_cluster():
    text = """
        import os, time
        from ipkernel_ext import launch
        rc = launch(n=1)
        print(rc.engines[0].pid, rc.status()["controller"]["pid"], flush=True)
        if os.fork() == 0:
            os.close(1)
            os.close(2)
            time.sleep(300)
        os.kill(os.getpid(), 9)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(text)], stdout=subprocess.PIPE, text=True)
    processes = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    (forked, *_) = psutil.Process(process.pid).children() or [None]
    process.wait()
    process.stdout.close()
    assert not gone(processes)
    if forked is not None and forked.is_running():
        forked.kill()


@pytest.mark.fault("a script ends while its calls have not")
def test_what_a_script_has_sent_leaves_although_it_ends_at_once(daemonized, tmp_path):
    ledger = tmp_path / "ledger"
    done = script(f"""
        from ipkernel_ext import RemoteController
        def note(i):
            with open({str(ledger)!r}, "a") as file:
                file.write(f"{{i}}\\n")
        rc = RemoteController()
        results = [rc.submit(note, i) for i in range(100)]
    """)
    assert done.returncode == 0, done.stderr
    while sum(status["queued"] + status["running"] for status in _queues(daemonized)):
        pass
    assert sorted(map(int, ledger.read_text().split())) == list(range(100))


def _queues(rc):
    status = rc.queue_status()
    unassigned = status.pop("unassigned")
    return [*status.values(), {"queued": unassigned, "running": 0}]


@pytest.mark.fault("the controller does not stay up")
def test_clients_are_told_when_the_controller_does_not_stay_up():
    with launch(n=1, restart_limit=0) as rc:
        result = rc[0].execute("import time; time.sleep(300)", block=False)
        os.kill(rc.status()["controller"]["pid"], signal.SIGKILL)
        with pytest.raises(Exception, match="the cluster has ended: its controller does not stay up"):
            result.get(30)
        with pytest.raises(NotConnected):
            rc.execute("1")


def test_a_long_module_search_path_is_no_hindrance():
    done = script("""
        import sys
        sys.path += [f"/no/such/directory/{i:06}/somewhere" for i in range(6000)]
        from ipkernel_ext import launch
        with launch(n=1) as rc:
            print(rc[0].apply(lambda: len(__import__("sys").path)) == len(sys.path))
    """)
    assert done.stdout.strip() == "True", done.stderr


def test_a_connection_file_may_be_named_alone(daemonized):
    with RemoteController(str(place().connection("client"))) as rc:
        assert len(rc) == 2
    with pytest.raises(ValueError, match="name a connection file"):
        RemoteController("ftp://somewhere")


def test_hints_name_the_profile():
    run("ipcluster", "profile", "create", "other")
    assert run("ipcluster", "start", "-n", "1", "--profile=other", "--daemonize").returncode == 0
    try:
        assert "`ipcluster stop --profile=other`" in run("ipcluster", "start", "--profile=other", "--daemonize").stderr
        assert "`ipcluster stop --profile=other`" in run("ipcontroller", "--profile=other").stderr
    finally:
        run("ipcluster", "stop", "--profile=other")
