"""Frames in shared memory: written once, mapped privately by every process of the host that reads them.

A blob is a file in a directory of this user's only. Its name is drawn anew each time it is written, so
a reference to what it held before leads nowhere. Whoever writes it, carries a reference to it, or reads
it holds a shared ``flock`` on it; whoever gets an exclusive one may write it anew or remove it. The lock
of a reader belongs to its mapping: the kernel gives it back when the last mapping ends, also in what user
code has forked, and needs no descriptor for it.

    written ──▶ in use: its writer has the ``Blob`` ──▶ kept by its writer, warm ──▶ written anew, or removed
                        readers map it                   readers may map it still

A process that is killed leaves files without locks; ``Sweeper`` removes those that stay so. Fresh pages
cost several times what warm ones cost, so a ``Pool`` keeps some for a while.

This module must not know what is in a frame, nor who sends it where.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import stat
import struct
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ipkernel_ext.errors import ProtocolError

Frame = Any

LOCK = "lock"
"""In the directory of blobs: who holds it shared uses the directory; its content proves that it is the same one."""

IDLE = 30.0  # seconds for which warm memory is kept that nobody uses
GRACE = 60.0  # seconds for which what nobody holds may still be on its way to somebody
MOST = 256  # blobs of one process that are in use; each takes a descriptor
ROOM = 8  # one part in so many of the place stays free for others
SPARE = 8  # one part in so many may be more than is needed, in memory that is written again
CHUNK = 8 * 2**20  # bytes that are copied without letting other threads run

_REFERENCE = struct.Struct("<32sQ")  # name, size
_NAME = re.compile("[0-9a-f]{32}")
_TRIES = 50  # a thousandth of a second each, while somebody looks whether a blob is still held


class Blob:
    """A frame in shared memory. Whoever has it keeps it from being written anew."""

    __slots__ = ("__weakref__", "_area", "home", "name", "size")

    def __init__(self, home: Home, name: str, size: int, area: mmap.mmap | None) -> None:
        self.home = home
        self.name = name
        self.size = size
        self._area = area  # None: this process has written it, and holds it by its descriptor

    def __len__(self) -> int:
        return self.size

    @property
    def reference(self) -> bytes:
        """What others of this host know it by."""
        return _REFERENCE.pack(self.name.encode(), self.size)

    def view(self) -> Frame:
        """Its bytes, this process's own to change; ``Lost`` where somebody has removed it."""
        if self._area is not None:
            return memoryview(self._area)
        found = self.home.open(self.reference)
        return found.view() if isinstance(found, Blob) else found


class Lost:
    """A frame that should be in shared memory, and is not."""

    __slots__ = ("reference", "size", "why")

    def __init__(self, reference: bytes, why: str) -> None:
        _, self.size = _parsed(reference)
        self.reference = bytes(reference)
        self.why = why

    def __len__(self) -> int:
        return self.size


def plain(frame: Frame) -> Frame:
    """A frame for those who have not this shared memory."""
    if isinstance(frame, Blob):
        frame = frame.view()
    return frame.reference if isinstance(frame, Lost) else frame


def absent(reference: Frame) -> Lost:
    """What a reference is to those who have not the shared memory."""
    return Lost(reference, "it is in shared memory that this process cannot reach")


def _parsed(reference: Frame) -> tuple[str, int]:
    try:
        packed, size = _REFERENCE.unpack(reference)
        name = packed.decode("ascii")
    except (struct.error, ValueError):
        raise ProtocolError("a reference to shared memory that is none") from None
    if not _NAME.fullmatch(name) or not size:
        raise ProtocolError("a reference to shared memory that names none")
    return name, size


def refers_to(reference: Frame, size: int) -> bool:
    """Whether this is a reference to a blob of so many bytes."""
    try:
        return _parsed(reference)[1] == size
    except ProtocolError:
        return False


