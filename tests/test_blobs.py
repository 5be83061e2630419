"""Shared memory: what a reader has is its own, what somebody has is not written anew, what nobody has goes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipkernel_ext import blobs
from ipkernel_ext.blobs import Blob, Home, Lost, Pool, Sweeper, plain
from ipkernel_ext.errors import ProtocolError

ABOVE = 8192
DATA = bytes(range(256)) * 64
OTHER = DATA[::-1]


@pytest.fixture
def directory() -> Iterator[Path]:
    """One in memory, as the controller makes it."""
    path = Path(f"/dev/shm/ipkernel_ext-test-{os.urandom(8).hex()}")
    path.mkdir(mode=0o700)
    (path / blobs.LOCK).write_bytes(b"proof")
    yield path
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


@pytest.fixture
def home(directory: Path) -> Home:
    return Home(directory)


@pytest.fixture
def pool(home: Home) -> Iterator[Pool]:
    pool = Pool(home, ABOVE, 2**20)
    yield pool
    pool.close()


def written(pool: Pool, data: bytes = DATA) -> Blob:
    (blob,) = pool.share([data])
    assert isinstance(blob, Blob)
    return blob


def lost(home: Home, reference: bytes) -> str:
    found = home.open(reference)
    assert isinstance(found, Lost)
    return found.why


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {blobs.LOCK}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_reader_has_bytes_of_its_own(pool: Pool, home: Home) -> None:
    blob = written(pool)
    one, two = home.fetch(blob.reference), home.fetch(blob.reference)
    one[:3] = b"xyz"
    assert bytes(one) == b"xyz" + DATA[3:]
    assert bytes(two) == DATA == bytes(home.fetch(blob.reference))
    assert two.format == "B" and not two.readonly and len(blob) == len(DATA)


def test_small_frames_stay_as_they_are(pool: Pool, directory: Path) -> None:
    frames = [b"x" * (ABOVE - 1), memoryview(b"y")]
    assert pool.share(frames) is frames
    small, large, other = pool.share([b"small", DATA, b""])
    assert (small, other) == (b"small", b"") and isinstance(large, Blob)
    assert files(directory) == {large.name}


def test_files_are_this_users_only(pool: Pool, directory: Path) -> None:
    assert (directory / written(pool).name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("again", [DATA, DATA[: len(DATA) * 9 // 10]])
def test_memory_is_written_anew_when_nobody_has_it(pool: Pool, home: Home, directory: Path, again: bytes) -> None:
    blob = written(pool)
    before = blob.reference
    inode = (directory / blob.name).stat().st_ino
    del blob
    blob = written(pool, again)
    assert (directory / blob.name).stat().st_ino == inode
    assert bytes(home.fetch(blob.reference)) == again
    assert "not in shared memory any more" in lost(home, before)
    assert len(files(directory)) == 1


def test_what_a_reader_has_is_not_written_anew(pool: Pool, home: Home, directory: Path) -> None:
    blob = written(pool)
    view = home.fetch(blob.reference)
    del blob
    kept = [written(pool, OTHER) for _ in range(3)]
    assert bytes(view) == DATA
    del view, kept
    written(pool, OTHER)
    assert len(files(directory)) == 4


def test_what_a_fork_has_is_not_written_anew(pool: Pool, home: Home, directory: Path) -> None:
    view = home.fetch(written(pool).reference)
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        try:
            os.closerange(3, theirs.fileno())  # as a daemon does
            os.closerange(theirs.fileno() + 1, 1024)
            theirs.recv(1)
            theirs.send(view[:8])
        finally:
            os._exit(0)
    with ours, theirs:
        del view
        again = written(pool, OTHER)
        ours.send(b"!")
        assert ours.recv(8) == DATA[:8]
        os.waitpid(child, 0)
        assert len(files(directory)) == 2
        del again
        written(pool, OTHER), written(pool, OTHER)
        assert len(files(directory)) == 2


def test_a_fork_writes_nothing(pool: Pool, directory: Path) -> None:
    blob = written(pool)
    child = os.fork()
    if not child:
        alike = pool.share([DATA]) == [DATA]
        os._exit(0 if alike and files(directory) == {blob.name} else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_reader_needs_no_descriptor(pool: Pool, home: Home) -> None:
    blob = written(pool)
    before = descriptors()
    views = [home.fetch(blob.reference) for _ in range(100)]
    assert descriptors() == before
    del views


def test_what_is_kept_warm_is_bounded(home: Home, directory: Path) -> None:
    pool = Pool(home, ABOVE, 3 * len(DATA))
    many = [written(pool) for _ in range(10)]
    assert pool.sizes() == (10 * len(DATA), 0)
    many.clear()
    assert pool.sizes() == (0, 3 * len(DATA))
    assert len(files(directory)) == 3
    pool.close()
    assert not files(directory)


def test_what_readers_have_does_not_count_as_kept_warm(home: Home, directory: Path) -> None:
    pool = Pool(home, ABOVE, len(DATA))
    many = [written(pool) for _ in range(10)]
    views = [home.fetch(blob.reference) for blob in many]
    many.clear()
    assert pool.sizes() == (0, 10 * len(DATA))
    views.clear()
    written(pool)
    assert pool.sizes() == (0, len(DATA)) and len(files(directory)) == 1
    pool.close()


def test_memory_is_not_written_anew_for_much_less(pool: Pool, directory: Path) -> None:
    written(pool)
    blob = written(pool, DATA[: len(DATA) // 2])
    assert (directory / blob.name).stat().st_size == len(blob)


def test_what_is_kept_warm_is_given_back_after_a_while(pool: Pool, directory: Path) -> None:
    assert pool.next_deadline() is None
    written(pool)
    pool.tick(0.0)
    due = pool.next_deadline()
    assert due is not None
    pool.tick(due - 0.1)
    assert files(directory)
    pool.tick(due)
    assert not files(directory) and pool.next_deadline() is None


def test_what_is_in_use_outlives_its_pool(pool: Pool, home: Home, directory: Path) -> None:
    used = written(pool)
    written(pool)
    before = descriptors()
    pool.close()
    assert files(directory) == {used.name}
    assert descriptors() < before
    assert bytes(home.fetch(used.reference)) == DATA
    assert pool.share([DATA]) == [DATA]


def test_so_many_blobs_at_once_and_no_more(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "MOST", 2)
    frames = pool.share([DATA] * 3)
    assert [isinstance(frame, Blob) for frame in frames] == [True, True, False]
    assert frames[2] == DATA


def test_a_descriptor_that_user_code_closed_is_not_written_to(pool: Pool, directory: Path, tmp_path: Path) -> None:
    blob = written(pool)
    own = next(int(fd) for fd in os.listdir("/proc/self/fd") if _leads_to(fd, directory / blob.name))
    foreign = os.open(tmp_path / "foreign", os.O_RDWR | os.O_CREAT)
    os.dup2(foreign, own)
    del blob
    assert isinstance(pool.share([OTHER])[0], Blob)
    pool.close()
    assert os.pread(own, 10, 0) == b""  # it is open, and empty
    os.close(own)
    os.close(foreign)


def _leads_to(descriptor: str, path: Path) -> bool:
    try:
        return os.path.samestat(os.stat(f"/proc/self/fd/{descriptor}"), path.stat())
    except OSError:
        return False


def test_a_pool_whose_directory_is_gone_leaves_frames_as_they_are(home: Home, directory: Path) -> None:
    pool = Pool(home, ABOVE, 2**20)
    written(pool)
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()
    assert pool.share([DATA]) == [DATA]
    pool.close()
    directory.mkdir(mode=0o700)


@pytest.mark.fault("the memory that a host's processes share is full, or gone")
def test_where_there_is_no_room_frames_stay_as_they_are(pool: Pool, directory: Path) -> None:
    place = os.statvfs(directory)

    class Claims:
        def __len__(self) -> int:
            return place.f_bavail * place.f_frsize

    (frame,) = pool.share([Claims()])
    assert isinstance(frame, Claims)
    assert not files(directory)


@pytest.mark.parametrize(
    "reference",
    [b"", b"x", b"../" + b"x" * 37, b"0" * 32, b"g" * 32 + b"\1" + bytes(7), b"0" * 32 + bytes(8), b"\xff" * 40],
)
def test_what_is_no_reference_is_an_error(home: Home, reference: bytes) -> None:
    with pytest.raises(ProtocolError):
        home.open(reference)


def test_a_reference_leads_only_to_files_of_this_user_that_are_large_enough(home: Home, directory: Path) -> None:
    name = "0" * 32
    reference = Blob(home, name, 10, None).reference
    assert "No such file" in lost(home, reference)
    (directory / name).symlink_to("/etc/passwd")
    assert "not in shared memory" in lost(home, reference)
    (directory / name).unlink()
    (directory / name).mkdir()
    assert "something else" in lost(home, reference)
    (directory / name).rmdir()
    (directory / name).write_bytes(b"123456789")
    assert "something else" in lost(home, reference)
    (directory / name).write_bytes(b"1234567890")
    assert bytes(home.fetch(reference)) == b"1234567890"
    if not os.getuid():
        os.chown(directory / name, 65534, -1)
        assert "something else" in lost(home, reference)


@pytest.mark.parametrize("mode", [0o755, 0o701])
def test_a_directory_that_others_can_enter_is_not_used(directory: Path, mode: int) -> None:
    directory.chmod(mode)
    with pytest.raises(OSError, match="not a directory of this user's only"):
        Home(directory)
    directory.chmod(0o700)


def test_others_get_bytes(pool: Pool, home: Home) -> None:
    blob = written(pool)
    assert bytes(plain(blob)) == DATA == bytes(plain(home.open(blob.reference)))
    assert plain(b"small") == b"small"
    assert home.refer(blob) == blob.reference and home.refer(b"small") == b"small"


def test_what_is_lost_is_said_to_be_so_at_the_end_of_its_way(pool: Pool, home: Home, directory: Path) -> None:
    blob = written(pool)
    (directory / blob.name).unlink()
    found = home.open(blob.reference)
    assert isinstance(found, Lost) and len(found) == len(DATA)
    assert home.refer(found) == plain(found) == blob.reference == plain(blob)


# ---------------------------------------------------------------- what crashes leave


def test_what_nobody_holds_is_removed_after_a_while(pool: Pool, home: Home, directory: Path) -> None:
    left, read = written(pool), written(pool)
    view = home.fetch(read.reference)
    pool.close()  # its locks are gone, as of a process that was killed
    sweeper = Sweeper(home)
    assert [sweeper.sweep(now) for now in (0.0, blobs.GRACE - 1, blobs.GRACE)] == [0, 0, 1]
    assert files(directory) == {read.name} and left.name not in files(directory)
    del view
    assert [sweeper.sweep(now) for now in (100.0, 99.0 + blobs.GRACE)] == [0, 0]
    assert bytes(home.fetch(read.reference)) == DATA
    assert sweeper.sweep(100.0 + blobs.GRACE) == 1
    assert not files(directory)


def test_what_is_held_is_never_removed(pool: Pool, home: Home, directory: Path) -> None:
    blob = written(pool)
    sweeper = Sweeper(home)
    for now in (0.0, 100.0, 200.0):
        assert sweeper.sweep(now) == 0
    assert files(directory) == {blob.name}
