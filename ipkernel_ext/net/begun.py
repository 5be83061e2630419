"""What an engine began, and what it finished last, in a mapped file that outlives it.

The engine writes (task, attempt) into a ring before user code runs; after its death the controller
of the same host reads it, and so knows which of the tasks it had handed out had begun. A second ring has
the latest results, as they were sent, where they are small: user code that ends its process may do so before
the result of the task before has left it. The last byte says whether the engine left on purpose: user code
can end the process with any exit code.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ipkernel_ext.config.locks import is_held
from ipkernel_ext.core.messages import TaskId
from ipkernel_ext.core.wire import Frame

_SLOT = struct.Struct("<16sQII")  # client, number, attempt, whether it is valid
KEPT = 256  # files of engines that are gone
SLOTS = 256
"""More than an engine ever holds, so that none that matters is overwritten."""
_RESULT = struct.Struct("<III")  # bytes, checksum, parts
RESULTS = 64
LARGEST = 2048 - _RESULT.size  # bytes of a result that is kept
_BEGUN_SIZE = SLOTS * _SLOT.size
_SIZE = _BEGUN_SIZE + RESULTS * (_RESULT.size + LARGEST)

_decode = msgspec.msgpack.Decoder(list[bytes]).decode


class BegunFile:
    """Written by an engine, which holds it locked for as long as it lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(file, 0, _SIZE + 1)  # a full disk is an error here, and not a signal later
            self._map = mmap.mmap(file, 0)
        except BaseException:
            os.close(file)
            path.unlink(missing_ok=True)  # an empty one would say that nothing has begun
            raise
        self._next = self._next_result = 0
        self._client = "", b""  # of the latest task, and how it is written

    def write(self, task: TaskId, attempt: int) -> None:
        """User code of this attempt begins now."""
        client, number = task
        if self._client[0] != client:
            self._client = client, client.encode()
        _SLOT.pack_into(self._map, self._next * _SLOT.size, self._client[1], number, attempt, 1)
        self._next = (self._next + 1) % SLOTS

    def keep(self, parts: Sequence[Frame]) -> bool:
        """A result, which is about to be sent; False if it is too large to be kept."""
        if len(parts) == 1:
            [data] = parts
        elif sum(map(len, parts)) > LARGEST:
            return False
        else:
            data = msgspec.msgpack.encode(parts)
        size = len(data)
        if size > LARGEST:
            return False
        begin = _BEGUN_SIZE + self._next_result * (_RESULT.size + LARGEST)
        self._next_result = (self._next_result + 1) % RESULTS
        content = begin + _RESULT.size
        self._map[content : content + size] = data
        _RESULT.pack_into(self._map, begin, size, zlib.crc32(data), len(parts))
        return True

    def leave(self) -> None:
        """This engine ends because it was told to."""
        self._map[-1] = 1

    def close(self) -> None:
        """Let go of the file; it stays, for whoever asks after the engine's end."""
        self._map.close()
        os.close(self._file)


def read_begun(path: Path) -> set[tuple[TaskId, int]] | None:
    """The (task, attempt) pairs that the engine began of late; None where there is no such file."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    begun = set()
    content = content[:_BEGUN_SIZE]
    for client, number, attempt, valid in _SLOT.iter_unpack(content[: len(content) // _SLOT.size * _SLOT.size]):
        if valid:
            begun.add((TaskId(client.rstrip(b"\0").decode(), number), attempt))
    return begun


def read_results(path: Path) -> list[list[bytes]]:
    """The small ones of the results that the engine sent last, or was about to send, each in its parts."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    results = []
    for begin in range(_BEGUN_SIZE, len(content) - _RESULT.size, _RESULT.size + LARGEST):
        size, checksum, parts = _RESULT.unpack_from(content, begin)
        data = content[begin + _RESULT.size : begin + _RESULT.size + size]
        if size and zlib.crc32(data) == checksum:  # else the engine was killed as it wrote it
            results.append([data] if parts == 1 else _decode(data))
    return results


def prune(directory: Path) -> None:
    """Of the files whose engines are gone, keep the latest; what an engine without one had begun is not known."""
    try:
        files = list(os.scandir(directory))
        if len(files) <= KEPT:
            return
        dead = [file for file in files if not is_held(Path(file.path))]
        dead.sort(key=lambda file: file.stat().st_mtime)
        for file in dead[: max(0, len(dead) - KEPT)]:
            os.unlink(file.path)
    except OSError:
        pass  # somebody else removes them


def has_left(path: Path) -> bool:
    """Whether the engine ended because it was told to."""
    try:
        return path.read_bytes()[-1:] == b"\x01"
    except OSError:
        return False
