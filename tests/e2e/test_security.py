"""Attempts to get in, to get more than a key gives, to listen, and to wear a controller down.

What a wrong key meets, and noise from strangers, is in ``test_tcp``.
"""

import contextlib
import json
import logging
import os
import resource
import selectors
import socket
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import get_args

import psutil
import pytest
import zmq
from msgspec.structs import replace

from ipkernel_ext import RemoteController
from ipkernel_ext.config import connection, keys
from ipkernel_ext.config.place import Place
from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.errors import AuthenticationError, NotConnected
from ipkernel_ext.net.local import Connection, path_of
from ipkernel_ext.net.pieces import PIECE
from ipkernel_ext.net.sockets import Poller, receive, send
from ipkernel_ext.net.tcp import connecting_socket
from tests.core.test_wire import EXAMPLES
from tests.e2e.test_commands import run
from tests.e2e.test_tcp import GREETING, cluster, raises_soon

__all__ = ["cluster"]

NOBODY = 65534  # its user and its group, wherever Linux is


class RawPeer:
    """Somebody who speaks the protocol and says what it likes."""

    def __init__(self, url, given):
        self.context = zmq.Context()
        self.poller = Poller()
        if (path := path_of(url)) is not None:
            self.socket = Connection.to(path)
        else:
            self.socket = connecting_socket(self.context, url, given)
            self.socket.connect(url)
        self.poller.register(self.socket)

    def say(self, *messages, frames=()):
        self.say_parts(wire.encode(0, [(message, frames) for message in messages]))

    def say_parts(self, parts):
        send(self.socket, parts)
        if isinstance(self.socket, Connection):
            self.socket.drain(10)

    def hear(self, decoder, timeout=5000):
        """The messages of the next batch; none when none comes."""
        until = time.monotonic() + timeout / 1000
        while (parts := receive(self.socket)) is None and (left := until - time.monotonic()) > 0:
            if isinstance(self.socket, Connection) and self.socket.ended:
                break
            self.poller.poll(int(1000 * left) + 1)  # a large batch comes bit by bit
        return [] if parts is None else [message for message, _ in decoder.decode(parts)[1]]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close(0)
        self.context.term()


def endpoint(cluster):
    host, _, port = cluster.file("client").tcp[0].removeprefix("tcp://").rpartition(":")
    return host, int(port)


def still(engine):
    """The record of `engine` without the figures that move while it does nothing."""
    return replace(engine, rss=0, cpu=0.0)


@pytest.fixture
def working(cluster, command):
    """A cluster with a port, one engine, and a client of this host."""
    cluster.start()
    command("ipengine")
    with RemoteController() as rc:
        rc.wait_for_engines(1, 20)
        cluster.rc = rc
        yield cluster


# ---------------------------------------------------------------- what a key is not for


@pytest.mark.fault("a key is used for what it is not for")
def test_an_engines_key_does_nothing_that_clients_do(working, tmp_path):
    trace = tmp_path / "trace"
    work = m.Execute(f"open({str(trace)!r}, 'w').close()")
    forbidden = [e for e in EXAMPLES if type(e) in get_args(m.FromClient) and not isinstance(e, m.Goodbye)]
    forbidden += [m.Submit([1], work), m.Submit([2], work, [0]), m.ShutDown(), m.Interrupt([0]), m.EndEngines(3, [0])]
    file = working.file("engine")
    before = working.rc.status()
    with RawPeer(file.tcp[0], file.keys) as thief:
        for message in forbidden:
            thief.say(message, frames=[b"x"])
        thief.say(m.HelloClient("thief", m.PROTOCOL, "3", "h", 1, []), *forbidden)
        heard = []
        while not any(isinstance(message, m.Refused) for message in heard):
            more = thief.hear(wire.Decoder(m.ToClient))
            assert more, heard
            heard += more
        assert not any(isinstance(message, m.WelcomeClient | m.Result | m.Answer) for message in heard)
    after = working.rc.status()
    assert working.rc.execute("6 * 7").values == [42]
    assert not trace.exists()
    assert after["controller"]["refused"] > before["controller"]["refused"]
    assert [still(engine) for engine in after["engines"]] == [still(engine) for engine in before["engines"]]
    assert len(after["clients"]) == len(before["clients"])


