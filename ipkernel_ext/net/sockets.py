"""ZeroMQ sockets as this package uses them: options, batches in and out, and what the monitor says.

High-water marks are off and sends never block: how much is under way is the cores' business.
"""

from __future__ import annotations

import math
import os
import select
import signal
import struct
import threading
from collections.abc import Container, Sequence
from contextlib import suppress
from typing import Any

import zmq

from ipkernel_ext.core.wire import Frame
from ipkernel_ext.net.local import Connection
from ipkernel_ext.net.pieces import MARK, cut, is_large, join

_EVENT = struct.Struct("=HI")
"""Event and value, see zmq_socket_monitor(3). pyzmq's own reader imports asyncio, which is slow."""

BUSY = 0.01  # seconds that one thread waits for another that should be done at once

RECONNECT = 50, 1000  # milliseconds, first and longest pause between attempts to connect


class Wake:
    """Wakes a loop of another thread. Setting it again before it was cleared costs nothing."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._is_set = False
        self._closed = False
        self._lock = threading.RLock()  # a signal handler may set it while it is being set

    def fileno(self) -> int:
        """What to poll."""
        return self._reader

    def set(self) -> None:
        """Wake the loop. What it is to find must have been put in place before.

        A KeyboardInterrupt at any moment of it leaves a byte too many at worst, never a byte too few.
        """
        if self._is_set:
            return
        with self._lock:
            if not self._closed and not self._is_set:
                os.write(self._writer, b"!")
                self._is_set = True

    def clear_if(self, ready: Container[Any]) -> None:
        """As ``clear``, if it is among what the loop was woken by."""
        if self._reader in ready:
            self.clear()

    def clear(self) -> None:
        """To be called by the loop before it looks at what there is.

        It waits for nobody: a signal's handler that runs in the midst of ``set`` may wait for the loop. Then it stays
        set.
        """
        if not self._lock.acquire(timeout=BUSY):
            return
        try:
            if not self._closed:
                with suppress(BlockingIOError):
                    os.read(self._reader, 64)
            self._is_set = False
        finally:
            self._lock.release()

    def set_by_signals(self) -> None:
        """Have every signal set it, also one that comes in the moment before a poll. From the main thread."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def close(self) -> None:
        """Give both descriptors back; to set, clear or close it later does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._reader)
                os.close(self._writer)


Source = zmq.Socket[bytes] | Connection | int
"""What can be waited for; a number is a descriptor."""


class Poller:
    """Waits for sockets and descriptors; a ``zmq.Poller`` with a third of the system calls.

    The descriptor of a ZeroMQ socket says no more than that there is something to look at, and who sends looks at it
    too. So each socket is asked once before the wait, but for pairs, from which we only receive; and whatever is the
    matter with its descriptor, a socket counts as ready: who then reads from it finds out. A new one is asked too: its
    descriptor says nothing before it was looked at for the first time.

    Parameters
    ----------
    gated : bool
        Another thread may wait for a connection in the place of this poller; see ``hide``.
    """

    def __init__(self, gated: bool = False) -> None:
        self._poll = select.poll()
        self._gate = select.epoll() if gated else None  # of connections; unlike ``poll``, it can change while it waits
        self._hidden: Connection | None = None
        self._sources: dict[int, Any] = {}
        self._descriptors: dict[Any, int] = {}
        self._connections: list[Connection] = []
        self._writing: set[int] = set()  # descriptors of those that wait to send
        self._sent_on: list[zmq.Socket[bytes]] = []
        self._new: list[zmq.Socket[bytes]] = []
        if self._gate is not None:
            self._poll.register(self._gate.fileno(), select.POLLIN)

    def register(self, source: Source, flags: int = zmq.POLLIN) -> None:
        """Wait for this too."""
        if source in self._descriptors:
            return
        if isinstance(source, int):
            descriptor = source
        elif isinstance(source, Connection):
            descriptor = source.fileno()
            self._connections.append(source)
        else:
            descriptor = int(source.get(zmq.FD))
            (self._new if source.type == zmq.PAIR else self._sent_on).append(source)
        self._sources[descriptor] = source
        self._descriptors[source] = descriptor
        self._watcher(source).register(descriptor, select.POLLIN)

    def _watcher(self, source: Source) -> select.poll | select.epoll:
        return self._poll if self._gate is None or not isinstance(source, Connection) else self._gate

    def hide(self, connection: Connection) -> None:
        """Wait for this no more, from this moment on: another thread does."""
        assert self._gate is not None
        self._gate.unregister(connection.fileno())
        self._hidden = connection

    def show(self) -> None:
        """Wait again for what was hidden, unless it was unregistered meanwhile."""
        connection, self._hidden = self._hidden, None
        if connection is not None and self._gate is not None:
            self._writing.discard(connection.fileno())
            self._gate.register(connection.fileno(), select.POLLIN)

    def unregister(self, source: Source) -> None:
        """Wait for this no more. KeyError if it was not waited for."""
        descriptor = self._descriptors.pop(source)
        del self._sources[descriptor]
        if source is self._hidden:
            self._hidden = None
        else:
            self._watcher(source).unregister(descriptor)
        self._writing.discard(descriptor)
        lists: tuple[list[Any], ...] = self._sent_on, self._new, self._connections
        for each in lists:
            if source in each:
                each.remove(source)

    def close(self) -> None:
        """Give its own descriptor back. It is not used any more."""
        if self._gate is not None:
            self._gate.close()

    def poll(self, timeout: int | None = None) -> dict[Any, int]:
        """What is ready, at the latest after so many milliseconds."""
        ready: dict[Any, int] = {}
        for socket in (*self._sent_on, *self._new):
            if readable(socket):
                ready[socket] = _READABLE
        self._new.clear()
        for connection in self._connections:
            if connection.waits != (connection.fileno() in self._writing) and connection is not self._hidden:
                self._watch(connection)
        happened = self._poll.poll(0 if ready else timeout)
        if self._gate is not None and happened:
            happened += self._gate.poll(0)
        for descriptor, events in happened:
            source = self._sources.get(descriptor)
            if source is None:
                continue  # the gate
            if events & select.POLLOUT and self._gate is None:  # else others may be sending at this moment
                source.flush()
            ready[source] = events
        return ready

    def _watch(self, connection: Connection) -> None:
        """Wait until it takes more, as long as something waits for that."""
        descriptor = connection.fileno()
        with suppress(FileNotFoundError):  # hidden at this moment
            self._watcher(connection).modify(descriptor, select.POLLIN | (select.POLLOUT if connection.waits else 0))
            (self._writing.add if connection.waits else self._writing.discard)(descriptor)


_READABLE = int(zmq.POLLIN)


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether there is something to receive. To be told so by ``zmq.Again`` takes three times as long."""
    return bool(int(socket.get(zmq.EVENTS)) & _READABLE)


