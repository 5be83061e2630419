"""Who may connect over TCP: a thread that answers libzmq's question for each key (ZAP, RFC 27).

A thread of its own, because the controller's loop may be busy for longer than a handshake may take.
pyzmq's ``ThreadAuthenticator`` does nearly this; but it ends in silence when a request surprises it,
brings an event loop into the controller, and does not tell whom it refused.

Without a handler on its address libzmq lets every key in. So the handler is there before the socket
listens, its socket stays open (and silent, which lets nobody in) should the thread fail, and
``probe`` makes sure of it all before anybody is told where to connect.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import zmq
from zmq.utils import z85

from ipkernel_ext.config.keys import ClusterKeys, Keys
from ipkernel_ext.config.keys import make as make_keys
from ipkernel_ext.errors import ParallelError
from ipkernel_ext.net.sockets import Monitor, Wake
from ipkernel_ext.net.tcp import HANDSHAKE, connecting_socket

ENDPOINT = "inproc://zeromq.zap.01"
VERSION = b"1.0"
OUTCOMES = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED


def answer(roles: Mapping[bytes, str], request: Sequence[bytes]) -> tuple[bytes, str]:
    """Status code and user id, which is the role, for the parts of a request.

    Parameters
    ----------
    roles
        Role by public key.
    """
    if len(request) != 7 or request[0] != VERSION or request[5] != b"CURVE":
        return b"400", ""
    role = roles.get(request[6])
    return (b"200", role) if role is not None else (b"400", "")


class Gatekeeper:
    """The thread.

    Parameters
    ----------
    roles
        Role by public key.
    on_end
        Called from the thread when it ends, for whatever reason.

    Attributes
    ----------
    failure : Exception or None
        Why it ended although nobody wanted it to.
    refused : deque
        Addresses whose key was refused, the latest.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], roles: Mapping[str, str], on_end: Callable[[], None]
    ) -> None:
        self.failure: Exception | None = None
        self.refused: deque[str] = deque(maxlen=64)
        self.admit(roles)
        self._on_end = on_end
        self._stop = Wake()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind(ENDPOINT)
        self._thread = threading.Thread(target=self._run, name="ipkernel_ext keys", daemon=True)
        self._thread.start()

    def admit(self, roles: Mapping[str, str]) -> None:
        """From now on let these public keys in, and no others; connections that are open stay."""
        self._roles = {z85.decode(public): role for public, role in roles.items()}

    def _run(self) -> None:
        try:
            poller = zmq.Poller()
            poller.register(self._socket, zmq.POLLIN)
            poller.register(self._stop.fileno(), zmq.POLLIN)
            while self._stop.fileno() not in dict(poller.poll()):
                self._serve_one()
        except Exception as error:
            self.failure = error
        finally:
            self._on_end()

    def _serve_one(self) -> None:
        parts = self._socket.recv_multipart()
        begin = parts.index(b"") + 1
        request = parts[begin:]
        status, role = answer(self._roles, request)
        if role == "" and len(request) > 3:
            self.refused.append(request[3].decode(errors="replace"))
        id = request[1] if len(request) > 1 else b""
        text = b"OK" if status == b"200" else b"unknown key"
        self._socket.send_multipart([*parts[:begin], VERSION, id, status, text, role.encode(), b""])

    def close(self) -> None:
        """End the thread. Only after the socket it guards is closed."""
        self._stop.set()
        self._thread.join()
        self._stop.close()
        self._socket.close(0)


def probe(url: str, keys: ClusterKeys) -> None:
    """Make sure that the key of a role is let in, and a stranger's is not.

    Raises
    ------
    ParallelError
        It is otherwise: nobody must be told of this address.
    """
    stranger = Keys(keys.server.public, make_keys().client)
    for one, expected in (
        (stranger, zmq.EVENT_HANDSHAKE_FAILED_AUTH),
        (keys.of("client"), zmq.EVENT_HANDSHAKE_SUCCEEDED),
    ):
        if outcome(url, one) != expected:
            who = "an unknown key" if one is stranger else "the key of clients"
            raise ParallelError(f"{url} does not treat {who} as it must; the controller does not start")


def outcome(url: str, keys: Keys) -> int:
    """The first that happens to a connection with these keys; 0: nothing in time."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = connecting_socket(context, url, keys, once=True)
    monitor = Monitor(socket, OUTCOMES)
    socket.connect(url)
    try:
        if monitor.pair.poll(2 * HANDSHAKE):
            return monitor.events()[0][0]
        return 0
    finally:
        monitor.close()
        socket.close(0)
        context.term()
