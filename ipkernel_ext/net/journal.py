"""Where tasks went and which boot has which engine id, in a mapped file that outlives the controller.

Written before each hand-out. A mapped page survives SIGKILL of its writer without any fsync; it
need not survive the machine, because the engines do not either.

Layout: a header with the controller's epoch, then slots of 64 bytes. A slot's first byte is its
kind and is written last, so that a kill in the middle of a write leaves a free slot.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from ipkernel_ext.core.messages import Hint, TaskId

_HEADER = struct.Struct("<8sQ")
_MAGIC = b"IPKJRNL1"
_SLOT = struct.Struct("<x16sQi16sII")  # client, number, engine, boot, attempt, losses
_SIZE = 64
_FREE, _TASK, _ENGINE, _CLIENT = 0, 1, 2, 3
_GROWTH = 4096  # slots


class JournalFile:
    """The journal of one controller.

    Attributes
    ----------
    epoch : int
        Of the life that wrote what is in it; 0 for a new file.
    tasks : dict
        Where tasks went, as an earlier life left it.
    engines : dict
        Engine id to boot, as an earlier life left it.
    clients : dict
        Up to which number tasks of a client were dropped, as an earlier life left it.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if os.fstat(self._file).st_size < _SIZE:
            os.posix_fallocate(self._file, 0, _SIZE * (1 + _GROWTH))
        self._map = mmap.mmap(self._file, 0)
        magic, self.epoch = _HEADER.unpack_from(self._map, 0)
        if magic != _MAGIC:
            self.epoch = 0
            self._map[:] = bytes(len(self._map))
            _HEADER.pack_into(self._map, 0, _MAGIC, 0)
        self.tasks: dict[TaskId, Hint] = {}
        self.engines: dict[int, str] = {}
        self.clients: dict[str, int] = {}
        self._task_slots: dict[TaskId, int] = {}
        self._engine_slots: dict[int, int] = {}
        self._client_slots: dict[str, int] = {}
        self._free: list[int] = []
        self._read()

    def _read(self) -> None:
        for offset in range(_SIZE, len(self._map), _SIZE):
            kind = self._map[offset]
            if kind == _FREE:
                self._free.append(offset)
                continue
            client, number, engine, boot, attempt, losses = _SLOT.unpack_from(self._map, offset)
            hint = Hint(engine, boot.rstrip(b"\0").decode(), attempt, losses)
            if kind == _TASK:
                id = TaskId(client.rstrip(b"\0").decode(), number)
                self.tasks[id] = hint
                self._task_slots[id] = offset
            elif kind == _CLIENT:
                name = client.rstrip(b"\0").decode()
                self.clients[name] = number
                self._client_slots[name] = offset
            else:
                self.engines[engine] = hint.boot
                self._engine_slots[engine] = offset
        self._free.reverse()

    def begin(self, epoch: int) -> None:
        """A new life of the controller writes from now on."""
        _HEADER.pack_into(self._map, 0, _MAGIC, epoch)

    def write_task(self, id: TaskId, hint: Hint | None) -> None:
        """The task goes there now; None: it is over."""
        slot = self._task_slots.get(id)
        if hint is None:
            if slot is not None:
                self._release(slot)
                del self._task_slots[id]
            return
        if slot is None:
            slot = self._task_slots[id] = self._take()
        self._map[slot] = _FREE
        _SLOT.pack_into(
            self._map, slot, id.client.encode(), id.number, hint.engine, hint.boot.encode(), hint.attempt, hint.losses
        )
        self._map[slot] = _TASK

    def write_engine(self, engine: int, boot: str | None) -> None:
        """The engine id belongs to this boot now; None: to nobody."""
        slot = self._engine_slots.get(engine)
        if boot is None:
            if slot is not None:
                self._release(slot)
                del self._engine_slots[engine]
            return
        if slot is None:
            slot = self._engine_slots[engine] = self._take()
        self._map[slot] = _FREE
        _SLOT.pack_into(self._map, slot, b"", 0, engine, boot.encode(), 0, 0)
        self._map[slot] = _ENGINE

    def write_client(self, client: str, number: int | None) -> None:
        """Tasks of this client up to this number were dropped; None: it need not be known any more."""
        slot = self._client_slots.get(client)
        if number is None:
            if slot is not None:
                self._release(slot)
                del self._client_slots[client]
            return
        if slot is None:
            slot = self._client_slots[client] = self._take()
        self._map[slot] = _FREE
        _SLOT.pack_into(self._map, slot, client.encode(), number, -1, b"", 0, 0)
        self._map[slot] = _CLIENT

    def _release(self, slot: int) -> None:
        self._map[slot] = _FREE
        self._free.append(slot)

    def _take(self) -> int:
        if not self._free:
            size = len(self._map)
            new = size + max(_GROWTH * _SIZE, size)
            os.posix_fallocate(self._file, 0, new)
            self._map.resize(new)
            self._free.extend(range(new - _SIZE, size - _SIZE, -_SIZE))
        return self._free.pop()

    def close(self) -> None:
        """Let go of the file; it stays."""
        self._map.close()
        os.close(self._file)