@pytest.mark.fault("a key is used for what it is not for")
def test_an_engine_cannot_answer_for_another_or_take_its_place(working):
    rc = working.rc
    (victim,) = rc.engines
    running = rc[0].execute("while True: pass", block=False)
    file = working.file("engine")
    client = rc._link.channel._core.client
    with RawPeer(file.tcp[0], file.keys) as thief:
        own = m.EngineRecord("thief", "elsewhere", 1, "3.11")
        thief.say(m.HelloEngine(m.PROTOCOL, own, 1, m.Inventory()))
        heard = thief.hear(wire.Decoder(m.ToEngine))
        assert any(isinstance(message, m.WelcomeEngine) for message in heard)
        forged = [m.Result(m.TaskId(client, n), a, 0, n, None, 1) for n in range(5) for a in range(3)]
        thief.say(*forged)
        thief.say(m.EngineExited(victim.boot, m.Exit(signal=9), False))
        rc.wait_for_engines(2, 5)
        assert not running.done()
        assert [engine.boot for engine in rc.engines if engine.id == 0] == [victim.boot]
    running.cancel()
    assert rc[0].execute("6 * 7").value == 42


# ---------------------------------------------------------------- listening and repeating


class Tap:
    """Stands between two sides of a TCP connection and keeps what passes."""

    def __init__(self, host, port):
        self.said = b""  # by whoever connects
        self.heard = b""
        self._there = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        with self._listener, selectors.DefaultSelector() as selector:
            one, _ = self._listener.accept()
            other = socket.create_connection(self._there)
            selector.register(one, selectors.EVENT_READ, (other, "said"))
            selector.register(other, selectors.EVENT_READ, (one, "heard"))
            with one, other:
                while True:
                    for key, _ in selector.select():
                        to, kept = key.data
                        try:
                            data = key.fileobj.recv(2**16)
                        except ConnectionResetError:
                            data = b""
                        if not data:
                            return
                        setattr(self, kept, getattr(self, kept) + data)
                        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                            to.sendall(data)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(20)
        assert not self._thread.is_alive()


MARK = "a text that nobody else may read"
LARGE = 10_000  # times


@pytest.mark.fault("recorded bytes are sent again")
def test_who_listens_reads_nothing_and_who_repeats_it_does_nothing(working):
    rc = working.rc
    rc.push({"count": 0})
    with (
        Tap(*endpoint(working)) as tap,
        RemoteController(connection_file=working.copy("client", tcp=[tap.url])) as remote,
    ):
        assert remote[0].execute(f"count += 1; '{MARK}'").value == MARK
        remote[0].push({"large": MARK.encode() * LARGE})
    assert MARK.encode() not in tap.said + tap.heard
    assert len(tap.said) > LARGE
    before = rc.status()
    for said in (tap.said, GREETING + tap.said[64:], tap.said * 2):
        with socket.create_connection(endpoint(working)) as stranger:
            stranger.settimeout(5)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                stranger.sendall(said)
                while stranger.recv(2**16):
                    pass
    while rc.status()["controller"]["refused"] < before["controller"]["refused"] + 3:
        pass
    assert rc["count"] == [1]
    assert {client["id"] for client in rc.status()["clients"]} <= {client["id"] for client in before["clients"]}


@pytest.mark.fault("a message comes twice")
def test_a_message_that_is_said_twice_takes_effect_once(working):
    rc = working.rc
    rc.push({"count": 0})
    file = working.file("client")
    submit = m.Submit([1], m.Execute("count += 1"), [0], [rc.engines[0].boot])
    with RawPeer(file.tcp[0], file.keys) as peer:
        hello = m.HelloClient("twice", m.PROTOCOL, "3", "h", 1, [1])
        peer.say(hello, submit)
        peer.say(submit)
        peer.say(hello, submit)
        results = []
        while not results:
            heard = peer.hear(wire.Decoder(m.ToClient))
            assert heard
            results += [message for message in heard if isinstance(message, m.Result)]
    assert rc["count"] == [1]


# ---------------------------------------------------------------- another user


