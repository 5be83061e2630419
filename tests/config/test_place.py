"""Runtime directories: whose they are, how long their paths are, who holds them."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipkernel_ext.config import private
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import AlreadyRunning, NotConnected


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place.private()
    place.make()
    yield place
    place.sweep()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_profile_has_one_place_and_private_ones_differ() -> None:
    assert Place.of_profile("a").directory == Place.of_profile("a").directory
    assert Place.of_profile(None).directory == Place.of_profile("default").directory
    assert Place.of_profile("a").directory != Place.of_profile("b").directory
    assert Place.private().directory != Place.private().directory


def test_a_cluster_that_runs_is_found_where_another_temporary_directory_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Place.of_profile("both")
    started.make()
    held = started.lock()
    private.write(started.connection("client"), json.dumps({"directory": str(started.directory)}).encode())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert Place.of_profile("both").directory == started.directory
    with pytest.raises(AlreadyRunning):
        Place.of_profile("both").lock()
    os.close(held)
    assert Place.of_profile("both").directory != started.directory
    started.sweep()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"directory": 3}', b'{"directory": "\\u0000"}'])
def test_a_damaged_connection_file_leads_nowhere_else(content: bytes) -> None:
    place = Place.of_profile("damaged")
    place.make()
    private.write(place.connection("client"), content)
    assert Place.of_profile("damaged").directory == place.directory
    place.sweep()


def test_profiles_of_two_ipython_directories_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Place.of_profile(None).directory
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "other"))
    assert Place.of_profile(None).directory != here


def test_connection_files_of_a_profile_are_in_its_security_directory(ipython_dir: Path) -> None:
    place = Place.of_profile("mpi")
    assert place.connection("client") == ipython_dir / "profile_mpi/security/ipkernel_ext/client.json"
    assert place.connection("engine") == ipython_dir / "profile_mpi/security/ipkernel_ext/engine.json"


def test_nothing_is_made_by_asking(ipython_dir: Path) -> None:
    place = Place.of_profile(None)
    assert not place.directory.exists()
    assert not ipython_dir.exists()


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_directories_are_private(umask: int) -> None:
    place = Place.of_profile("private")
    before = os.umask(umask)
    try:
        place.make()
    finally:
        os.umask(before)
    for directory in (place.directory.parent, place.directory, place.engines, place.connections):
        assert mode(directory) == 0o700, directory
    place.sweep()
    assert not place.directory.exists()


def test_a_loose_directory_of_ours_is_made_private(place: Place) -> None:
    place.directory.chmod(0o755)
    place.make()
    assert mode(place.directory) == 0o700


@pytest.mark.fault("a directory of ours was made by somebody else")
@pytest.mark.skipif(os.getuid() != 0, reason="only root can give directories away")
def test_a_directory_of_somebody_else_is_refused(place: Place) -> None:
    os.chown(place.directory, 12345, -1)
    with pytest.raises(NotConnected, match="not a directory of this user") as caught:
        place.make()
    assert str(place.directory) in str(caught.value)


def test_a_link_to_a_directory_is_refused(place: Place, tmp_path: Path) -> None:
    place.sweep()
    place.directory.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(NotConnected, match="not a directory of this user"):
        place.make()
    place.directory.unlink()


# ---------------------------------------------------------------- lengths


@pytest.mark.fault("the directory for temporary files has a long name")
@pytest.mark.parametrize("length", [1, 40, 60, 90, 200])
def test_socket_paths_fit(length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unix socket's address has 108 bytes, the last of which is 0."""
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * length)
    for place in (Place.of_profile("p" * 100), Place.private()):
        assert len(os.fsencode(place.socket)) <= 107


def test_such_an_address_can_be_bound(place: Place) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place.socket))


# ---------------------------------------------------------------- the lock


@pytest.mark.fault("two controllers for one profile")
def test_the_second_is_told_who_is_the_first(place: Place) -> None:
    lock = place.lock()
    with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}") as caught:
        place.lock()
    assert caught.value.pid == os.getpid()
    os.close(lock)
    os.close(place.lock())


def test_the_lock_names_its_profile() -> None:
    place = Place.of_profile("mpi")
    place.make()
    lock = place.lock()
    with pytest.raises(AlreadyRunning, match="'mpi'"):
        place.lock()
    os.close(lock)
    place.sweep()


def test_a_killed_holder_lets_go(place: Place) -> None:
    code = (
        "import sys; from pathlib import Path; from ipkernel_ext.config.place import Place\n"
        "Place(Path(sys.argv[1]), None).lock(); print('held', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", code, str(place.directory)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunning) as caught:
            place.lock()
        assert caught.value.pid == holder.pid
        holder.kill()
        holder.wait()
        os.close(place.lock())


def test_a_shorter_pid_leaves_nothing_of_a_longer_one(place: Place) -> None:
    (place.directory / "lock").write_text("99999999999")
    lock = place.lock()
    assert (place.directory / "lock").read_text() == str(os.getpid())
    os.close(lock)


def test_a_holder_that_has_not_written_yet(place: Place) -> None:
    lock = place.lock()
    os.ftruncate(lock, 0)
    with pytest.raises(AlreadyRunning) as caught:
        place.lock()
    assert caught.value.pid == 0
    os.close(lock)


def test_a_lock_removed_while_it_was_taken_is_taken_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier cluster sweeps its directory between our opening the file and our locking it."""
    import fcntl

    real = fcntl.flock
    swept: list[None] = []

    def flock(file: int, operation: int) -> None:
        if not swept:
            swept.append(None)
            (place.directory / "lock").unlink()
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = place.lock()
    assert os.path.samestat(os.fstat(lock), (place.directory / "lock").stat())
    with pytest.raises(AlreadyRunning):
        place.lock()
    os.close(lock)


def test_the_lock_does_not_go_to_programs_that_are_started(place: Place) -> None:
    lock = place.lock()
    assert not os.get_inheritable(lock)
    os.close(lock)


# ---------------------------------------------------------------- sweeping


def test_sweeping_takes_files_and_leaves_logs_of_a_profile() -> None:
    place = Place.of_profile("swept")
    place.make()
    for role in ("client", "engine"):
        place.connection(role).write_text("{}")
    place.journal.write_bytes(b"x")
    (place.logs / "engine.log").write_text("last words")
    place.sweep()
    place.sweep()
    assert not place.directory.exists()
    assert list(place.connections.iterdir()) == []
    assert (place.logs / "engine.log").read_text() == "last words"