def new_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    """A socket with this package's options."""
    socket = context.socket(kind)
    socket.sndhwm = 0
    socket.rcvhwm = 0
    socket.linger = 1000
    if kind == zmq.ROUTER:
        socket.router_mandatory = 1
    else:
        socket.reconnect_ivl, socket.reconnect_ivl_max = RECONNECT
    return socket


def send(socket: zmq.Socket[bytes] | Connection, parts: Sequence[Frame], *to: bytes) -> None:
    """Send one batch, from a ROUTER to the peer of that id; large parts are not copied."""
    if isinstance(socket, Connection):
        socket.send(parts)
        return
    if is_large(parts) and int(socket.get(zmq.MAXMSGSIZE)) >= 0:
        parts = cut(parts)
    socket.send_multipart([*to, *parts] if to else parts, zmq.DONTWAIT, copy=len(parts) == 1)


def receive(socket: zmq.Socket[bytes] | Connection) -> list[Frame] | None:
    """The next batch, or None when there is none; parts after the first are views that own their memory."""
    if isinstance(socket, Connection):
        return socket.receive()
    first = receive_part(socket)
    return None if first is None else receive_rest(socket, first)


def receive_part(socket: zmq.Socket[bytes]) -> bytes | None:
    """The first part of the next batch, or None when there is none."""
    if not readable(socket):
        return None
    try:
        return socket.recv(zmq.DONTWAIT)
    except zmq.Again:
        return None


def receive_rest(socket: zmq.Socket[bytes], first: bytes) -> list[Frame]:
    """The batch that begins with a part that has been received."""
    parts: list[Frame] = [first]
    while socket.get(zmq.RCVMORE):
        parts.append(socket.recv(zmq.DONTWAIT, copy=False).buffer)
    return join(parts) if parts[0].startswith(MARK) else parts


def until(deadline: float | None, now: float) -> int | None:
    """Milliseconds that a poll may wait, rounded up; None for ever. Deadline and now in seconds."""
    return None if deadline is None else max(0, math.ceil((deadline - now) * 1000))


class Monitor:
    """What happens to a socket's connections."""

    def __init__(self, socket: zmq.Socket[bytes], events: int) -> None:
        self._socket = socket
        self.pair = socket.get_monitor_socket(events)

    def events(self) -> list[tuple[int, int]]:
        """(event, value) of all that happened since the last call."""
        happened = []
        while readable(self.pair):
            what, _address = self.pair.recv_multipart(zmq.DONTWAIT)
            happened.append(_EVENT.unpack(what))
        return happened

    def close(self) -> None:
        """Stop watching."""
        self._socket.disable_monitor()
        self.pair.close(0)