def as_nobody(action):
    """What an action gives, or its error's name, in a process of a user who has no rights here."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            try:
                said = action()
            except Exception as error:
                said = type(error).__name__
            os.write(writer, json.dumps(said).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return json.loads(text)


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@pytest.fixture
def open_house(monkeypatch):
    """Directories above a cluster's that anybody may enter, so that only its own keep others out."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        monkeypatch.setenv("TMPDIR", directory)
        monkeypatch.setattr(tempfile, "tempdir", directory)
        monkeypatch.setenv("IPYTHONDIR", f"{directory}/ipython")
        yield Path(directory)


@pytest.mark.fault("another user of the host tries to get in")
@as_root
def test_another_user_reads_no_file_and_reaches_no_socket(open_house, cluster, command):
    cluster.place = Place.of_profile(None)
    cluster.start()
    engine = command("ipengine")
    with RemoteController() as rc:
        rc.wait_for_engines(1, 20)
    place = cluster.place
    files = [
        place.keys,
        place.journal,
        place.connection("client"),
        place.connection("engine"),
        place.directory / "lock",
    ]
    assert all(file.exists() for file in files)
    pids = [cluster.controller.pid, engine.pid]
    secret_parts = [f"/proc/{pid}/{name}" for pid in pids for name in ("environ", "mem", "maps")]

    def read(path):
        with open(path, "rb") as file:
            return bool(file.read(1))

    for path in [*files, *secret_parts]:
        assert as_nobody(lambda path=path: read(path)) == "PermissionError", path
    for directory in (place.directory, place.connections, place.engines):
        assert as_nobody(lambda directory=directory: os.listdir(directory)) == "PermissionError", directory

    def reach():
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(str(place.socket))

    assert as_nobody(reach) == "PermissionError"
    assert as_nobody(lambda: os.kill(cluster.controller.pid, 0)) == "PermissionError"


@pytest.mark.fault("another user of the host tries to get in")
@as_root
def test_another_user_on_the_unix_socket_is_refused_even_where_the_files_let_them(open_house, cluster):
    """The directory's rights are one lock; that the system says who connects is another."""
    cluster.place = Place.of_profile(None)
    cluster.start()
    for directory in (cluster.place.directory.parent, cluster.place.directory):
        directory.chmod(0o755)
    cluster.place.socket.chmod(0o666)
    url = cluster.file("client").url

    def say():
        with RawPeer(url, None) as peer:
            peer.say(m.HelloClient("nobody", m.PROTOCOL, "3", "h", 1, []), m.ShutDown())
            return [type(message).__name__ for message in peer.hear(wire.Decoder(m.ToClient))]

    assert as_nobody(say) == [], "nothing was heard, and it is hung up on"
    with RemoteController() as rc:
        status = rc.status()
        assert status["controller"]["refused"] == 1
        assert len(status["clients"]) == 1


@pytest.mark.fault("a directory of ours was made by somebody else")
@as_root
def test_a_place_that_another_user_made_first_is_not_used(open_house, command):
    root = Place.of_profile(None).directory.parent
    root.mkdir(mode=0o777)
    os.chown(root, NOBODY, NOBODY)
    controller = command("ipcontroller")
    assert controller.wait(20) != 0
    assert "is not a directory of this user" in controller.stderr.read()
    assert list(root.iterdir()) == []


# ---------------------------------------------------------------- wearing it down

GIGABYTE = 2**30


@pytest.mark.fault("a frame that claims to be huge")
def test_a_gigabyte_before_any_key_is_not_taken(cluster):
    """Neither as one frame, whose length is claimed first, nor as many that are each short enough."""
    cluster.start()
    controller = psutil.Process(cluster.controller.pid)
    one = b"\x06" + GIGABYTE.to_bytes(8, "big")
    many = b"\x02" + PIECE.to_bytes(8, "big") + bytes(PIECE)
    with RemoteController(connection_file=cluster.copy("client")) as rc:
        memory = controller.memory_info().rss
        for begin, more in ((GREETING + one, bytes(2**20)), (GREETING, many)) * 3:
            with socket.create_connection(endpoint(cluster)) as stranger:
                sent = 0
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    stranger.sendall(begin)
                    while sent < GIGABYTE:
                        stranger.sendall(more)
                        sent += len(more)
                assert sent < 32 * 2**20, "what the system buffers on the way"
                assert controller.memory_info().rss - memory < 8 * 2**20
        while rc.status()["controller"]["refused"] < 6:
            pass
        assert controller.memory_info().rss - memory < 8 * 2**20


