"""Who is let in: decided by a pure function, asked by libzmq, proven before anybody is told."""

from __future__ import annotations

import threading

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from ipkernel_ext.config import keys
from ipkernel_ext.errors import ParallelError
from ipkernel_ext.net import tcp
from ipkernel_ext.net.zap import Gatekeeper, answer, probe

KEY = bytes(range(32))
ROLES = {KEY: "client"}
GOOD = [b"1.0", b"id", b"domain", b"127.0.0.1", b"", b"CURVE", KEY]


def test_the_role_is_that_of_the_key() -> None:
    assert answer(ROLES, GOOD) == (b"200", "client")


@pytest.mark.parametrize("change", [(0, b"2.0"), (5, b"NULL"), (5, b"PLAIN"), (6, bytes(32)), (6, b""), (6, KEY[:-1])])
def test_all_else_is_refused(change) -> None:
    request = list(GOOD)
    request[change[0]] = change[1]
    assert answer(ROLES, request) == (b"400", "")
    assert answer(ROLES, GOOD[:-1]) == (b"400", "")
    assert answer(ROLES, [*GOOD, KEY]) == (b"400", "")


@given(st.lists(st.binary(max_size=40), max_size=9))
def test_no_request_is_a_surprise(request) -> None:
    assert answer(ROLES, request) == (b"400", "")


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(0)


def listen(context, pair):
    socket = tcp.listening_socket(context, pair)
    return socket, f"tcp://127.0.0.1:{tcp.bind(socket, '127.0.0.1', 0)}"


def test_a_guarded_socket_passes_the_probe_and_a_refused_address_is_known(context) -> None:
    cluster = keys.make()
    keeper = Gatekeeper(context, cluster.roles(), lambda: None)
    socket, url = listen(context, cluster.server)
    probe(url, cluster)
    assert list(keeper.refused) == ["127.0.0.1"]
    socket.close()
    keeper.close()
    assert keeper.failure is None


def test_an_unguarded_socket_fails_the_probe(context) -> None:
    cluster = keys.make()
    _, url = listen(context, cluster.server)
    with pytest.raises(ParallelError, match="an unknown key"):
        probe(url, cluster)


def test_a_handler_that_lets_nobody_in_fails_the_probe(context) -> None:
    cluster = keys.make()
    keeper = Gatekeeper(context, keys.make().roles(), lambda: None)
    socket, url = listen(context, cluster.server)
    with pytest.raises(ParallelError, match="the key of clients"):
        probe(url, cluster)
    socket.close()
    keeper.close()


def test_a_thread_that_fails_says_so_and_lets_nobody_in(context, monkeypatch) -> None:
    def broken(roles, request):
        raise RuntimeError("broken")

    monkeypatch.setattr("ipkernel_ext.net.zap.answer", broken)
    cluster = keys.make()
    ended = threading.Event()
    keeper = Gatekeeper(context, cluster.roles(), ended.set)
    socket, url = listen(context, cluster.server)
    with pytest.raises(ParallelError):
        probe(url, cluster)
    assert ended.wait(5)
    assert isinstance(keeper.failure, RuntimeError)
    socket.close()
    keeper.close()


@pytest.mark.parametrize(
    ("version", "curve", "said"), [((4, 3, 3), True, "4.3.4"), ((4, 3, 5), False, "without CURVE")]
)
def test_an_old_library_is_refused(monkeypatch, version, curve, said) -> None:
    monkeypatch.setattr(zmq, "zmq_version_info", lambda: version)
    monkeypatch.setattr(zmq, "has", lambda feature: curve)
    with pytest.raises(ParallelError, match=said):
        tcp.require_curve()
