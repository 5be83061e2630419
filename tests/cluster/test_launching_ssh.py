"""``--engines=ssh``: engines on another host, with a real sshd there, a bare Python, and a network of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from ipkernel_ext import RemoteController
from ipkernel_ext.config import connection
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import EngineLost, TaskInterrupted
from tests.cluster.hosts import OTHER

CONFIG = """
Host h2 other
  HostName {address}
  User root
  IdentityFile {directory}/key
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
Host unreachable
  HostName 10.77.0.99
"""


class Away:
    """A host with an sshd and a Python that has nothing installed, and how it is reached from the first one."""

    def __init__(self, first, second, directory):
        self.first, self.second = first, second
        self.config = str(directory / "config")
        self.temporary = tempfile.gettempdir()
        self.python = f"{self.temporary}/bare/bin/python"

    def run(self, *arguments):
        """``ipcluster`` on the first host, to its end."""
        command = [sys.executable, "-m", "ipkernel_ext.commands", "ipcluster", *arguments]
        return subprocess.run(
            self.first.inside(command), capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL
        )

    def start(self, *arguments, hosts="h2:2", python=None):
        """A daemonized cluster."""
        given = [f"--ParallelSSH.options=-F,{self.config}", f"--ParallelSSH.python={python or self.python}"]
        return self.run("start", "--daemonize", f"--hosts={hosts}", *given, *arguments)


@pytest.fixture
def away(hosts, tmp_path):
    """A second host that is reached by ssh; nothing runs there when it is over."""
    if (sshd := shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")) is None:
        pytest.skip("there is no sshd; tools/setup-debian installs it")
    first, second = hosts
    for name in ("key", "hostkey"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    (tmp_path / "config").write_text(CONFIG.format(address=OTHER, directory=tmp_path))
    temporary = tempfile.gettempdir()
    second.receive(f"{temporary}/ssh/authorized", (tmp_path / "key.pub").read_text())
    second.receive(f"{temporary}/ssh/hostkey", (tmp_path / "hostkey").read_text())
    second.run(sys.executable, "-m", "venv", "--without-pip", f"{temporary}/bare")
    os.makedirs("/run/sshd", exist_ok=True)
    options = {
        "ListenAddress": OTHER,
        "HostKey": f"{temporary}/ssh/hostkey",
        "AuthorizedKeysFile": f"{temporary}/ssh/authorized",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "SetEnv": f"TMPDIR={temporary} XDG_CACHE_HOME={temporary}/cache IPYTHONDIR={os.environ['IPYTHONDIR']}",
    }
    daemon = second.background(sshd, "-D", "-e", *(f"-o{name}={value}" for name, value in options.items()))
    while "Server listening" not in daemon.stderr.readline():
        pass
    before = passages()
    yield Away(first, second, tmp_path)
    assert passages() == before, "sshd does not remove sockets that it made"


def passages():
    """Far ends of forwarded sockets; these hosts have one /tmp."""
    return [name for name in os.listdir("/tmp") if name.startswith(".ipkernel_ext")]


@pytest.fixture
def cluster(away, request):
    """A client of a cluster with two engines there, and that host."""
    started = away.start(*getattr(request, "param", ()))
    assert started.returncode == 0, started.stderr
    try:
        with RemoteController() as rc:
            yield rc, away
    finally:
        away.run("stop")


def written():
    """Bytes that this process has written to files."""
    with open("/proc/self/io") as file:
        return int(dict(line.split(": ") for line in file)["wchar"])


def state_is(rc, state, timeout):
    """Wait until the engines' is this one."""
    return rc._link.channel.wait_roster(lambda r: {e.state for e in r.engines.values()} == {state}, timeout)


def test_engines_on_a_host_that_has_only_ssh_and_python(cluster):
    rc, away = cluster
    assert [(engine.id, engine.host) for engine in rc.engines] == [(0, "h2"), (1, "h2")]
    assert [r.value for r in rc.execute("import sys; sys.prefix")] == [f"{away.temporary}/bare"] * 2

    before = rc.apply(written)
    rc.push({"x": b"x" * 3_000_000})
    assert sum(after - number >= 3_000_000 for after, number in zip(rc.apply(written), before, strict=True)) == 1, (
        "it crosses the line once, and one engine takes it for both"
    )
    assert rc.apply(len, rc[0]["x"]) == [3_000_000] * 2
    assert rc.map(abs, range(-100, 0)) == list(range(100, 0, -1))

    running = rc[0].execute("print('begun', flush=True)\nwhile True: pass", block=False)
    next(running.follow())
    rc.interrupt()
    with pytest.raises(TaskInterrupted):
        running.get(20)

    with pytest.raises(EngineLost) as lost:
        rc[1].execute("import os; os.kill(os.getpid(), 9)")
    assert lost.value.signal == signal.SIGKILL
    assert rc._link.channel.wait_roster(lambda roster: list(roster.ids) == [0, 1], 20), "it has a successor"

    assert away.run("stop").returncode == 0
    assert away.second.processes() == []
    for directory in (away.temporary, "/dev/shm"):
        assert away.second.run("ls", f"{directory}/ipkernel_ext-0") == ""