@pytest.mark.fault("many connections that say nothing")
def test_half_open_connections_up_to_the_limit_of_files_keep_nobody_out(cluster):
    cluster.start()
    limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 4096) - 256  # the rest is for this process's own
    file = cluster.copy("client")
    strangers = []
    with RemoteController() as rc:
        try:
            for _ in range(limit):
                strangers.append(stranger := socket.create_connection(endpoint(cluster)))
                stranger.sendall(GREETING[:20])
            begun = time.monotonic()
            with RemoteController(connection_file=file) as late:
                assert late.ids == []
                assert time.monotonic() - begun < 1
            while rc.status()["controller"]["refused"] < limit:
                pass
        finally:
            for stranger in strangers:
                stranger.close()


# ---------------------------------------------------------------- secrets and tracebacks


def test_tracebacks_with_all_variables_show_no_secret(cluster):
    """As rich and IPython's verbose mode print them, and as libraries that report errors send them."""
    cluster.start()
    given = cluster.wrong_keys("random")
    path = cluster.copy("client", keys=given)
    shown = []
    for use in (lambda: RemoteController(connection_file=path), lambda: keys.load(damaged(cluster.place.keys))):
        with pytest.raises(NotConnected) as raised:
            use()
        full = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
        shown += full.format()
    cluster_keys = keys.load(cluster.place.keys)
    for secret in (given.own.secret, cluster_keys.server.secret, cluster_keys.client.secret):
        assert not any(secret in text for text in shown)


def damaged(path):
    copy = path.with_name("damaged.key")
    copy.write_bytes(path.read_bytes()[:-10])
    copy.chmod(0o600)
    return copy


def test_no_log_of_ours_shows_a_secret_at_any_level(cluster, caplog):
    cluster.start()
    with caplog.at_level(logging.DEBUG), RemoteController(connection_file=cluster.copy("client")) as rc:
        assert rc.ids == []
    cluster_keys = keys.load(cluster.place.keys)
    assert not any(pair.secret in caplog.text for pair in (cluster_keys.server, cluster_keys.client))


# ---------------------------------------------------------------- new keys


@pytest.mark.fault("wrong, missing or old keys")
def test_new_keys_shut_the_old_ones_out_at_once_and_nothing_is_lost(cluster, command):
    cluster.start()
    old_client, engine_file = cluster.copy("client"), cluster.copy("engine")
    command("ipengine", f"--file={engine_file}")
    port = endpoint(cluster)[1]
    with RemoteController() as local, RemoteController(connection_file=old_client) as remote:
        local.wait_for_engines(1, 20)
        local.push({"kept": 41})
        old = keys.load(cluster.place.keys)
        done = run("ipcluster", "rotate-keys")
        assert done.returncode == 0, done.stderr
        assert str(cluster.place.connection("engine")) in done.stdout
        new = keys.load(cluster.place.keys)
        assert {pair.public for pair in (new.server, new.client, new.engine)}.isdisjoint(
            {pair.public for pair in (old.server, old.client, old.engine)}
        )
        assert endpoint(cluster)[1] == port
        assert cluster.place.keys.stat().st_mode & 0o777 == 0o600
        assert "copy it again" in raises_soon(AuthenticationError, old_client)
        os.replace(cluster.copy("engine"), engine_file)
        assert local[0]["kept"] == 41
        os.replace(cluster.copy("client"), old_client)
        assert remote[0]["kept"] == 41
        assert remote[0].execute("kept + 1").value == 42


def test_new_keys_of_a_cluster_that_has_none_or_does_not_run(command):
    assert "no cluster of profile 'default' runs" in run("ipcluster", "rotate-keys").stdout
    place = Place.of_profile(None)
    killed = command("ipcontroller", "--ip=127.0.0.1")
    while "Ctrl-C" not in killed.stdout.readline():
        pass
    killed.kill()
    killed.wait()
    assert place.keys.exists()
    assert "are gone" in run("ipcluster", "rotate-keys").stdout
    assert not place.keys.exists()
    controller = command("ipcontroller")
    while "Ctrl-C" not in controller.stdout.readline():
        pass
    assert "has no TCP port" in run("ipcluster", "rotate-keys").stdout
    assert controller.poll() is None
    assert connection.read(place.connection("client")).keys is None
