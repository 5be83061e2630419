"""A controller with a TCP port, met over loopback as if from another host."""

import os
import resource
import signal
import socket
import time
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.config import connection, keys
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import AuthenticationError, NotConnected

SOON = 2.0  # seconds in which an error must be there


class Cluster:
    """A controller with a port, its files, and copies of them as another host has them."""

    def __init__(self, command, directory):
        self._command = command
        self._directory = directory
        self.place = Place.of_profile(None)

    def start(self, *options):
        self.controller = self._command("ipcontroller", *(options or ["--ip=127.0.0.1"]))
        self.said = []
        while "Ctrl-C" not in (line := self.controller.stdout.readline()):
            assert line, self.controller.stderr.read()
            self.said.append(line.rstrip())
        return self

    def file(self, role):
        return connection.read(self.place.connection(role))

    def copy(self, role, **changes):
        """As it would be after copying it to a host that shares nothing with this one."""
        away = {"url": "ipc:///nowhere/controller.sock", "host": "elsewhere", "directory": "/nowhere"}
        path = self._directory / f"{role}-{len(list(self._directory.iterdir()))}.json"
        connection.write(path, msgspec.structs.replace(self.file(role), **away, **changes))
        return path

    def wrong_keys(self, what):
        given = self.file("client").keys
        return {
            "none": None,
            "random": keys.Keys(given.server, keys.make().client),
            "server": keys.Keys(keys.make().server.public, given.own),
        }[what]


@pytest.fixture
def cluster(command, tmp_path):
    """A controller that listens at 127.0.0.1."""
    directory = tmp_path / "copies"
    directory.mkdir()
    return Cluster(command, directory)


def raises_soon(kind, path, **options):
    begun = time.monotonic()
    with pytest.raises(kind) as raised:
        RemoteController(connection_file=path, **options)
    assert time.monotonic() - begun < SOON
    return str(raised.value)


def fails_soon(engine):
    """Its error output. A Python that imports IPython may take longer to start than any error may take to come."""
    assert engine.wait(20) != 0
    return engine.stderr.read()