@pytest.mark.slow
def test_scaling_and_a_second_start_that_finds_all_in_the_cache(cluster):
    rc, away = cluster
    assert np.array_equal(rc.apply(abs, -3), [3, 3])
    rc.cluster.scale(4)
    assert rc.ids == [0, 1, 2, 3]
    rc.cluster.scale(1)
    assert rc.ids == [0]
    rc.cluster.scale(2)
    assert rc.ids == [0, 1]
    assert away.run("stop").returncode == 0
    before = away.second.run("ls", "-A", f"{away.temporary}/cache/ipkernel_ext").split()
    assert sorted(name.partition("-")[0] for name in before) == ["code", "deps"]
    away.second.run("chmod", "-R", "a-w", f"{away.temporary}/cache")
    again = away.start("-n", "1")
    assert again.returncode == 0, again.stderr
    assert away.second.run("ls", "-A", f"{away.temporary}/cache/ipkernel_ext").split() == before


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_line_that_is_cut_is_made_again_and_engines_keep_what_they_had(cluster):
    rc, away = cluster
    rc["kept"] = 41
    pids = [engine.pid for engine in rc.engines]
    away.first.run("ip", "link", "set", "eth0", "down")
    assert state_is(rc, "away", 40)
    assert rc._link.channel.wait_roster(lambda roster: "the line to h2 is cut" in roster.waits, 20)
    away.first.run("ip", "link", "set", "eth0", "up")
    assert state_is(rc, "ready", 60)
    assert rc["kept"] == [41, 41]
    assert [engine.pid for engine in rc.engines] == pids


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("cluster", [["--ParallelController.engine_grace=3"]], indirect=True, ids=["3 s"])
def test_nothing_is_left_when_the_host_of_the_controller_has_vanished(cluster):
    _, away = cluster
    assert away.second.processes()
    away.first.run("ip", "link", "set", "eth0", "down")
    away.second.run("sh", "-c", "while ps -eo args= | grep -q '[i]pkernel_ext'; do sleep 0.5; done")
    assert away.second.processes() == []


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [["--ParallelSSH.tunnel=False", "--ip=10.77.0.1"]], indirect=True, ids=["tcp"])
def test_without_a_tunnel_engines_use_the_port_and_their_key(cluster):
    rc, away = cluster
    assert {engine.host for engine in rc.engines} == {"h2"}
    (url,) = connection.read(Place.of_profile(None).connection("client")).tcp
    connections = away.second.python("import psutil; print([c.raddr for c in psutil.net_connections('tcp')])")
    assert connections.count(f"ip='10.77.0.1', port={url.rpartition(':')[2]}") >= 3, (
        "two of an engine, one of the agent"
    )


@pytest.mark.slow
def test_each_host_has_its_python_and_its_script(away):
    script = f"{away.temporary}/environment.sh"
    away.second.receive(script, "echo noise; export MODULE=loaded\n")
    started = away.start(
        f"--ParallelSSH.pythons={{'h2': {away.python!r}}}",
        f"--ParallelSSH.scripts={{'h2': {script!r}}}",
        hosts="h2:1,other:1",
        python=sys.executable,
    )
    assert started.returncode == 0, started.stderr
    with RemoteController() as rc:
        values = [r.value for r in rc.execute("import sys, os; (sys.prefix, os.environ.get('MODULE'))")]
    assert values == [(f"{away.temporary}/bare", "loaded"), (sys.prefix, None)]
    assert away.run("stop").returncode == 0


