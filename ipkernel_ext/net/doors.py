"""The controller's ROUTERs: one on a unix socket, and one over TCP when there are other hosts.

Each knows who is behind it: on the unix socket the kernel says which process of which user, over TCP
the key says which role. A peer that came over TCP is known by its role and id, so that it cannot be
taken for one without limits, nor for one with another key.
"""

from __future__ import annotations

import os
import resource
import socket as std_socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

import zmq

from ipkernel_ext.core.effects import Peer
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.net.pieces import MARK, join
from ipkernel_ext.net.sockets import Monitor, receive_part, receive_rest

ENDS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
WITH_KEYS = ENDS | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
"""Not those that tell of a breach of protocol: libzmq 4.3.5 may fail to end a connection of which it tells that
(what it sends to the monitor changes ``errno``, by which it knows), and hears nothing of it any more."""


SPARE = 64
"""Descriptors that are never given to connections: where none is left, libzmq ends the process at the next
connection to a unix socket."""


class RemotePeer(NamedTuple):
    """A connection over TCP."""

    role: str  # of its key
    id: bytes


class Door:
    """A ROUTER, and what is known of the connections behind it.

    Parameters
    ----------
    on_stranger
        Told (what, address) of each connection that ended without a message.

    Attributes
    ----------
    leaving : list
        Peers whose connection has ended, of which unread messages may be here.
    """

    nothing_said = "no message of ours"

    def __init__(self, socket: zmq.Socket[bytes], on_stranger: Callable[[str, str], None], events: int = ENDS) -> None:
        self.socket = socket
        self._on_stranger = on_stranger
        self.monitor = Monitor(socket, events)
        self.leaving: list[Peer] = []
        self._ids: dict[int, set[bytes]] = {}  # by the descriptor of their connection
        self._peers: dict[bytes, Peer] = {}
        self._crowd: set[int] = set()  # descriptors of connections that we have ended for want of descriptors
        self._unheard: set[int] = set()  # descriptors of connections that ended; a message may still be here

    def receive(self) -> tuple[Peer, Sequence[Frame] | None] | None:
        """The next batch and who sent it; no batch from those who may not send any. None when there is none."""
        id = receive_part(self.socket)
        if id is None:
            return None
        peer = self._peers.get(id)
        if peer is not None:
            return peer, receive_rest(self.socket, self.socket.recv(zmq.DONTWAIT))
        return self._receive_from_stranger(id)

    def _receive_from_stranger(self, id: bytes) -> tuple[Peer, Sequence[Frame] | None]:
        """The first message of a connection also tells its descriptor and who is behind it."""
        frame = self.socket.recv(zmq.DONTWAIT, copy=False)
        self.see_events()  # of an earlier connection with the same descriptor
        descriptor = int(frame.get(zmq.SRCFD))
        peer, welcome = self._identify(id, frame)
        self._peers[id] = peer
        self._ids.setdefault(descriptor, set()).add(id)
        if descriptor in self._unheard:
            self._unheard.discard(descriptor)
            self._ended(descriptor)
        parts: list[Frame] = [frame.bytes]
        while frame.more:
            frame = self.socket.recv(zmq.DONTWAIT, copy=False)
            parts.append(frame.buffer)
        if not welcome:
            return peer, None
        return peer, join(parts) if parts[0].startswith(MARK) else parts

    def _identify(self, id: bytes, frame: zmq.Frame) -> tuple[Peer, bool]:
        raise NotImplementedError

    def see_events(self) -> None:
        """Note whose connection has ended."""
        for event, value in self.monitor.events():
            self._on_event(event, value)

    def settle(self) -> None:
        """All that was sent has been read: who ended without a word was a stranger."""
        while self._unheard:
            self._report(self._unheard.pop())

    def _report(self, descriptor: int) -> None:
        what = "nothing but the wish for one more" if descriptor in self._crowd else self.nothing_said
        self._crowd.discard(descriptor)
        self._on_stranger(what, self._address(descriptor))

    def _on_event(self, event: int, value: int) -> None:
        """The value of these two is the descriptor."""
        if event == zmq.EVENT_ACCEPTED:
            if value in self._unheard:
                self._unheard.discard(value)
                self._report(value)
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            if limit != resource.RLIM_INFINITY and value >= limit - SPARE:
                self._crowd.add(value)
                _hang_up(value)
        elif not self._ended(value):
            self._unheard.add(value)

    def _address(self, descriptor: int) -> str:
        return "this host"

    def _ended(self, descriptor: int) -> bool:
        """Whether we had heard of this connection."""
        ids = self._ids.pop(descriptor, ())
        self.leaving.extend(self._peers[id] for id in ids if id in self._peers)
        return bool(ids)

    def forget(self, id: bytes) -> None:
        """A peer that is gone, or counts as gone; what it still sends is a stranger's."""
        self._peers.pop(id, None)

    def close(self, linger: int) -> None:
        """Let go of the socket, after what was sent has left or ``linger`` milliseconds are over."""
        self.monitor.close()
        self.socket.close(linger)


