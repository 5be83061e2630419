"""Waiting for sockets: who is told only that there is something to look at must have looked once."""

from __future__ import annotations

import os

import pytest
import zmq

from ipkernel_ext.net.sockets import Monitor, Poller, new_socket


def test_the_first_event_of_a_monitor_is_told(temporary_directory) -> None:
    url = f"ipc://{temporary_directory}/poller.sock"
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router, dealer = new_socket(context, zmq.ROUTER), new_socket(context, zmq.DEALER)
    monitor = Monitor(dealer, zmq.EVENT_DISCONNECTED)
    poller = Poller()
    try:
        router.bind(url)
        dealer.connect(url)
        poller.register(monitor.pair)
        assert poller.poll(0) == {}
        dealer.send(b"hello")
        assert router.recv_multipart()[-1] == b"hello"
        router.close(0)
        assert monitor.pair in poller.poll(5000)
        assert [event for event, _ in monitor.events()] == [zmq.EVENT_DISCONNECTED]
        assert poller.poll(0) == {}
    finally:
        monitor.close()
        dealer.close(0)
        router.close(0)
        context.term()


def test_what_had_come_before_it_was_waited_for_is_told_too() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    one, other = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    try:
        one.bind("inproc://x")
        other.connect("inproc://x")
        one.send(b"early")
        poller = Poller()
        poller.register(other)
        assert other in poller.poll(5000)
        assert other.recv() == b"early"
        poller.unregister(other)
        assert poller.poll(0) == {}
    finally:
        one.close(0)
        other.close(0)
        context.term()


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(0)


@pytest.fixture
def ends(context):
    """A ROUTER and a DEALER that are connected, and the DEALER's name."""
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    router.bind("inproc://test")
    dealer.connect("inproc://test")
    dealer.send(b"hello")
    name, _ = router.recv_multipart()
    return router, dealer, name


def test_a_message_that_came_before_the_socket_was_waited_for(ends):
    router, dealer, name = ends
    router.send_multipart([name, b"1"])
    poller = Poller()
    poller.register(dealer)
    assert dealer in poller.poll(10_000)


def test_a_message_whose_sign_was_taken_by_a_send(ends):
    router, dealer, name = ends
    poller = Poller()
    poller.register(dealer)
    poller.poll(0)
    for n in range(100):
        router.send_multipart([name, b"%d" % n])
        dealer.send(b"x")  # looks after the socket, and takes what its descriptor would have told
        assert dealer in poller.poll(10_000)
        assert dealer.recv() == b"%d" % n


def test_a_message_that_was_not_read_is_told_of_again(ends):
    router, dealer, name = ends
    poller = Poller()
    poller.register(dealer)
    router.send_multipart([name, b"1"])
    for _ in range(3):
        assert dealer in poller.poll(10_000)
    assert dealer.recv() == b"1"
    assert not poller.poll(0)


def test_descriptors_are_told_of_beside_sockets(ends):
    router, dealer, name = ends
    reader, writer = os.pipe()
    poller = Poller()
    poller.register(dealer)
    poller.register(reader)
    poller.register(reader)
    poller.poll(0)
    assert not poller.poll(0)
    os.write(writer, b"!")
    assert set(poller.poll(10_000)) == {reader}
    router.send_multipart([name, b"1"])
    assert set(poller.poll(10_000)) == {reader, dealer}
    os.close(writer)
    os.read(reader, 9)
    assert reader in poller.poll(10_000), "the end of a file is an event"
    poller.unregister(reader)
    os.close(reader)
    dealer.recv()
    assert not poller.poll(0)
    with pytest.raises(KeyError):
        poller.unregister(reader)


def test_what_a_monitor_has_to_say_before_and_after_it_was_first_read(context):
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    monitor = Monitor(dealer, zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED)
    poller = Poller()
    poller.register(monitor.pair)
    dealer.connect(f"tcp://127.0.0.1:{port}")
    seen = []
    for event in (zmq.EVENT_CONNECTED, zmq.EVENT_DISCONNECTED):
        while event not in seen:
            assert poller.poll(10_000)
            seen += [what for what, _ in monitor.events()]
        router.close(0)
    monitor.close()