OLD = """#!/bin/sh
exec {python} -c "import sys; sys.version_info = (3, 9, 2)
$2"
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "python", "says"),
    [
        ("unreachable:1", None, "unreachable cannot be reached by ssh: ssh: connect to host 10.77.0.99"),
        ("h2:1", "python9", "h2: /bin/sh: 1: python9: not found"),
        (
            "h2:1",
            "old",
            "old there is Python 3.9.2, and 3.11 or newer is needed: name another one",
        ),
        ("h2", None, None),
        ("h2:x", None, "'h2:x' is no host with a number of engines: write HOST:N, as in a:4,b:8"),
        ("h2:1,h2:2", None, "the host h2 is there twice"),
        ("-oProxyCommand=x:1", None, "is no host with a number of engines"),
    ],
)
def test_what_is_wrong_with_a_host_is_said(away, names, python, says):
    if python == "old":
        python = f"{away.temporary}/old"
        away.second.receive(python, OLD.format(python=away.python))
        away.second.run("chmod", "+x", python)
    started = away.start("--ParallelSSH.connect_timeout=2", hosts=names, python=python)
    if says is None:
        assert started.returncode == 0, started.stderr
        assert away.run("stop").returncode == 0
    else:
        assert started.returncode == 1
        assert says in started.stderr
        assert "0 of 1 engine is there" in started.stderr or started.stderr.startswith("ipcluster start: ")
    assert away.second.processes() == []


@pytest.mark.slow
def test_a_full_disk_there_is_said_and_nothing_is_left_on_it(away):
    away.second.run("mkdir", f"{away.temporary}/cache")
    away.second.run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", f"{away.temporary}/cache")
    started = away.start()
    assert started.returncode == 1
    assert f"h2: {away.temporary}/cache/ipkernel_ext: No space left on device" in started.stderr
    assert away.second.run("ls", "-A", f"{away.temporary}/cache/ipkernel_ext") == ""
    assert away.second.processes() == []


CLIENT = """
from ipkernel_ext import RemoteController
with RemoteController("ssh://root@h2") as rc:
    print(rc.ids, [engine.host for engine in rc.engines])
    rc["x"] = 3
    print(rc.apply(pow, 2, 3))
try:
    RemoteController("ssh://h2/other")
except Exception as error:
    print(type(error).__name__, error)
try:
    RemoteController("ssh://unreachable", timeout=2)
except Exception as error:
    print(type(error).__name__, error)
"""


def on_path(away, directory):
    """An environment in which ssh reads the test's configuration."""
    directory.mkdir()
    (directory / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {away.config} "$@"\n')
    (directory / "ssh").chmod(0o755)
    return dict(os.environ, PATH=f"{directory}:{os.environ['PATH']}")


@pytest.mark.slow
def test_a_client_reaches_a_controller_by_ssh(away, tmp_path):
    environment = on_path(away, tmp_path / "bin")
    head = away.second.start("ipcluster", "start", "-n", "2")
    while "Ctrl-C" not in head.stdout.readline():
        pass
    done = away.first.run(sys.executable, "-c", CLIENT, env=environment)
    assert done.splitlines()[:2] == ["[0, 1] ['h2', 'h2']", "[8, 8]"]
    assert "NotConnected h2: no cluster of that profile runs there: there is no file" in done
    assert "NotConnected unreachable cannot be reached by ssh: ssh: connect to host 10.77.0.99" in done
    away.second.terminate(head)


@pytest.mark.slow
def test_the_doctor_asks_another_host_what_it_reaches(away, tmp_path):
    environment = on_path(away, tmp_path / "bin")

    def doctor(host):
        command = [sys.executable, "-m", "ipkernel_ext.commands", "ipcluster", "doctor", "--from", host]
        done = subprocess.run(away.first.inside(command), capture_output=True, text=True, timeout=60, env=environment)
        return done.returncode, done.stdout

    for options, code, says in (
        (["--ip=10.77.0.1"], 0, "h2 reaches tcp://10.77.0.1:"),
        (["--ip=10.77.0.1", "--location=10.77.0.50"], 1, "problem  port: h2 does not reach tcp://10.77.0.50:"),
        ([], 0, "the controller has no port, and engines over ssh need none"),
    ):
        controller = away.first.start("ipcontroller", *options)
        while "Ctrl-C" not in controller.stdout.readline():
            pass
        found = doctor("h2")
        assert found[0] == code
        assert says in found[1]
        assert "ok       Python there: python3 on h2 is" in found[1]
        if not options:
            assert doctor("unreachable")[0] == 1
        with RemoteController() as rc:
            rc.shutdown()
        controller.wait(20)
