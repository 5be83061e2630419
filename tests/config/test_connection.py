"""Connection files: private from their first byte, and refused when they are not."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ipkernel_ext.config import connection, keys
from ipkernel_ext.config.connection import Address, Connection
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import NotConnected

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at files as Linux shows them")


def example(**other: object) -> Connection:
    fields = {
        "url": "ipc:///tmp/x/controller.sock",
        "epoch": 7,
        "pid": 1234,
        "host": socket.gethostname(),
        "directory": "/tmp/x",
        "role": "client",
    }
    return Connection(**{**fields, **other})  # type: ignore[arg-type]


@pytest.fixture
def umask(request: pytest.FixtureRequest):
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "client.json"
    connection.write(path, example())
    assert connection.read(path) == example()
    assert list(tmp_path.iterdir()) == [path]


def test_writing_again_replaces(tmp_path: Path) -> None:
    path = tmp_path / "client.json"
    connection.write(path, example(epoch=1))
    connection.write(path, example(epoch=2))
    assert connection.read(path).epoch == 2


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277], indirect=True)
def test_only_the_owner_can_read_it(tmp_path: Path, umask: None) -> None:
    path = tmp_path / "client.json"
    connection.write(path, example())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("umask", [0o000], indirect=True)
def test_it_is_private_before_it_has_a_byte(tmp_path: Path, umask: None, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[tuple[int, int]] = []
    real = os.open

    def seen(path: Path, flags: int, mode: int = 0o777, **kwargs: int) -> int:
        file = real(path, flags, mode, **kwargs)
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL
            assert flags & os.O_NOFOLLOW
            modes.append((stat.S_IMODE(os.fstat(file).st_mode), os.fstat(file).st_size))
        return file

    monkeypatch.setattr(os, "open", seen)
    connection.write(tmp_path / "client.json", example())
    assert modes == [(0o600, 0)]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "client.json"
    connection.write(path, example(epoch=1))

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        connection.write(path, example(epoch=2))
    assert connection.read(path).epoch == 1
    assert list(tmp_path.iterdir()) == [path]


def test_writing_through_a_link_replaces_the_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = tmp_path / "client.json"
    path.symlink_to(victim)
    connection.write(path, example())
    assert victim.read_text() == "mine"
    assert not path.is_symlink()


def other_can_read(path: Path) -> None:
    path.chmod(0o640)


def foreign(path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give files away")
    os.chown(path, 12345, -1)


def linked(path: Path) -> None:
    path.rename(path.with_name("real.json"))
    path.symlink_to(path.with_name("real.json"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def strange(path: Path) -> None:
    path.write_text('{"url": 3}')


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.fault("a connection file is damaged, foreign or readable by others")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_can_read, "can be read by others; `chmod 600"),
        (foreign, "not yours; it belongs to uid 12345"),
        (linked, "symbolic link"),
        (cut, "damaged"),
        (strange, "damaged"),
        (binary, "damaged"),
        (empty, "damaged"),
        (directory, "not a connection file"),
        (pipe, "not a connection file"),
        (Path.unlink, "there is no file"),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    path = tmp_path / "client.json"
    connection.write(path, example())
    spoil(path)
    with pytest.raises(NotConnected, match=said) as caught:
        connection.read(path)
    assert str(path) in str(caught.value)


@linux
@pytest.mark.parametrize("spoil", [cut, other_can_read, directory, pipe, linked])
def test_no_descriptor_is_left_open(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "client.json"
    connection.write(path, example())
    spoil(path)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(NotConnected):
        connection.read(path)
    assert os.listdir("/proc/self/fd") == before


# ---------------------------------------------------------------- locate


def test_a_missing_cluster_names_the_file_and_the_command() -> None:
    with pytest.raises(NotConnected) as caught:
        connection.locate("client")
    assert str(Place.of_profile(None).connection("client")) in str(caught.value)
    assert "`ipcluster start`" in str(caught.value)
    assert "%cluster start" in str(caught.value)
    with pytest.raises(NotConnected, match="`ipcluster start --profile=mpi`"):
        connection.locate("engine", "mpi")


def test_by_profile_and_by_file(tmp_path: Path) -> None:
    place = Place.of_profile("mpi")
    place.make()
    found = example(url=f"ipc://{place.socket}", directory=str(place.directory), pid=os.getpid())
    lock = place.lock()
    try:
        path = place.connection("client")
        connection.write(path, found)
        address = Address((found.url,), None, str(path))
        assert connection.locate("client", "mpi") == address
        assert connection.locate("client", None, path) == address
        assert connection.locate("client", None, str(path)) == address
    finally:
        os.close(lock)
        place.sweep()


def test_a_unix_socket_of_another_host_cannot_be_reached(tmp_path: Path) -> None:
    path = tmp_path / "client.json"
    connection.write(path, example(host="elsewhere", directory=str(tmp_path)))
    with pytest.raises(NotConnected, match="runs on elsewhere"):
        connection.locate("client", None, path)


def test_another_host_is_reached_over_tcp_with_the_keys_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "client.json"
    cluster = keys.make()
    there = ["tcp://192.0.2.1:5555", "tcp://[2001:db8::1]:5555"]
    connection.write(path, example(host="elsewhere", tcp=there, keys=cluster.of("client")))
    assert connection.locate("client", None, path) == Address(tuple(there), cluster.of("client"), str(path))
    given = connection.locate("client", None, path, "tcp://localhost:1")
    assert given == Address(("tcp://localhost:1",), cluster.of("client"), str(path))


def test_the_unix_socket_is_taken_where_it_can_be_reached(tmp_path: Path) -> None:
    path = tmp_path / "client.json"
    url = f"ipc://{tmp_path}/s"
    there = example(url=url, directory=str(tmp_path), pid=os.getpid(), tcp=["tcp://192.0.2.1:5555"])
    connection.write(path, there)
    lock = Place(tmp_path, None).lock()
    assert connection.locate("client", None, path).urls == (url,)
    os.close(lock)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{tmp_path}/s")
        listening.listen()
        connection.write(path, msgspec.structs.replace(there, host="another name of this host"))
        assert connection.locate("client", None, path).urls == (url,)
    assert connection.locate("client", None, path).urls == ("tcp://192.0.2.1:5555",), "nobody listens any more"


def test_what_a_killed_cluster_left_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "client.json"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = example(url=f"ipc://{tmp_path}/none.sock", directory=str(tmp_path), pid=ended.pid)
    connection.write(path, left)
    with pytest.raises(NotConnected, match=f"pid {ended.pid}\\) that was killed"):
        connection.locate("client", None, path)
    agent = Place(tmp_path, None).agent
    agent.write_text(str(os.getpid()))
    with pytest.raises(NotConnected, match="was killed"):
        connection.locate("client", None, path)
    with agent.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert connection.locate("client", None, path).urls == (left.url,), "its agent starts it again"
    connection.write(path, msgspec.structs.replace(left, directory="/gone"))
    with pytest.raises(NotConnected, match="/gone"):
        connection.locate("client", None, path)


def test_an_address_alone_says_which_file_it_needs(tmp_path: Path) -> None:
    with pytest.raises(NotConnected, match="keys") as caught:
        connection.locate("engine", None, tmp_path / "engine.json", "tcp://192.0.2.1:5555")
    assert str(tmp_path / "engine.json") in str(caught.value)
    with pytest.raises(NotConnected, match="tcp://HOST:PORT"):
        connection.locate("engine", None, None, "tcp://192.0.2.1")
    assert connection.locate("engine", None, None, "ipc:///x") == Address(("ipc:///x",), None, "the address given")
