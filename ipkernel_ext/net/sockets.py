"""ZeroMQ sockets as this package uses them: options, batches in and out, and what the monitor says.

High-water marks are off and sends never block: how much is under way is the cores' business.
"""

from __future__ import annotations

import math
import os
import signal
import struct
import threading
from collections.abc import Sequence

import zmq

from ipkernel_ext.core.wire import Frame
from ipkernel_ext.net.pieces import MARK, cut, is_large, join

_EVENT = struct.Struct("=HI")
"""Event and value, see zmq_socket_monitor(3). pyzmq's own reader imports asyncio, which is slow."""

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
        """Wake the loop. What it is to find must have been put in place before."""
        if self._is_set:
            return
        with self._lock:
            if not self._closed:
                self._is_set = True
                os.write(self._writer, b"!")

    def clear(self) -> None:
        """To be called by the loop before it looks at what there is."""
        try:
            os.read(self._reader, 64)
        except BlockingIOError:
            pass
        self._is_set = False

    def set_by_signals(self) -> None:
        """Have every signal set it, also one that comes in the moment before a poll. From the main thread."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def close(self) -> None:
        """Give both descriptors back; setting it later does nothing."""
        with self._lock:
            self._closed = True
            os.close(self._reader)
            os.close(self._writer)


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


def send(socket: zmq.Socket[bytes], parts: Sequence[Frame], *to: bytes) -> None:
    """Send one batch, from a ROUTER to the peer of that id; large parts are not copied."""
    if is_large(parts) and int(socket.get(zmq.MAXMSGSIZE)) >= 0:
        parts = cut(parts)
    socket.send_multipart([*to, *parts] if to else parts, zmq.DONTWAIT, copy=len(parts) == 1)


def receive(socket: zmq.Socket[bytes]) -> list[Frame] | None:
    """The next batch, or None when there is none; parts after the first are views that own their memory."""
    try:
        parts: list[Frame] = [socket.recv(zmq.DONTWAIT)]
    except zmq.Again:
        return None
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
        while int(self.pair.get(zmq.EVENTS)) & zmq.POLLIN:
            what, _address = self.pair.recv_multipart(zmq.DONTWAIT)
            happened.append(_EVENT.unpack(what))
        return happened

    def close(self) -> None:
        """Stop watching."""
        self._socket.disable_monitor()
        self.pair.close(0)
