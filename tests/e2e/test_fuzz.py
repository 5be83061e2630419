"""Any bytes on any socket of a controller: refused, counted, logged once, and it goes on as if nothing had been."""

import contextlib
import os
import socket
import time

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipkernel_ext import RemoteController
from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.errors import ProtocolError
from tests.e2e.test_security import RawPeer, cluster, endpoint
from tests.e2e.test_tcp import GREETING, HUGE
from tests.fuzzing.mutation import DECODERS, Choices, garbled, message

__all__ = ["cluster"]

GROWTH = 16 * 2**20  # bytes of memory that a test may cost the controller
PATIENCE = 20  # seconds

fuzz = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

PLAIN = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
READY = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03REQ"
FRAMES = st.lists(st.tuples(st.integers(0, 7), st.binary(max_size=300)), max_size=5)
BYTES = st.one_of(
    st.binary(max_size=2000),
    st.binary(max_size=200).map(lambda tail: GREETING + tail),
    st.binary(max_size=200).map(lambda tail: GREETING[:11] + tail),
    st.binary(max_size=200).map(lambda tail: GREETING + HUGE + tail),
    FRAMES.map(lambda frames: GREETING + b"".join(framed(*frame) for frame in frames)),
    FRAMES.map(lambda frames: PLAIN + b"".join(framed(*frame) for frame in frames)),
    FRAMES.map(lambda frames: PLAIN + READY + b"".join(framed(*frame) for frame in frames)),
)


def framed(flags, body):
    """A frame of ZMTP, with the length that it has or a longer one."""
    if flags & 2:
        return bytes([flags]) + (len(body) + flags % 2 * 2**33).to_bytes(8, "big") + body
    return bytes([flags]) + bytes([min(255, len(body))]) + body


@pytest.fixture
def watched(cluster):
    """A controller whose memory, refusals and log are looked at in the end, and a client of its own."""
    cluster.start()
    process = psutil.Process(cluster.controller.pid)
    with RemoteController() as rc:
        memory = process.memory_info().rss
        cluster.rc = rc
        yield cluster
        assert rc.ids == []
        assert process.memory_info().rss - memory < GROWTH
    cluster.controller.terminate()
    cluster.controller.wait(10)
    log = cluster.controller.stderr.read().splitlines()
    assert 0 < len(log) < 10
    assert not any("Traceback" in line for line in log)


def refused(rc):
    return rc.status()["controller"]["refused"]


def until_refused(rc, count):
    given_up = time.monotonic() + PATIENCE
    while refused(rc) < count:
        assert time.monotonic() < given_up


@pytest.mark.fault("any bytes before a key was shown")
def test_any_bytes_on_the_port_before_a_key_was_shown(watched):
    sent = 0

    @fuzz
    @given(BYTES)
    def any_bytes(data):
        nonlocal sent
        sent += 1
        with socket.create_connection(endpoint(watched)) as stranger, contextlib.suppress(ConnectionError):
            stranger.sendall(data)

    any_bytes()
    until_refused(watched.rc, sent)
    assert refused(watched.rc) == sent


@pytest.mark.fault("any bytes before a key was shown")
def test_any_bytes_on_the_unix_socket(watched):
    path = str(watched.place.socket)
    sent = 0

    @fuzz
    @given(BYTES)
    def any_bytes(data):
        nonlocal sent
        sent += 1
        with socket.socket(socket.AF_UNIX) as stranger, contextlib.suppress(ConnectionError):
            stranger.connect(path)
            stranger.sendall(data)

    any_bytes()
    until_refused(watched.rc, sent)  # what happens to be several messages counts as many


@pytest.mark.fault("any messages of somebody who was let in")
@pytest.mark.parametrize("way", ["unix", "client", "engine"])
def test_any_batch_of_somebody_who_was_let_in(watched, way):
    """Bytes, changed messages and odd parts; then the same connection still says hello."""
    file = watched.file("engine" if way == "engine" else "client")
    url, given_keys = (file.url, None) if way == "unix" else (file.tcp[0], file.keys)
    wrong = 0

    @fuzz
    @given(st.lists(st.one_of(st.binary(max_size=300), st.binary(max_size=60).map(changed)), min_size=1, max_size=3))
    def any_batch(parts):
        nonlocal wrong
        try:
            DECODERS[m.FromPeer].decode(parts)
        except ProtocolError:
            wrong += 1
            peer.say_parts(parts)

    with RawPeer(url, given_keys) as peer:
        any_batch()
        peer.say_parts([os.urandom(10)] * 1000)
        until_refused(watched.rc, wrong + 1)
        assert wrong
        hello = m.HelloClient("fuzz", m.PROTOCOL, "3", "h", 1, [])
        if way == "engine":
            hello = m.HelloEngine(m.PROTOCOL, m.EngineRecord("fuzz", "h", 1, "3"), 1, m.Inventory())
        peer.say(hello)
        welcome, decoder = m.WelcomeClient, wire.Decoder(m.ToClient)
        if way == "engine":
            welcome, decoder = m.WelcomeEngine, wire.Decoder(m.ToEngine)
        heard = []
        while not any(isinstance(message, welcome) for message in heard):
            heard = peer.hear(decoder)
            assert heard
        if way == "engine":
            watched.rc.wait_for_engines(1, PATIENCE)
        peer.say(m.Goodbye())
    while watched.rc.ids:
        pass


def changed(data):
    choices = Choices(data)
    return garbled(choices, message(choices, m.FromPeer))


def test_there_is_somebody_to_be_refused(watched):
    """The bytes above are near enough to what the controller takes: unchanged they are taken."""
    with RawPeer(watched.file("client").url, None) as peer:
        peer.say(m.HelloClient("fuzz", m.PROTOCOL, "3", "h", 1, []))
        assert peer.hear(wire.Decoder(m.ToClient))
    assert refused(watched.rc) == 0
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(watched.place.socket))
    until_refused(watched.rc, 1)