def test_no_port_unless_one_is_asked_for(command):
    controller = command("ipcontroller")
    for _ in range(4):
        controller.stdout.readline()
    assert not [c for c in psutil.Process(controller.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert not Place.of_profile(None).keys.exists()
    assert connection.read(Place.of_profile(None).connection("client")).keys is None


def test_work_over_tcp(cluster, command):
    cluster.start()
    assert any("tcp://127.0.0.1:" in line for line in cluster.said)
    assert any(str(cluster.place.connection("engine")) in line and "ipengine --file" in line for line in cluster.said)
    for path in (cluster.place.keys, cluster.place.connection("client"), cluster.place.connection("engine")):
        assert path.stat().st_mode & 0o777 == 0o600
    command("ipengine", f"--file={cluster.copy('engine')}")
    with RemoteController(connection_file=cluster.copy("client")) as rc, RemoteController() as local:
        rc.wait_for_engines(1, 20)
        assert rc.status()["controller"]["address"].startswith("tcp://")
        assert local.status()["controller"]["address"].startswith("ipc://")
        assert rc[0].execute("a = 6; a * 7").value == 42
        local["b"] = bytes(2**24)
        assert rc[0]["b"] == bytes(2**24)
        assert rc.map(abs, range(-100, 0)) == list(range(100, 0, -1))
    cluster.controller.send_signal(signal.SIGINT)
    assert cluster.controller.wait(10) == 0
    assert not cluster.place.keys.exists()


@pytest.mark.parametrize(("engine", "client"), [("tcp", "ipc"), ("ipc", "tcp")])
def test_what_is_in_shared_memory_on_one_side_travels_as_bytes_to_the_other(cluster, command, engine, client):
    cluster.start()
    command("ipengine", *([f"--file={cluster.copy('engine')}"] if engine == "tcp" else []))
    array = np.arange(2**20)
    with RemoteController(connection_file=cluster.copy("client") if client == "tcp" else None) as rc:
        rc.wait_for_engines(1, 20)
        assert rc.status()["controller"]["address"].startswith(client)
        rc.push({"array": array})
        pulled = rc[0].pull("array")
        np.testing.assert_array_equal(pulled, array)
        pulled[0] = 1
        assert rc.submit(np.sum, array).result(20) == array.sum()
        assert rc[0].apply(np.full, 2**20, 3.0).sum() == 3 * 2**20


def test_an_address_given_takes_its_keys_from_the_file(cluster, command):
    cluster.start()
    (url,) = cluster.file("client").tcp
    command("ipengine", f"--url={url}")
    with RemoteController(url) as rc:
        rc.wait_for_engines(1, 20)
        assert rc.status()["controller"]["address"] == url
    missing = command("ipengine", f"--url={url}", "--file=/no/such/engine.json")
    said = fails_soon(missing)
    assert "/no/such/engine.json" in said
    assert "keys" in said


def test_ipv6(cluster, command):
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this host has no IPv6")
    cluster.start("--ip=::1")
    assert cluster.file("client").tcp[0].startswith("tcp://[::1]:")
    with RemoteController(connection_file=cluster.copy("client")) as rc:
        assert rc.ids == []


# ---------------------------------------------------------------- wrong keys


@pytest.mark.fault("wrong, missing or old keys")
@pytest.mark.parametrize("what", ["none", "random", "server"])
def test_wrong_keys(cluster, command, what):
    cluster.start()
    wrong = cluster.wrong_keys(what)
    text = raises_soon(AuthenticationError, path := cluster.copy("client", keys=wrong))
    assert str(path) in text
    assert "copy it again" in text
    said = fails_soon(command("ipengine", f"--file={(path := cluster.copy('engine', keys=wrong))}"))
    assert str(path) in said
    with RemoteController() as rc:
        while rc.status()["controller"]["refused"] < 2:
            pass
        assert rc.ids == []
    cluster.controller.terminate()
    cluster.controller.wait(10)
    log = cluster.controller.stderr.read()
    assert "was refused" in log
    assert len(log.splitlines()) < 5


@pytest.mark.fault("a key is used for what it is not for")
def test_keys_in_the_wrong_role(cluster, command):
    cluster.start()
    assert "use client.json" in raises_soon(AuthenticationError, cluster.copy("engine"))
    assert "use engine.json" in fails_soon(command("ipengine", f"--file={cluster.copy('client')}"))
    with RemoteController() as rc:
        assert rc.ids == []
        assert rc.status()["controller"]["refused"] >= 2


# ---------------------------------------------------------------- wrong addresses


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.mark.fault("a machine's address leads nowhere")
def test_nobody_there(cluster):
    cluster.start()
    url = f"tcp://127.0.0.1:{free_port()}"
    assert url in raises_soon(NotConnected, cluster.copy("client", tcp=[url]))


def test_the_address_that_answers_is_found_among_several(cluster):
    cluster.start()
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        others = [f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{foreign.getsockname()[1]}"]
        (own,) = cluster.file("client").tcp
        with RemoteController(connection_file=cluster.copy("client", tcp=[*others, own])) as rc:
            assert rc.status()["controller"]["address"] == own


def test_a_service_that_is_none_of_ours(cluster, command):
    cluster.start()
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        url = f"tcp://127.0.0.1:{foreign.getsockname()[1]}"
        assert f"what listens at {url}" in raises_soon(NotConnected, cluster.copy("client", tcp=[url]))
        assert f"what listens at {url}" in fails_soon(
            command("ipengine", f"--file={cluster.copy('engine', tcp=[url])}")
        )


def test_a_port_in_use_is_named(command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        controller = command("ipcontroller", f"--port={port}")
        assert controller.wait(20) != 0
        said = controller.stderr.read()
        assert f"tcp://127.0.0.1:{port} is in use" in said
        assert "--port" in said
        assert not Place.of_profile(None).directory.exists()


def test_an_address_of_another_host_is_named(command):
    controller = command("ipcontroller", "--ip=192.0.2.77")
    assert controller.wait(20) != 0
    assert "--ip=192.0.2.77 is no address of this host" in controller.stderr.read()


def test_a_stale_file_says_so_at_once(cluster):
    cluster.start()
    cluster.controller.kill()
    cluster.controller.wait()
    with pytest.raises(NotConnected, match="was killed") as raised:
        RemoteController()
    assert str(cluster.place.connection("client")) in str(raised.value)
    cluster.place.sweep()


# ---------------------------------------------------------------- deaths


def reached(rc, epoch):
    """Wait until the client and an engine have found the controller's next life."""
    while rc.status()["controller"]["epoch"] == epoch:
        pass
    rc.wait_for_engines(1, 20)


def test_a_killed_controller_comes_back_with_its_keys_and_port_and_engines_keep_what_they_have(cluster, command):
    cluster.start()
    before = cluster.file("client")
    command("ipengine", f"--file={cluster.copy('engine')}")
    with RemoteController(connection_file=cluster.copy("client")) as rc:
        rc.wait_for_engines(1, 20)
        rc["a"] = 41
        epoch = rc.status()["controller"]["epoch"]
        cluster.controller.kill()
        cluster.controller.wait()
        cluster.start()
        after = cluster.file("client")
        assert (after.keys, after.tcp) == (before.keys, before.tcp)
        assert after.epoch > epoch
        reached(rc, epoch)
        assert rc[0]["a"] == 41


@pytest.mark.fault("the port was taken while the controller was away")
def test_a_port_taken_meanwhile_is_replaced_and_the_files_say_so(cluster, command):
    cluster.start()
    before = cluster.file("client")
    port = int(before.tcp[0].rpartition(":")[2])
    engine_file = cluster.copy("engine")
    command("ipengine", f"--file={engine_file}")
    with RemoteController() as rc:
        rc.wait_for_engines(1, 20)
        rc["a"] = 41
        epoch = rc.status()["controller"]["epoch"]
        cluster.controller.kill()
        cluster.controller.wait()
        with socket.create_server(("127.0.0.1", port)):
            cluster.start()
            after = cluster.file("client")
            assert after.keys == before.keys
            assert after.tcp != before.tcp
            os.replace(cluster.copy("engine"), engine_file)
            reached(rc, epoch)
            assert rc[0]["a"] == 41


# ---------------------------------------------------------------- strangers

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE" + bytes(47)
HUGE = b"\x06" + (2**40).to_bytes(8, "big")
NOISE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,
    b"\xff" + (2**40).to_bytes(8, "big") + b"\x7f" + bytes(100),
    GREETING + HUGE + bytes(1000),
    GREETING + b"\x04\x05HELLO" + bytes(200),
    GREETING[:20],
    bytes(1000),
    b"\xff" * 1000,
]


@pytest.mark.fault("any bytes before a key was shown")
def test_noise_costs_nothing_and_does_no_harm(cluster):
    cluster.start()
    host, _, port = cluster.file("client").tcp[0].removeprefix("tcp://").rpartition(":")
    memory = psutil.Process(cluster.controller.pid).memory_info().rss
    noise = [*NOISE, *(os.urandom(200) for _ in range(100))]
    for data in noise:
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(data)
    with RemoteController(connection_file=cluster.copy("client")) as rc:
        while rc.status()["controller"]["refused"] < len(noise):
            pass
        assert rc.ids == []
    assert psutil.Process(cluster.controller.pid).memory_info().rss - memory < 16 * 2**20
    cluster.controller.terminate()
    cluster.controller.wait(10)
    assert len(cluster.controller.stderr.read().splitlines()) < 5


@pytest.mark.fault("a frame that claims to be huge")
def test_a_frame_too_large_ends_its_connection_before_any_key(cluster):
    cluster.start()
    host, _, port = cluster.file("client").tcp[0].removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port))) as stranger:
        stranger.settimeout(1.0)
        stranger.sendall(GREETING + HUGE)
        answer = b""
        try:
            while data := stranger.recv(1000):
                answer += data
        except ConnectionResetError:
            pass
        assert len(answer) <= len(GREETING), "nothing but a greeting"


