"""The controller's doors: a unix socket, and a ROUTER over TCP when there are other hosts.

Each knows who is behind it: on the unix socket the kernel says which process of which user, over TCP
the key says which role. A peer that came over TCP is known by its role and id, so that it cannot be
taken for one without limits, nor for one with another key.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket as std_socket
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from ipkernel_ext.core.effects import Peer
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.errors import ProtocolError
from ipkernel_ext.net.local import Connection, listen
from ipkernel_ext.net.pieces import MARK, join
from ipkernel_ext.net.sockets import Monitor, receive_part, receive_rest, send

EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
"""Not those that tell of a breach of protocol: libzmq 4.3.5 may fail to end a connection of which it tells that
(what it sends to the monitor changes ``errno``, by which it knows), and hears nothing of it any more."""


BACKLOG = 512  # connections that may wait for the controller to look
ONE_MORE = "nothing but the wish for one more"
SPARE = 64
"""Descriptors that are never given to connections: libzmq ends the process where it needs one and none is left."""


class RemotePeer(NamedTuple):
    """A connection over TCP."""

    role: str  # of its key
    id: bytes


class LocalDoor:
    """A unix socket.

    Parameters
    ----------
    on_stranger
        Told (what, address) of each connection that ended without a message.

    Attributes
    ----------
    sources : list
        What to poll.
    leaving : list
        Peers whose connection has ended, all of whose messages have been read.
    pids : dict
        Of the processes behind it, as the kernel says.
    """

    def __init__(self, path: Path, on_stranger: Callable[[str, str], None]) -> None:
        self._path = path
        self._on_stranger = on_stranger
        self._epoll = select.epoll()
        self.sources: list[Any] = [self._epoll.fileno()]
        self._listener: std_socket.socket | None = None
        self._connections: dict[bytes, Connection] = {}
        self._ids: dict[int, bytes] = {}  # by descriptor
        self._count = 0
        self._readable: OrderedDict[bytes, None] = OrderedDict()  # of whom there may be something to read
        self._heard: set[bytes] = set()  # who has said something
        self.leaving: list[Peer] = []
        self.pids: dict[Peer, int] = {}

    def bind(self) -> None:
        """Listen, from now on; somebody may have removed the socket since the last time."""
        if self._listener is not None:
            self._epoll.unregister(self._listener)
            self._listener.close()
        self._listener = listen(str(self._path), BACKLOG)
        self._epoll.register(self._listener, select.EPOLLIN)

    def see(self, ready: Container[Any]) -> None:
        """Note who has come, and of whom there is something to read."""
        if self._epoll.fileno() not in ready:
            return
        for descriptor, events in self._epoll.poll(0):
            id = self._ids.get(descriptor)
            if id is None:
                self._accept()
                continue
            if events & select.EPOLLOUT:
                self._flush(id)
            if events & ~select.EPOLLOUT:
                self._readable[id] = None
            if events & select.EPOLLHUP:
                self._connections[id].closing = True

    def _accept(self) -> None:
        assert self._listener is not None
        with suppress(BlockingIOError):
            while True:
                try:
                    socket, _ = self._listener.accept()
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ECONNABORTED):
                        return
                    raise
                connection = Connection(socket)
                if _is_last(socket.fileno()):
                    connection.close()
                    self._on_stranger(ONE_MORE, "this host")
                    continue
                pid, uid = connection.peer
                if uid not in (os.getuid(), 0):
                    connection.close()
                    self._on_stranger("another user", f"process {pid}")
                    continue
                self._count += 1
                id = self._count.to_bytes(8, "big")
                self._connections[id] = connection
                self._ids[connection.fileno()] = id
                self.pids[id] = pid
                self._epoll.register(connection.fileno(), select.EPOLLIN)

    def receive(self) -> tuple[Peer, Sequence[Frame] | None] | None:
        """The next batch and who sent it, of each in turn; no batch where it is none. None when there is none."""
        while self._readable:
            id = next(iter(self._readable))
            connection = self._connections[id]
            try:
                parts = connection.receive()
            except ProtocolError:
                self._heard.add(id)
                return id, None
            if parts is not None:
                self._heard.add(id)
                if len(self._readable) > 1:
                    self._readable.move_to_end(id)
                return id, parts
            del self._readable[id]
            if connection.ended:
                self._end(id)
        return None

    def _end(self, id: bytes) -> None:
        connection = self._connections.pop(id)
        del self._ids[connection.fileno()]
        self._epoll.unregister(connection.fileno())
        connection.close()
        self.pids.pop(id, None)
        if id in self._heard:
            self._heard.discard(id)
            self.leaving.append(id)
        else:
            self._on_stranger("no message of ours", "this host")

    def send(self, id: bytes, parts: Sequence[Frame]) -> bool:
        """Send a batch. False if nobody is there any more."""
        connection = self._connections.get(id)
        if connection is None:
            return False
        waited = connection.waits
        connection.send(parts)
        if connection.waits and not waited:
            self._epoll.modify(connection.fileno(), select.EPOLLIN | select.EPOLLOUT)
        return not connection.ended

    def _flush(self, id: bytes) -> None:
        connection = self._connections[id]
        connection.flush()
        if not connection.waits:
            self._epoll.modify(connection.fileno(), select.EPOLLIN)

    @property
    def busy(self) -> bool:
        """Whether there is something to read that no poll tells of."""
        return bool(self._readable)

    def settle(self) -> None:
        """All that was sent has been read."""

    def forget(self, id: bytes) -> None:
        """A peer that is gone, or counts as gone."""
        self.pids.pop(id, None)

    def close(self, linger: int) -> None:
        """Let go of all connections, after what was sent has left or ``linger`` milliseconds are over."""
        until = time.monotonic() + linger / 1000
        if self._listener is not None:
            self._listener.close()
        for connection in self._connections.values():
            connection.close(max(0, int(1000 * (until - time.monotonic()))))
        self._epoll.close()


class RemoteDoor:
    """A ROUTER over TCP with keys, and what is known of the connections behind it.

    Parameters
    ----------
    on_stranger
        Told (what, address) of each connection that ended without a message.

    Attributes
    ----------
    sources : list
        What to poll.
    leaving : list
        Peers whose connection has ended, of which unread messages may be here.
    """

    def __init__(self, socket: zmq.Socket[bytes], on_stranger: Callable[[str, str], None]) -> None:
        self._socket = socket
        self._on_stranger = on_stranger
        self._monitor = Monitor(socket, EVENTS)
        self.sources: list[Any] = [socket, self._monitor.pair]
        self.leaving: list[Peer] = []
        self._peers: dict[bytes, RemotePeer] = {}
        self._ids: dict[int, set[bytes]] = {}  # by the descriptor of their connection, as all that follow
        self._crowd: set[int] = set()  # of connections that we have ended for want of descriptors
        self._unheard: set[int] = set()  # of connections that ended; a message may still be here
        self._addresses: dict[int, str] = {}  # of connections not heard of yet
        self._ours = 0  # strangers to be passed over
        self._failure = 0  # the event that told of a failed handshake, until its connection's end follows

    def pass_over(self, connections: int) -> None:
        """Say nothing of this many strangers, which were ours."""
        self._ours += connections

    @property
    def peers(self) -> int:
        """How many are behind it."""
        return len(self._peers)

    def receive(self) -> tuple[RemotePeer, Sequence[Frame] | None] | None:
        """The next batch and who sent it; no batch from those who may not send any. None when there is none."""
        id = receive_part(self._socket)
        if id is None:
            return None
        peer = self._peers.get(id)
        if peer is not None:
            return peer, receive_rest(self._socket, self._socket.recv(zmq.DONTWAIT))
        return self._receive_from_stranger(id)

    def _receive_from_stranger(self, id: bytes) -> tuple[RemotePeer, Sequence[Frame] | None]:
        """The first message of a connection also tells its descriptor and the role of its key."""
        frame = self._socket.recv(zmq.DONTWAIT, copy=False)
        self._see_events()  # of an earlier connection with the same descriptor
        descriptor = int(frame.get(zmq.SRCFD))
        try:
            role = str(frame.get("User-Id"))
        except zmq.ZMQError:
            role = ""  # no key was asked for, which must not be; nobody is let in
        peer = self._peers[id] = RemotePeer(role, id)
        self._ids.setdefault(descriptor, set()).add(id)
        if descriptor in self._unheard:
            self._unheard.discard(descriptor)
            self._ended(descriptor)
        parts: list[Frame] = [frame.bytes]
        while frame.more:
            frame = self._socket.recv(zmq.DONTWAIT, copy=False)
            parts.append(frame.buffer)
        if not role:
            return peer, None
        return peer, join(parts) if parts[0].startswith(MARK) else parts

    def send(self, id: bytes, parts: Sequence[Frame]) -> bool:
        """Send a batch. False if nobody is there any more."""
        try:
            send(self._socket, parts, id)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            return False
        return True

    def see(self, ready: Container[Any]) -> None:
        """Note whose connection has ended."""
        if self._monitor.pair in ready:
            self._see_events()

    def _see_events(self) -> None:
        for event, value in self._monitor.events():
            if event == zmq.EVENT_ACCEPTED:
                self._accepted(value)
            elif event == zmq.EVENT_DISCONNECTED:
                self._disconnected(value)
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._failure = event

    def _accepted(self, descriptor: int) -> None:
        if descriptor in self._unheard:
            self._unheard.discard(descriptor)
            self._report(descriptor)
        if _is_last(descriptor):
            self._crowd.add(descriptor)
            _hang_up(descriptor)
        self._addresses[descriptor] = _address_of(descriptor)

    def _disconnected(self, descriptor: int) -> None:
        failure, self._failure = self._failure, 0
        if failure:
            self._tell("an unknown key", descriptor)
        elif self._ended(descriptor):
            self._addresses.pop(descriptor, None)
        else:
            self._unheard.add(descriptor)

    def _ended(self, descriptor: int) -> bool:
        """Whether we had heard of this connection."""
        ids = self._ids.pop(descriptor, ())
        self.leaving.extend(self._peers[id] for id in ids if id in self._peers)
        return bool(ids)

    def settle(self) -> None:
        """All that was sent has been read: who ended without a word was a stranger."""
        while self._unheard:
            self._report(self._unheard.pop())

    def _report(self, descriptor: int) -> None:
        what = ONE_MORE if descriptor in self._crowd else "no key of this controller"
        self._crowd.discard(descriptor)
        self._tell(what, descriptor)

    def _tell(self, what: str, descriptor: int) -> None:
        address = self._addresses.pop(descriptor, "")
        if self._ours:
            self._ours -= 1
        else:
            self._on_stranger(what, address)

    def forget(self, id: bytes) -> None:
        """A peer that is gone, or counts as gone; what it still sends is a stranger's."""
        self._peers.pop(id, None)

    def shut(self, timeout: int) -> list[RemotePeer]:
        """Listen no more, and end every connection; whose they were.

        The port is free then, unless that takes longer than ``timeout`` milliseconds.
        """
        self._socket.unbind(self._socket.get_string(zmq.LAST_ENDPOINT))
        while self._monitor.pair.poll(timeout):
            if any(event == zmq.EVENT_CLOSED for event, _ in self._monitor.events()):
                break
        self.close(0)
        return list(self._peers.values())

    def close(self, linger: int) -> None:
        """Let go of the socket, after what was sent has left or ``linger`` milliseconds are over."""
        self._monitor.close()
        self._socket.close(linger)


def _is_last(descriptor: int) -> bool:
    """Whether few descriptors are left beyond this one."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit != resource.RLIM_INFINITY and descriptor >= limit - SPARE


def _hang_up(descriptor: int) -> None:
    """End a connection that another thread owns, which then closes it."""
    try:
        with std_socket.socket(fileno=os.dup(descriptor)) as socket:
            socket.shutdown(std_socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended


def _address_of(descriptor: int) -> str:
    """Of the other end of a connection that another thread owns: it may be closed by now, then "" is all we know."""
    try:
        with std_socket.socket(fileno=os.dup(descriptor)) as socket:
            return str(socket.getpeername()[0]).removeprefix("::ffff:")
    except (OSError, IndexError):
        return ""