class Home:
    """The directory of a cluster's blobs, as one process uses it.

    Raises
    ------
    OSError
        It is not there, or not a directory of this user's only.

    Attributes
    ----------
    proof : bytes
        Known to those who can read in it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise PermissionError(f"{directory} is not a directory of this user's only")
        file = os.open(directory / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
            self.proof = os.pread(file, 4096, 0)
            self._held = _map(file, len(self.proof), mmap.MAP_PRIVATE)
        finally:
            os.close(file)

    def leave(self) -> None:
        """Use it no more: it does not count as used for this process's sake."""
        self._held.close()

    def path(self, name: str) -> str:
        """Where a blob is."""
        return f"{self.directory}/{name}"

    def open(self, reference: Frame) -> Blob | Lost:
        """The blob that a peer names; mapped, and held from now on.

        Raises
        ------
        ProtocolError
            That is no reference.
        """
        name, size = _parsed(reference)
        try:
            file = os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            return Lost(reference, f"it is not in shared memory any more ({error.strerror})")
        try:
            if not self._take(file, name):
                return Lost(reference, "its shared memory was used for something else")
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_size < size:
                return Lost(reference, "what is in shared memory is something else")
            return Blob(self, name, size, _map(file, size, mmap.MAP_PRIVATE))
        except OSError as error:
            return Lost(reference, f"it cannot be mapped here ({error.strerror})")
        finally:
            os.close(file)

    def fetch(self, reference: Frame) -> Frame:
        """As ``open``, but only its bytes: the memory of what is rebuilt from them."""
        found = self.open(reference)
        return found.view() if isinstance(found, Blob) else found

    def _take(self, file: int, name: str) -> bool:
        """Hold what is open. False if it has another name by now."""
        for _ in range(_TRIES):
            held = _locked(file, fcntl.LOCK_SH)
            try:
                if not os.path.samestat(os.fstat(file), os.lstat(self.path(name))):
                    return False
            except FileNotFoundError:
                return False
            if held:
                return True
            time.sleep(0.001)  # somebody looks whether it is held
        return False

    def refer(self, frame: Frame) -> Frame:
        """A frame for those who have this shared memory."""
        if isinstance(frame, Blob) and frame.home.proof == self.proof:
            return frame.reference
        return plain(frame)


class _Own:
    """A blob's file, of the process that writes it."""

    __slots__ = ("area", "file", "identity", "name", "room", "since")

    def __init__(self, name: str, file: int, room: int) -> None:
        self.name = name
        self.file = file
        self.room = room  # bytes
        self.identity = _identity(file)
        self.area: mmap.mmap | None = None  # mapped by its writer, from the second time on
        self.since = 0.0  # when nobody needed it any more

    def is_open(self) -> bool:
        """Whether its descriptor is still its own: user code may have closed it."""
        try:
            return _identity(self.file) == self.identity
        except OSError:
            return False

    def take(self) -> bool:
        """Keep others from it. False if somebody reads it."""
        if not self.is_open():
            return False
        if _locked(self.file, fcntl.LOCK_EX):
            return True
        _locked(self.file, fcntl.LOCK_SH)  # trying has cost us the lock that we had
        return False

    def is_read(self) -> bool:
        """Whether somebody reads it."""
        if self.take():
            _locked(self.file, fcntl.LOCK_SH)
            return False
        return True


def _identity(file: int) -> tuple[int, int]:
    status = os.fstat(file)
    return status.st_dev, status.st_ino


