"""The dashboard and top as processes: from the shell, beside a client, on a terminal."""

import os
import pty
import select
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import psutil
import pytest

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import NotConnected
from ipkernel_ext.launcher import Cluster
from ipkernel_ext.testing import InProcessCluster
from tests.e2e.test_commands import run

LIMIT = 40.0  # seconds


@pytest.fixture
def profile():
    """A cluster of the default profile, which ends with the test."""
    cluster = Cluster(2, profile="default")
    cluster.start()
    try:
        with cluster.connect() as rc:
            cluster.wait_ready(rc, LIMIT)
        yield Place.of_profile(None)
    finally:
        cluster.stop()


def get(url, path="", **headers):
    with urllib.request.urlopen(urllib.request.Request(url.replace("/?", f"/{path}?"), headers=headers)) as answer:
        return answer.read().decode()


def test_it_says_where_it_is_and_ends_when_told(profile, command):
    dashboard = command("ipcluster", "dashboard")
    line = dashboard.stdout.readline()
    url = line.split()[-1]
    assert url.startswith("http://127.0.0.1:")
    assert "<title>Cluster of profile default</title>" in get(url)
    assert 'ipkernel_ext_engines{state="ready"} 2' in get(url, "metrics")
    assert '"controller"' in get(url, "logs")
    dashboard.send_signal(signal.SIGINT)
    assert dashboard.wait(20) == 0
    assert dashboard.stderr.read() == ""
    with pytest.raises(urllib.error.URLError):
        get(url)


def test_it_listens_where_it_is_told_to_and_a_taken_port_is_named(profile, command):
    first = command("ipcluster", "dashboard", "--allow-host=box")
    url = first.stdout.readline().split()[-1]
    assert "Engines" in get(url, host="box:1")
    port = url.split(":")[2].partition("/")[0]
    second = run("ipcluster", "dashboard", f"--port={port}")
    assert second.returncode == 1
    assert second.stderr == f"ipcluster dashboard: 127.0.0.1:{port}: Address already in use\n"
    third = run("ipcluster", "dashboard", "--allow-host=http://box")
    assert "is no name of a host" in third.stderr


def test_it_meets_the_next_cluster_of_its_profile(command):
    cluster = Cluster(1, profile="default")
    cluster.start()
    dashboard = command("ipcluster", "dashboard")
    url = dashboard.stdout.readline().split()[-1]
    cluster.stop()
    assert "ipkernel_ext_up 0" in get(url, "metrics")
    cluster = Cluster(1, profile="default")
    cluster.start()
    try:
        with cluster.connect() as rc:
            cluster.wait_ready(rc, LIMIT)
        while "ipkernel_ext_up 1" not in get(url, "metrics"):
            assert dashboard.poll() is None
    finally:
        cluster.stop()


@pytest.mark.parametrize("action", ["dashboard", "top"])
def test_without_a_cluster_it_says_so(action):
    done = run("ipcluster", action)
    assert done.returncode == 1
    assert "no cluster runs here" in done.stderr


@pytest.mark.parametrize(("action", "missing"), [("dashboard", "uvicorn"), ("top", "rich")])
def test_what_is_missing_is_named(action, missing):
    lines = "import sys", f"sys.modules[{missing!r}] = None", "from ipkernel_ext.commands import ipcluster"
    script = "\n".join([*lines, f"ipcluster([{action!r}])"])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f'this needs {missing}: pip install "ipkernel_ext[dashboard]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_beside_a_client_it_ends_with_it():
    with launch(n=1) as rc:
        frame = rc.dashboard(height=300)
        assert repr(frame) == f"<dashboard at {rc.cluster.dashboard_url}>"
        assert f'src="{rc.cluster.dashboard_url}"' in frame._repr_html_() and 'height="300"' in frame._repr_html_()
        assert "<title>A private cluster</title>" in get(frame.url)
    with pytest.raises(urllib.error.URLError):
        get(frame.url)
    with pytest.raises(NotConnected):
        rc.cluster.dashboard_url


def test_a_dashboard_that_was_killed_is_started_again():
    with launch(n=1) as rc:
        url = rc.cluster.dashboard_url
        [process] = [p for p in psutil.Process().children() if "ipkernel_ext.dashboard" in p.cmdline()]
        process.kill()
        process.wait(20)
        assert rc.cluster.dashboard_url != url
        assert "Engines" in get(rc.cluster.dashboard_url)


def test_it_ends_with_an_owner_that_is_killed(profile):
    code = "import ipkernel_ext as x\nprint(x.RemoteController().cluster.dashboard_url, flush=True)\ninput()"
    owner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with owner:
        url = owner.stdout.readline().strip()
        assert "Engines" in get(url)
        [process] = psutil.Process(owner.pid).children()
        owner.kill()
        psutil.wait_procs([process], 20)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_cluster_within_this_process_has_none():
    with pytest.raises(NotConnected, match="no other process can connect"):
        InProcessCluster(1).client().dashboard()


# ---------------------------------------------------------------- top


def test_one_frame(profile):
    done = run("ipcluster", "top", "--once")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 engines (2 ready)   0 running, 0 queued, 0 done")
    heading = next(number for number, line in enumerate(lines) if line.split()[:1] == ["id"])
    assert [line.split()[0] for line in lines[heading + 1 :]] == ["0", "1"]


def test_keys_on_a_terminal(profile):
    ours, theirs = pty.openpty()
    top = subprocess.Popen(
        [sys.executable, "-m", "ipkernel_ext.commands", "ipcluster", "top"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"},
    )  # fmt: skip
    os.close(theirs)
    shown = ""

    def until(text):
        nonlocal shown
        while text not in shown:
            assert select.select([ours], [], [], LIMIT)[0], f"{text!r} does not come, but {shown[-2000:]!r}"
            shown += os.read(ours, 65536).decode(errors="replace")
        shown = shown.partition(text)[2]

    try:
        until("2 ready")
        with RemoteController() as rc:
            result = rc[1].execute("import time\ntime.sleep(600)", block=False)
            until("busy")
            os.write(ours, b"\x1b[Bi")
            until("interrupted engine 1")
            assert type(result.exception(LIMIT)).__name__ == "TaskInterrupted"
            before = {engine.id: engine.boot for engine in rc.known}
            os.write(ours, b"r")
            until("restart engine 1? Variables there are lost.")
            os.write(ours, b"y")
            until("restarted engine 1")
            after = {engine.id: engine.boot for engine in rc.known}
            assert after[0] == before[0] and after[1] != before[1]
        os.write(ours, b"q")
        assert top.wait(20) == 0
    finally:
        top.kill()
        top.wait(20)
        os.close(ours)
