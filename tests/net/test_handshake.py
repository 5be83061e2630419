"""What an attempt to connect ended with, in words."""

from __future__ import annotations

import errno
import socket
import threading

import pytest
import zmq

from ipkernel_ext.config import keys
from ipkernel_ext.config.connection import Address
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.wire import Decoder
from ipkernel_ext.errors import AuthenticationError, NotConnected
from ipkernel_ext.net.edge import Edge
from ipkernel_ext.net.handshake import Handshake

URL = "tcp://192.0.2.1:5555"
KEYS = keys.make().of("client")

CONNECTED = (zmq.EVENT_CONNECTED, 3)
DISCONNECTED = (zmq.EVENT_DISCONNECTED, 3)
MISMATCH = (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
CRYPTOGRAPHIC = (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC)
CLOSED = (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EPIPE)
SILENT = (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EAGAIN)
REFUSED_KEY = (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400)


def verdict(events, keys=KEYS):
    handshake = Handshake(URL, Address((URL,), keys, "/x/client.json"))
    *before, last = [handshake.see(*event) for event in events]
    assert before == [None] * len(before)
    return last


@pytest.mark.parametrize(
    ("events", "given", "kind", "certain", "said"),
    [
        ([CONNECTED, REFUSED_KEY, DISCONNECTED], KEYS, AuthenticationError, True, "refuses the key"),
        ([CONNECTED, MISMATCH, DISCONNECTED], None, AuthenticationError, True, "asks for a key"),
        ([CONNECTED, CLOSED, DISCONNECTED], None, AuthenticationError, False, "asks for a key"),
        ([CONNECTED, CLOSED, DISCONNECTED], KEYS, AuthenticationError, False, "does not take the keys"),
        ([CONNECTED, CRYPTOGRAPHIC, DISCONNECTED], KEYS, AuthenticationError, True, "is not the one"),
        ([CONNECTED, MISMATCH, DISCONNECTED], KEYS, NotConnected, True, "not a controller of ours"),
        ([CONNECTED, SILENT, DISCONNECTED], KEYS, NotConnected, False, "not a controller of ours"),
        ([CONNECTED, SILENT, DISCONNECTED], None, NotConnected, False, "not a controller of ours"),
        ([CONNECTED, DISCONNECTED], KEYS, NotConnected, False, "not a controller of ours"),
        ([(zmq.EVENT_CLOSED, 3)], KEYS, NotConnected, False, "no controller answers"),
    ],
)
def test_each_end_has_its_words(events, given, kind, certain, said) -> None:
    trouble = verdict(events, given)
    assert type(trouble.error) is kind
    assert trouble.certain is certain
    assert trouble.answered is (events[0] == CONNECTED)
    text = str(trouble.error)
    assert said in text
    assert URL in text
    assert "/x/client.json" in text
    assert KEYS.own.secret not in text


def test_success_is_no_trouble() -> None:
    handshake = Handshake(URL, Address((URL,), KEYS, "f"))
    assert handshake.see(*CONNECTED) is None
    assert handshake.see(zmq.EVENT_HANDSHAKE_SUCCEEDED, 0) is None
    assert handshake.succeeded


# ---------------------------------------------------------------- real sockets


@pytest.fixture
def attempts():
    """Let an edge try until a first connection is not to be hoped for; what is in the way."""
    context = zmq.Context()

    def run(*urls):
        poller = zmq.Poller()
        edge = Edge(context, lambda: Address(urls, KEYS, "f"), Decoder(m.ToClient), poller)
        now = 0.0
        edge.open(now)
        while not edge.hopeless(now):
            poller.poll(2500)  # more than any attempt may take
            if edge.lost(now):
                edge.open(now)
            now = max(now, edge.retry_at or 0.0)
            if edge.socket is None:
                edge.open(now)
        edge.close()
        return edge.trouble

    yield run
    context.term()


@pytest.fixture
def service():
    """A service on this host that is none of ours."""
    listening = []
    kept = []

    def start(reply):
        socket_ = socket.create_server(("127.0.0.1", 0))
        listening.append(socket_)

        def serve():
            while True:
                try:
                    connection, _ = socket_.accept()
                except OSError:
                    return
                kept.append(connection)
                if reply is not None:
                    connection.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        return f"tcp://127.0.0.1:{socket_.getsockname()[1]}"

    yield start
    for one in listening:
        one.shutdown(socket.SHUT_RDWR)
    for one in listening + kept:
        one.close()


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH_9.2\r\n" * 10, b"HTTP/1.0 400 Bad\r\n\r\n" + b"x" * 99, None])
def test_a_foreign_service_is_named(attempts, service, reply) -> None:
    url = service(reply)
    trouble = attempts(url)
    assert trouble.answered
    assert f"what listens at {url} (from f) is not a controller of ours" in str(trouble.error)


def test_nobody_is_named_too(attempts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    trouble = attempts(url)
    assert not trouble.answered
    assert url in str(trouble.error)
