"""Waiting for sockets: who is told only that there is something to look at must have looked once."""

from __future__ import annotations

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
