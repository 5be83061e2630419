"""Sockets that leave this host: TCP with CURVE, always, and limits on what a stranger can cost.

On a unix socket the kernel says who is there; here the keys do.
"""

from __future__ import annotations

import errno
import select
import socket as std_socket
import time
from collections.abc import Sequence

import zmq

from ipkernel_ext.config import addresses
from ipkernel_ext.config.keys import Keys, Pair
from ipkernel_ext.errors import ParallelError
from ipkernel_ext.net.pieces import PIECE
from ipkernel_ext.net.sockets import new_socket

HANDSHAKE = 1500  # milliseconds in which a connection must have shown its key
MAX_FRAME = PIECE + 1024
"""Bytes, those of encryption included. This is what a stranger can have us hold, within the time of a handshake."""
BACKLOG = 512
HEARTBEAT = 2000  # milliseconds between two pings
SILENCE = 8000  # milliseconds after a ping, until a silent peer is given up: 10 s in all
PROBE = 0.6  # seconds in which one of several addresses must accept a connection
PROBE_MORE = 0.1  # seconds that the others have then


def require_curve() -> None:
    """Refuse TCP where it would not be safe.

    Raises
    ------
    ParallelError
        This libzmq has no CURVE, or known holes in it.
    """
    version = zmq.zmq_version_info()
    if version < (4, 3, 4) or not zmq.has("curve"):
        raise ParallelError(
            f"TCP needs libzmq 4.3.4 or newer with CURVE, this is {zmq.zmq_version()}"
            f"{'' if zmq.has('curve') else ' without CURVE'}: install a newer pyzmq, or use no --ip and --port"
        )


def listening_socket(context: zmq.Context[zmq.Socket[bytes]], server: Pair) -> zmq.Socket[bytes]:
    """A ROUTER that only keys can talk to, which a ZAP handler has to know."""
    require_curve()
    socket = _limited(new_socket(context, zmq.ROUTER))
    socket.backlog = BACKLOG
    socket.curve_server = 1
    socket.curve_secretkey = server.secret.encode()
    socket.zap_domain = b"ipkernel_ext"
    return socket


def connecting_socket(
    context: zmq.Context[zmq.Socket[bytes]], url: str, keys: Keys | None, *, once: bool = False
) -> zmq.Socket[bytes]:
    """A DEALER that is to be connected there, when it is watched. ``once``: it will not try again by itself."""
    socket = new_socket(context, zmq.DEALER)
    if url.startswith("tcp://"):
        _limited(socket)
        socket.connect_timeout = HANDSHAKE
        socket.ipv6 = "[" in url
        if once:
            socket.reconnect_ivl = -1
            socket.linger = 0  # libzmq would hold a failed attempt for as long; who closes it may say otherwise
        if keys is not None:
            require_curve()
            socket.curve_serverkey = keys.server.encode()
            socket.curve_publickey = keys.own.public.encode()
            socket.curve_secretkey = keys.own.secret.encode()
    return socket


def _limited(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    socket.handshake_ivl = HANDSHAKE
    socket.maxmsgsize = MAX_FRAME
    socket.heartbeat_ivl = HEARTBEAT
    socket.heartbeat_timeout = SILENCE
    socket.heartbeat_ttl = HEARTBEAT + SILENCE
    return socket


def bind(socket: zmq.Socket[bytes], ip: str, port: int, earlier: int = 0) -> int:
    """Listen; the port.

    Parameters
    ----------
    port : int
        0 is any free one.
    earlier : int
        That of the controller's earlier life, 0 without one. A life that goes on takes another port where its own
        was taken meanwhile: whoever reads the connection files finds it.

    Raises
    ------
    ParallelError
        The port is in use, or the address is not this host's.
    """
    socket.ipv6 = ":" in ip
    candidates = [port or earlier, 0] if earlier else [port]
    for wanted in candidates:
        url = addresses.url(ip, wanted)
        try:
            socket.bind(url)
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE and wanted != candidates[-1]:
                continue
            raise ParallelError(_why_not(error, url, ip, port)) from None
        return int(socket.get_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
    raise ParallelError(f"no port of {ip} is free")


def _why_not(error: zmq.ZMQError, url: str, ip: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{url} is in use by another process: choose another --port, or none for any free one"
    if error.errno == errno.EACCES:
        return f"{url}: this user may not listen at port {port}: choose a --port above 1023, or none for any free one"
    if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV):
        own = ", ".join(addresses.reached_at("0.0.0.0"))
        return f"--ip={ip} is no address of this host, which has {own}; --ip='*' listens at all of them"
    return f"cannot listen at {url}: {error.strerror}"


def answering(urls: Sequence[str]) -> list[str]:
    """Those of several addresses where somebody accepts a connection, the quickest first."""
    probes: dict[int, tuple[std_socket.socket, str]] = {}
    found: list[str] = []
    poller = select.poll()
    try:
        for url in urls:
            host, _, port = url.removeprefix("tcp://").rpartition(":")
            probe = std_socket.socket(std_socket.AF_INET6 if host.startswith("[") else std_socket.AF_INET)
            probes[probe.fileno()] = (probe, url)
            probe.setblocking(False)
            probe.connect_ex((host.strip("[]"), int(port)))
            poller.register(probe, select.POLLOUT)
        waiting = len(probes)
        until = time.monotonic() + PROBE
        while waiting and (left := until - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(left * 1000):
                probe, url = probes[descriptor]
                poller.unregister(descriptor)
                waiting -= 1
                if probe.getsockopt(std_socket.SOL_SOCKET, std_socket.SO_ERROR) == 0:
                    found.append(url)
                    until = min(until, time.monotonic() + PROBE_MORE)
    finally:
        for probe, _ in probes.values():
            probe.close()
    return found