class LocalDoor(Door):
    """A unix socket.

    Attributes
    ----------
    pids : dict
        Of the processes behind it, as the kernel says.
    """

    def __init__(self, socket: zmq.Socket[bytes], on_stranger: Callable[[str, str], None]) -> None:
        super().__init__(socket, on_stranger)
        self.pids: dict[Peer, int] = {}

    def _identify(self, id: bytes, frame: zmq.Frame) -> tuple[Peer, bool]:
        local = str(frame.get("Peer-Address")).split(":")  # localhost:uid:gid:pid
        if len(local) != 4:
            return id, True
        self.pids[id] = int(local[3])
        return id, int(local[1]) in (os.getuid(), 0)

    def forget(self, id: bytes) -> None:
        """A peer that is gone."""
        super().forget(id)
        self.pids.pop(id, None)


class RemoteDoor(Door):
    """TCP with keys."""

    nothing_said = "no key of this controller"

    def __init__(self, socket: zmq.Socket[bytes], on_stranger: Callable[[str, str], None]) -> None:
        super().__init__(socket, self._unless_ours, WITH_KEYS)
        self._tell = on_stranger
        self._addresses: dict[int, str] = {}  # of connections not heard of yet, by descriptor
        self._ours = 0  # strangers to be passed over
        self._failure = 0  # the event that told of a failed handshake, until its connection's end follows

    def pass_over(self, connections: int) -> None:
        """Say nothing of this many strangers, which were ours."""
        self._ours += connections

    def shut(self, timeout: int) -> list[Peer]:
        """Listen no more, and end every connection; whose they were.

        The port is free then, unless that takes longer than ``timeout`` milliseconds.
        """
        self.socket.unbind(self.socket.get_string(zmq.LAST_ENDPOINT))
        while self.monitor.pair.poll(timeout):
            if any(event == zmq.EVENT_CLOSED for event, _ in self.monitor.events()):
                break
        self.close(0)
        return list(self._peers.values())

    def _identify(self, id: bytes, frame: zmq.Frame) -> tuple[Peer, bool]:
        try:
            role = str(frame.get("User-Id"))
        except zmq.ZMQError:
            role = ""  # no key was asked for, which must not be; nobody is let in
        return RemotePeer(role, id), bool(role)

    def _on_event(self, event: int, value: int) -> None:
        if event == zmq.EVENT_ACCEPTED:
            super()._on_event(event, value)
            self._addresses[value] = _address_of(value)
        elif event == zmq.EVENT_DISCONNECTED:
            failure, self._failure = self._failure, 0
            if failure == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._on_stranger("an unknown key", self._address(value))
            else:
                super()._on_event(event, value)
                if value not in self._unheard:
                    self._addresses.pop(value, None)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._failure = event

    def _address(self, descriptor: int) -> str:
        return self._addresses.pop(descriptor, "")

    def _unless_ours(self, what: str, address: str) -> None:
        if self._ours:
            self._ours -= 1
        else:
            self._tell(what, address)


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
