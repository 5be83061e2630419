"""Connections on one host: batches of parts over a unix socket.

A message of ZeroMQ takes two threads more on its way, each of which has to be woken; here a send is one system
call, and whoever waits for it reads it. Layout of a batch::

    MARK, number of parts, size of each part, the parts

with 32 bits for the number and 64 for each size, lowest byte first. Sending never blocks: what the kernel does
not take waits here, and how much is under way is the cores' business. Who is at the other end the kernel says.
"""

from __future__ import annotations

import os
import select
import socket as std_socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice

from ipkernel_ext.core.wire import Frame
from ipkernel_ext.errors import ProtocolError

MARK = b"ipk1"
MOST = 2**20  # parts of a batch
CHUNK = 2**16  # bytes that are read at once
DIRECT = 2**15  # bytes of a part that is read to where it stays
AT_ONCE = 512  # pieces of memory in one system call

_HEAD = struct.Struct("<4sI")
_ONE = struct.Struct("<4sIQ")  # the head of a batch of one part
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Connection:
    """One end of a connection.

    Attributes
    ----------
    ended : bool
        Nothing more will come of it, and nothing can be sent.
    closing : bool
        The other end may have been closed: it is read from until that is known.
    """

    def __init__(self, socket: std_socket.socket) -> None:
        socket.setblocking(False)
        self._socket = socket
        self._descriptor = socket.fileno()
        self._out: deque[memoryview] = deque()
        self._data: bytes = b""
        self._at = 0  # what of the data was used
        self._sizes: Sequence[int] | None = None  # of the batch that is being read
        self._parts: list[Frame] = []
        self._part: bytearray | None = None  # that is being read to where it stays
        self._filled = 0
        self._emptied = False  # the last read took all that was here
        self.closing = False
        self.ended = False

    @classmethod
    def to(cls, path: str) -> Connection:
        """A connection to who listens there.

        Raises
        ------
        OSError
            Nobody does, or too many wait already.
        """
        socket = std_socket.socket(std_socket.AF_UNIX, std_socket.SOCK_STREAM)
        try:
            socket.setblocking(False)
            socket.connect(path)
        except BaseException:
            socket.close()
            raise
        return cls(socket)

    def fileno(self) -> int:
        """What to poll; -1 when it is closed."""
        return self._descriptor

    @property
    def peer(self) -> tuple[int, int]:
        """Process and user at the other end, as the kernel says."""
        found = self._socket.getsockopt(std_socket.SOL_SOCKET, std_socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(found)
        return pid, uid

    # ------------------------------------------------------------ out

    @property
    def waits(self) -> bool:
        """Whether there is something that the kernel has not taken yet: ``flush`` when it can."""
        return bool(self._out)

    def send(self, parts: Sequence[Frame]) -> None:
        """Send a batch; its parts must not change any more."""
        if self.ended:
            return
        if len(parts) == 1 and not self._out:
            self._send_one(parts[0])
            return
        sizes = list(map(len, parts))
        head = struct.pack(f"<4sI{len(sizes)}Q", MARK, len(sizes), *sizes)
        if self._out or len(parts) >= AT_ONCE:
            self._out.extend(memoryview(part).cast("B") for part in (head, *parts) if len(part))
            self.flush()
            return
        try:
            sent = self._socket.sendmsg((head, *parts), (), std_socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.ended = True
            return
        if sent < len(head) + sum(sizes):
            self._out.extend(memoryview(part).cast("B") for part in (head, *parts) if len(part))
            self._drop(sent)

    def _send_one(self, part: Frame) -> None:
        """A batch of one part, as nearly all are."""
        batch = _ONE.pack(MARK, 1, len(part)) + part
        try:
            sent = self._socket.send(batch, std_socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.ended = True
            return
        if sent < len(batch):
            self._out.append(memoryview(batch)[sent:])

    def flush(self) -> None:
        """Send of what waits as much as the kernel takes."""
        while self._out and not self.ended:
            try:
                sent = self._socket.sendmsg(islice(self._out, AT_ONCE), (), std_socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self.ended = True
                return
            self._drop(sent)

    def _drop(self, sent: int) -> None:
        out = self._out
        while sent:
            first = out[0]
            if sent < len(first):
                out[0] = first[sent:]
                return
            sent -= len(first)
            out.popleft()

    # ------------------------------------------------------------ in

    def receive(self) -> list[Frame] | None:
        """The next batch; None when it is not here. Parts but the first are views that own their memory.

        Where the last read took all there was, nobody asks whether more has come since: the next poll tells.

        Raises
        ------
        ProtocolError
            What came is no batch; the connection has ended.
        """
        while True:
            if self._sizes is None and (self._at == len(self._data) or not self._begin()):
                if not self._read():
                    return None
                continue
            assert self._sizes is not None
            while len(self._parts) < len(self._sizes):
                if not self._take(self._sizes[len(self._parts)]) and not self._read():
                    return None
            parts, self._parts, self._sizes = self._parts, [], None
            return parts

    def _begin(self) -> bool:
        """Read the sizes, if they are here."""
        here = len(self._data) - self._at
        if here < _HEAD.size:
            return False
        mark, count = _HEAD.unpack_from(self._data, self._at)
        if mark != MARK or not 0 < count <= MOST:
            self.ended = True
            self._data, self._at = b"", 0
            raise ProtocolError("what comes there is of another protocol")
        if here < _HEAD.size + 8 * count:
            return False
        self._sizes = struct.unpack_from(f"<{count}Q", self._data, self._at + _HEAD.size)
        self._at += _HEAD.size + 8 * count
        return True

    def _take(self, size: int) -> bool:
        """One part, if it is here; or as much of it as is."""
        here = len(self._data) - self._at
        if self._part is None and here >= size:
            end = self._at + size
            if self._parts:
                self._parts.append(memoryview(bytearray(memoryview(self._data)[self._at : end])))
            else:
                self._parts.append(self._data[self._at : end])
            self._at = end
            return True
        if self._part is None:
            if size < DIRECT:
                return False
            self._part, self._filled = bytearray(min(size, 2 * CHUNK)), 0
        return self._fill(self._part, size)

    def _fill(self, part: bytearray, size: int) -> bool:
        """Read a large part to where it stays; its memory grows as it comes, whatever was claimed."""
        while self._filled < size:
            here = min(len(self._data) - self._at, size - self._filled)
            if self._filled + max(here, 1) > len(part):
                part.extend(bytes(min(size, 4 * len(part)) - len(part)))
            if here:
                part[self._filled : self._filled + here] = self._data[self._at : self._at + here]
                self._at += here
                self._filled += here
                continue
            try:
                with memoryview(part) as view:
                    got = self._socket.recv_into(view[self._filled :])
            except BlockingIOError:
                return False
            except OSError:
                got = 0
            if not got:
                self.ended = True
                return False
            self._filled += got
            self._emptied = False
        self._parts.append(memoryview(part) if self._parts else bytes(part))
        self._part = None
        return True

    def _read(self) -> bool:
        """More data. False when there is none now, or will be none."""
        if self.ended or self._part is not None:
            return False
        if self._emptied and not self.closing:
            self._emptied = False
            return False
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return False
        self._emptied = len(data) < CHUNK
        self._data = data if self._at == len(self._data) else self._data[self._at :] + data
        self._at = 0
        return True

    def drain(self, timeout: float | None = None) -> None:
        """Wait until the kernel has taken everything, it has ended, or so many seconds are over."""
        until = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while self._out and not self.ended:
            left = None if until is None else 1000 * (until - time.monotonic())
            if left is not None and left <= 0:
                return
            poll.poll(left)
            self.flush()

    def close(self, linger: int = 0) -> None:
        """Let go of it, after what waits has left or so many milliseconds are over."""
        if self._out:
            self.drain(linger / 1000)
        self._out.clear()
        self.ended = True
        self._descriptor = -1
        self._socket.close()


def listen(path: str, backlog: int) -> std_socket.socket:
    """Listen at a path, for this user only."""
    socket = std_socket.socket(std_socket.AF_UNIX, std_socket.SOCK_STREAM)
    try:
        socket.setblocking(False)
        socket.bind(path)
        os.chmod(path, 0o600)
        socket.listen(backlog)
    except BaseException:
        socket.close()
        raise
    return socket


def path_of(url: str) -> str | None:
    """The path of a unix socket's address; None of another one."""
    return url.removeprefix("ipc://") if url.startswith("ipc://") else None