@pytest.mark.fault("many connections that say nothing")
def test_idle_strangers_keep_nobody_out_and_are_thrown_out(cluster):
    cluster.start()
    host, _, port = cluster.file("client").tcp[0].removeprefix("tcp://").rpartition(":")
    strangers = [socket.create_connection((host, int(port))) for _ in range(50)]
    begun = time.monotonic()
    with RemoteController(connection_file=cluster.copy("client")):
        assert time.monotonic() - begun < 1
    for stranger in strangers:
        stranger.settimeout(5)
        while stranger.recv(100):
            pass
        stranger.close()


# ---------------------------------------------------------------- secrets


def test_secrets_are_in_their_files_only(cluster, command):
    cluster.start()
    files = [cluster.copy("engine"), cluster.copy("client"), cluster.copy("client", keys=cluster.wrong_keys("random"))]
    engine = command("ipengine", f"--file={files[0]}")
    several = command("ipengine", "-n", "2", f"--file={files[0]}")
    cluster_keys = keys.load(cluster.place.keys)
    secrets = [pair.secret for pair in (cluster_keys.server, cluster_keys.client, cluster_keys.engine)]
    with RemoteController(connection_file=files[1]) as rc:
        rc.wait_for_engines(3, 20)
        raises_soon(AuthenticationError, files[2])
        shown = [repr(rc), repr(vars(rc._link.channel)), repr(vars(rc._link.channel._edge))]
        processes = [psutil.Process(pid) for pid in (cluster.controller.pid, engine.pid, several.pid)]
        for process in [*processes, *(child for one in processes for child in one.children(recursive=True))]:
            there = Path(f"/proc/{process.pid}")
            shown += [(there / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")]
        shown += rc.execute("import os; print(dict(os.environ))").stdout
    for process in (engine, several, cluster.controller):
        process.terminate()
        process.wait(15)
        shown += [process.stdout.read(), process.stderr.read()]
    for secret in secrets:
        assert not any(secret in text for text in [*shown, *cluster.said])


def test_a_cluster_listens_where_its_profile_says(ipython_dir, command):
    directory = ipython_dir / "profile_default"
    directory.mkdir(parents=True)
    (directory / "ipcontroller_config.py").write_text("c.ParallelController.ip = '127.0.0.1'\n")
    cluster = command("ipcluster", "start", "-n", "1")
    said = [cluster.stdout.readline() for _ in range(5)]
    assert said[1].startswith("for other hosts it listens at tcp://127.0.0.1:")
    assert "engine.json" in said[2]
    address = said[1].split()[-1]
    with RemoteController(address) as rc:
        assert rc.status()["controller"]["address"] == address
        assert rc.execute("6 * 7").values == [42]
    with launch(n=1) as private:
        assert private.execute("1")
        assert private.status()["controller"]["address"].startswith("ipc://")


def test_a_controller_that_has_keys_leaves_no_core_file(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cluster.start()
    pid = cluster.controller.pid
    resource.prlimit(pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    os.kill(pid, signal.SIGABRT)
    _, status = os.waitpid(pid, 0)
    cluster.controller.returncode = -os.WTERMSIG(status)
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status)
    cluster.place.sweep()