class Pool:
    """The blobs that a process writes.

    Parameters
    ----------
    above : int
        Bytes; smaller frames stay as they are.
    bound : int
        Bytes of memory that are kept warm while nobody uses them.
    """

    def __init__(self, home: Home, above: int, bound: int) -> None:
        self.home = home
        self._above = above
        self._bound = bound
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._used: set[_Own] = set()
        self._kept: list[_Own] = []  # the longest unused first
        self._returned: deque[_Own] = deque()  # by finalizers, which run at any moment in any thread

    def share(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """The frames, large ones in shared memory as far as there is room."""
        for frame in frames:
            if len(frame) >= self._above:
                return [self._shared(frame) if len(frame) >= self._above else frame for frame in frames]
        return frames

    def _shared(self, frame: Frame) -> Frame:
        if isinstance(frame, Blob | Lost) or os.getpid() != self._pid:
            return frame
        own = self._get(len(frame))
        if own is None:
            return frame
        try:
            _write(own, memoryview(frame).cast("B"))
            return self.keep(own, len(frame))
        except OSError:
            self.give_back(own)
            return frame
        except BaseException:
            self.give_back(own)
            raise

    def draft(self, size: int) -> Draft | None:
        """A blob that is written in pieces; None where there is no room."""
        own = self._get(size)
        return None if own is None else Draft(self, own, size)

    def keep(self, own: _Own, size: int) -> Blob:
        """What has been written, as a blob.

        Raises
        ------
        OSError
            Its file is not ours any more.
        """
        fcntl.flock(own.file, fcntl.LOCK_SH)
        blob = Blob(self.home, own.name, size, None)
        finalizer = weakref.finalize(blob, self._returned.append, own)
        finalizer.atexit = False
        return blob

    def give_back(self, own: _Own) -> None:
        """What will not be written."""
        self._returned.append(own)

    def _get(self, size: int) -> _Own | None:
        """A file to write to, which nobody else uses."""
        with self._lock:
            self._settle()
            if len(self._used) >= MOST:
                return None
            own = self._warm(size) or self._fresh(size)
            if own is None and self._kept:
                self._drop(self._kept)
                own = self._fresh(size)
            if own is not None:
                self._used.add(own)
            return own

    def _settle(self) -> None:
        """What is not needed any more is kept, up to the bound; what readers have of it costs nobody anything."""
        if not self._returned:
            return
        now = time.monotonic()
        while self._returned:
            own = self._returned.popleft()
            self._used.discard(own)
            own.since = now
            self._kept.append(own)
        self._drop(self._kept[:-MOST])
        if sum(own.room for own in self._kept) > self._bound:
            unread = [own for own in self._kept if not own.is_read()]
            over = sum(own.room for own in unread) - self._bound
            count = 0
            while over > 0:
                over -= unread[count].room
                count += 1
            self._drop(unread[:count])

    def _warm(self, size: int) -> _Own | None:
        """The smallest of those kept that is large enough, and that nobody maps any more."""
        for own in sorted(self._kept, key=lambda own: own.room):
            if not size <= own.room <= size + size // SPARE:
                continue
            if not own.take():
                continue
            self._kept.remove(own)
            name = os.urandom(16).hex()
            try:
                os.rename(self.home.path(own.name), self.home.path(name))
            except OSError:  # somebody has removed it
                os.close(own.file)
                continue
            own.name = name
            return own
        return None

    def _fresh(self, size: int) -> _Own | None:
        name = os.urandom(16).hex()
        path = self.home.path(name)
        try:
            place = os.statvfs(self.home.directory)
            if (place.f_bavail - place.f_blocks // ROOM) * place.f_frsize < size:
                return None
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            if not _locked(file, fcntl.LOCK_EX):
                raise OSError("somebody looks at it")
            os.posix_fallocate(file, 0, size)  # where there is no room this is an error; later it would be a signal
        except OSError:
            _remove(path, file)
            return None
        except BaseException:
            _remove(path, file)
            raise
        return _Own(name, file, size)

    def _drop(self, dropped: Sequence[_Own]) -> None:
        """Remove some of those kept. Who maps them keeps the memory."""
        gone = set(dropped)
        self._kept = [own for own in self._kept if own not in gone]
        for own in gone:
            if own.is_open():
                _remove(self.home.path(own.name), own.file)

    def next_deadline(self) -> float | None:
        """When ``tick`` is wanted, or None."""
        if self._returned and not self._lock.locked():
            return 0.0
        kept = self._kept
        return kept[0].since + IDLE if kept else None

    def tick(self, now: float) -> None:
        """Give back what has not been used for a while. Waits for nobody."""
        if self._lock.acquire(blocking=False):
            try:
                self._settle()
                self._drop([own for own in self._kept if own.since + IDLE <= now])
            finally:
                self._lock.release()

    def close(self) -> None:
        """Remove what nobody needs. What is in use stays for those who have a reference to it."""
        with self._lock:
            self._settle()
            self._drop(self._kept)
            for own in self._used:
                if own.is_open():
                    os.close(own.file)
            self._used.clear()
            self._above = sys.maxsize

    def sizes(self) -> tuple[int, int]:
        """Bytes in use, and bytes kept warm."""
        with self._lock:
            self._settle()
            return sum(own.room for own in self._used), sum(own.room for own in self._kept)


class Draft:
    """A blob that is being written, in pieces that come in any order, each once."""

    def __init__(self, pool: Pool, own: _Own, size: int) -> None:
        self._pool = pool
        self._own = own
        self._size = size
        self._missing = size

    def write(self, begin: int, data: Frame) -> Blob | None:
        """One more piece; the blob, when it was the last.

        Raises
        ------
        OSError
            It cannot be written, or does not belong there. Then, and whenever nothing more is to come, ``give_up``.
        """
        view = memoryview(data).cast("B")
        if begin + len(view) > self._size or len(view) > self._missing or not self._own.is_open():
            raise OSError("a piece that has no place")
        done = 0
        while done < len(view):
            done += os.pwrite(self._own.file, view[done:], begin + done)
        self._missing -= len(view)
        return None if self._missing else self._pool.keep(self._own, self._size)

    def read(self, begin: int, size: int) -> bytes:
        """What was written there. OSError when it cannot be read any more."""
        if not self._own.is_open():
            raise OSError("its file was closed")
        return os.pread(self._own.file, min(size, self._size - begin), begin)

    def give_up(self) -> None:
        """Nothing more will be written."""
        self._pool.give_back(self._own)


def _write(own: _Own, data: memoryview) -> None:
    """Fresh pages are written fastest by a system call, those that are there already through a mapping."""
    if own.area is None and own.since == 0.0:
        done = 0
        while done < len(data):
            done += os.pwrite(own.file, data[done : done + CHUNK], done)
        return
    if own.area is None:
        own.area = _map(own.file, own.room, mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
    target = memoryview(own.area)
    for begin in range(0, len(data), CHUNK):
        target[begin : min(begin + CHUNK, len(data))] = data[begin : begin + CHUNK]


def _remove(path: str, file: int) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
    os.close(file)


def _locked(file: int, lock: int) -> bool:
    """Whether a lock could be had."""
    try:
        fcntl.flock(file, lock | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@cache
def _system_mmap() -> Any:
    import ctypes

    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *3 * [ctypes.c_int], ctypes.c_long]
    return function


def _map(file: int, size: int, flags: int) -> mmap.mmap:
    """Map a file for reading and writing.

    Python's own mapping of a file keeps a descriptor open for as long as it lasts. So on Linux one of no file
    is made, and the file is mapped in its place.
    """
    if sys.platform != "linux":
        return mmap.mmap(file, size, flags=flags)
    import ctypes

    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    access = mmap.PROT_READ | mmap.PROT_WRITE
    if _system_mmap()(address, size, access, flags | _MAP_FIXED, file, 0) != address:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return area


_MAP_FIXED = 0x10  # of mmap(2)


class Sweeper:
    """Removes what nobody holds any more, once it has been so for a while: it may be under way to somebody."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._unheld: dict[str, float] = {}  # since when

    @property
    def waits(self) -> bool:
        """Whether the latest sweep has left something that nobody holds."""
        return bool(self._unheld)

    def sweep(self, now: float) -> int:
        """Look, and remove; how many."""
        unheld: dict[str, float] = {}
        removed = 0
        for name in _names(self._home.directory):
            path = self._home.path(name)
            try:
                file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                if not _locked(file, fcntl.LOCK_EX):
                    continue
                since = self._unheld.get(name, now)
                if now - since < GRACE:
                    unheld[name] = since
                    continue
                os.unlink(path)
                removed += 1
            except OSError:
                continue
            finally:
                os.close(file)
        self._unheld = unheld
        return removed


def _names(directory: Path) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if _NAME.fullmatch(name)]
    except OSError:
        return []
