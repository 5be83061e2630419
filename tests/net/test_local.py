"""Batches over a unix socket: whole or not at all, in order, whatever their size, and nothing blocks."""

import os
import random
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipkernel_ext.errors import ProtocolError
from ipkernel_ext.net.doors import LocalDoor
from ipkernel_ext.net.local import AT_ONCE, CHUNK, DIRECT, MARK, Connection
from ipkernel_ext.net.sockets import Poller


def pair():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Connection(one), Connection(other)


@pytest.fixture
def ends():
    made = pair()
    yield made
    for end in made:
        if end.fileno() >= 0:
            end.close()


def carry(source, target, count):
    """So many batches, though the kernel takes a little at a time."""
    batches = []
    while len(batches) < count:
        source.flush()
        batch = target.receive()
        if batch is not None:
            batches.append([bytes(part) for part in batch])
        assert not target.ended
    return batches


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0, 1, 40, 4096, DIRECT - 1, DIRECT, 200_000]), min_size=1, max_size=5), max_size=5
    )
)
def test_batches_come_as_they_were_sent(sizes):
    source, target = pair()
    batches = [[os.urandom(size) for size in batch] for batch in sizes]
    for batch in batches:
        source.send(batch)
    assert carry(source, target, len(batches)) == batches
    assert target.receive() is None and not target.ended
    source.close()
    target.close()


def test_bytes_may_come_one_by_one(ends):
    source, target = ends
    stream, other = pair()
    batches = [[b"head", b"", b"x" * 300], [b"next"], [b"h", os.urandom(2 * DIRECT)]]
    for batch in batches:
        source.send(batch)
    content = b""
    while len(content) < sum(8 + 8 * len(b) + sum(map(len, b)) for b in batches):
        content += target._socket.recv(CHUNK)
    came = []
    at = 0
    draw = random.Random(1)
    while len(came) < 3:
        step = draw.choice((1, 1, 2, 7, 5000))
        stream._socket.send(content[at : at + step])
        at += step
        batch = other.receive()
        came += [] if batch is None else [[bytes(part) for part in batch]]
    assert came == batches
    stream.close()
    other.close()


def test_what_comes_can_be_written_to_and_the_first_part_is_bytes(ends):
    source, target = ends
    source.send([b"head", b"small", bytes(DIRECT)])
    (batch,) = [target.receive()]
    assert type(batch[0]) is bytes
    assert [part.readonly for part in batch[1:]] == [False, False]


def test_many_parts(ends):
    source, target = ends
    batch = [str(n).encode() for n in range(3 * AT_ONCE)]
    source.send(batch)
    assert carry(source, target, 1) == [batch]


def test_nothing_blocks_and_the_rest_follows(ends):
    source, target = ends
    batches = [[b"head", os.urandom(3_000_000)], [b"behind"]]
    for batch in batches:
        source.send(batch)
    assert source.waits
    assert carry(source, target, 2) == batches
    assert not source.waits


def test_closing_waits_for_what_has_not_left(ends):
    source, target = ends
    source.send([b"head", bytes(500_000)])
    assert source.waits
    source.close(linger=10)
    assert target.receive() is None and target.ended, "a part of it came, and no more will"


def test_an_end_is_noticed_by_who_sends_and_by_who_receives(ends):
    source, target = ends
    target.close()
    source.send([b"x"])
    assert source.receive() is None
    assert source.ended
    source.send([b"y"])


def test_what_was_sent_before_the_end_comes(ends):
    source, target = ends
    source.send([b"last"])
    source.close()
    assert target.receive() == [b"last"]
    assert target.receive() is None and not target.ended, "the read before took all there was"
    assert target.receive() is None and target.ended


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.0\r\n", MARK + struct.pack("<I", 0), MARK + struct.pack("<I", 2**31), b"\0" * 64]
)
def test_what_is_of_another_protocol_ends_it(ends, garbage):
    source, target = ends
    source._socket.send(garbage)
    with pytest.raises(ProtocolError):
        target.receive()
    assert target.ended and target.receive() is None


def test_a_size_that_is_claimed_takes_no_memory(ends):
    source, target = ends
    source._socket.send(MARK + struct.pack("<IQ", 1, 2**50) + b"x" * 100)
    assert target.receive() is None
    assert len(target._part) <= 2 * CHUNK


def test_a_poller_tells_when_more_can_be_sent(ends):
    source, target = ends
    poller = Poller()
    poller.register(source)
    source.send([bytes(2_000_000)])
    batch = None
    while batch is None:
        poller.poll(1000)
        batch = target.receive()
    assert not source.waits
    assert poller.poll(0) == {}, "it is not woken for that any more"
    poller.unregister(source)


@pytest.fixture
def door(tmp_path):
    strangers = []
    made = LocalDoor(tmp_path / "socket", lambda what, where: strangers.append(what))
    made.strangers = strangers
    made.poller = Poller()
    made.poller.register(made.sources[0])
    made.bind()
    yield made
    made.close(0)


def heard(door):
    """What has come, by who sent it."""
    door.see(door.poller.poll(1000))
    found = []
    while (received := door.receive()) is not None:
        found.append(received)
    return found


def test_a_door_knows_who_is_there(door, tmp_path):
    client = Connection.to(str(tmp_path / "socket"))
    client.send([b"hello"])
    came = heard(door) or heard(door)
    ((peer, parts),) = came
    assert parts == [b"hello"] and door.pids[peer] == os.getpid()
    assert door.send(peer, [b"welcome"])
    assert client.receive() == [b"welcome"]
    client.close()
    assert heard(door) == []
    assert door.leaving == [peer] and not door.pids
    assert not door.send(peer, [b"x"])


def test_a_door_sends_the_rest_when_it_can(door, tmp_path):
    client = Connection.to(str(tmp_path / "socket"))
    client.send([b"hello"])
    ((peer, _),) = heard(door) or heard(door)
    content = os.urandom(2_000_000)
    door.send(peer, [content])
    door.send(peer, [b"next"])
    came = []
    while len(came) < 2:
        door.see(door.poller.poll(1000))
        batch = client.receive()
        came += [] if batch is None else [bytes(batch[0])]
    assert came == [content, b"next"]
    client.close()


def test_a_door_serves_each_in_turn_and_says_when_there_is_more(door, tmp_path):
    clients = [Connection.to(str(tmp_path / "socket")) for _ in range(2)]
    for client in clients:
        for number in range(3):
            client.send([str(number).encode()])
    door.see(door.poller.poll(1000))
    door.see(door.poller.poll(1000))
    order = [door.receive()[0] for _ in range(4)]
    assert order[0] == order[2] != order[1] == order[3]
    assert door.busy
    for client in clients:
        client.close()


def test_strangers_are_told_of_and_their_garbage_ends_them(door, tmp_path):
    silent = Connection.to(str(tmp_path / "socket"))
    silent.close()
    heard(door), heard(door)
    assert door.strangers == ["no message of ours"]
    noisy = Connection.to(str(tmp_path / "socket"))
    noisy._socket.send(b"GET / HTTP/1.0\r\n\r\n")
    ((peer, parts),) = heard(door) or heard(door)
    assert parts is None
    assert heard(door) == [] and door.leaving == [peer]
    noisy.close()


def test_a_door_is_found_again_after_its_socket_was_removed(door, tmp_path):
    (tmp_path / "socket").unlink()
    door.bind()
    client = Connection.to(str(tmp_path / "socket"))
    client.send([b"hello"])
    assert len(heard(door) or heard(door)) == 1
    client.close()
