"""Large frames to hosts: what the controller has couriers do, and couriers among themselves, without a cluster."""

import gc
import os
import time
from pathlib import Path

import pytest
import zmq

from ipkernel_ext.blobs import Blob, Home, Pool
from ipkernel_ext.config import keys, shared
from ipkernel_ext.config.connection import Address
from ipkernel_ext.core import messages as m
from ipkernel_ext.net.courier import PATIENCE, Courier
from ipkernel_ext.net.couriers import PIECE, STALL, Couriers, parents
from ipkernel_ext.net.sockets import Poller
from ipkernel_ext.net.zap import outcome

ABOVE = 1000
REFERENCE = 40  # bytes
TASK = m.Task(m.TaskId("ann", 1), 1, m.Push(["x"]))


def frame_of(size):
    """As one that came over a connection."""
    return memoryview(bytearray(os.urandom(size)))


class Hosts:
    """Couriers and engines of some hosts, and a controller that has no sockets."""

    def __init__(self, directory, count, engines):
        self.now = 0.0
        self.couriers = Couriers(ABOVE)
        self.contexts = []
        self.poller = Poller()
        self.keys = keys.make()
        self.homes, self.there = {}, {}
        self.got = {}  # what engines were sent
        self.deaf = set()  # control connections on which nothing arrives
        for host in range(count):
            place = directory / f"host{host}"
            shared.make(place, Path("/away"), os.urandom(16))
            home = self.homes[host] = Home(place)
            address = Address((f"tcp://127.0.0.{1 + host}:9",), self.keys.of("engine"), "")
            for engine in range(engines):
                name = f"{host}.{engine}"
                self.contexts.append(zmq.Context())
                self.there[f"control {name}"] = Courier(home, self.contexts[-1], self.poller, address)
                self.couriers.join(f"control {name}", home.proof, True)
                self.couriers.join(f"tasks {name}", home.proof, False)

    def tasks(self):
        return [peer.replace("control", "tasks") for peer in self.there]

    def push(self, *frames):
        """The same work to all engines."""
        self.send({peer: [(TASK, frames)] for peer in self.tasks()})

    def send(self, out):
        """What the controller has to send, and all that comes of it at once."""
        while out := self.couriers.route(out, self.now):
            more = {}
            for peer, entries in out.items():
                refer = self.couriers.refer(peer)
                if peer not in self.there:
                    self.got.setdefault(peer, []).extend([refer(frame) for _, frames in entries for frame in frames])
                elif peer not in self.deaf:
                    for message, frames in entries:
                        self.hear(peer, self.there[peer].receive(message, frames, self.now), more)
            out = more

    def hear(self, peer, words, out):
        for word in words:
            for to, entries in self.couriers.receive(peer, word, self.now).items():
                out.setdefault(to, []).extend(entries)

    def turn(self):
        """Let couriers hear each other."""
        self.poller.poll(10)
        out = {}
        for peer, courier in self.there.items():
            if peer not in self.deaf:
                self.hear(peer, courier.turn(self.now), out)
        self.send(out)

    def until(self, done):
        end = time.monotonic() + 10
        while not done():
            assert time.monotonic() < end, "it does not come"
            self.turn()

    def later(self, seconds):
        self.now += seconds
        self.send(self.couriers.tick(self.now))
        self.turn()

    def content(self, peer):
        """What an engine has got."""
        home = self.homes[int(peer.split()[1].split(".")[0])]
        return [bytes(home.fetch(frame) if len(frame) == REFERENCE else frame) for frame in self.got[peer]]

    def referred(self):
        """Engines that got nothing but references."""
        return sorted(peer for peer, frames in self.got.items() if all(len(frame) == REFERENCE for frame in frames))

    def leave(self, peer):
        """A courier ends."""
        self.there.pop(peer).close()
        self.send(self.couriers.leave(peer, self.now))

    def close(self):
        for courier in self.there.values():
            courier.close()
        for context in self.contexts:
            context.term()


@pytest.fixture
def hosts(tmp_path):
    made = []

    def make(count, engines=2):
        made.append(Hosts(tmp_path, count, engines))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_many_hosts_are_a_chain_or_a_tree():
    assert parents(4) == [None, 0, 1, 2]
    many = parents(1000)
    depth = [0] * len(many)
    for host, parent in enumerate(many[1:], 1):
        depth[host] = depth[parent] + 1
    assert max(depth) < 10
    assert max(map(many.count, range(1000))) == 2


def test_a_frame_for_several_engines_is_taken_once(hosts):
    one = hosts(1, 3)
    frame = frame_of(3 * PIECE + 5)
    one.push(frame)
    assert one.referred() == one.tasks()
    assert all(one.content(peer) == [frame] for peer in one.tasks())
    assert len({one.got[peer][0] for peer in one.tasks()}) == 1


def test_what_waits_for_a_frame_keeps_its_order(hosts):
    one = hosts(1)
    one.deaf.add("control 0.0")
    one.push(frame_of(ABOVE))
    one.push(b"later")
    assert not one.got
    one.later(STALL)
    assert [len(frames) for frames in one.got.values()] == [2, 2]
    assert all(one.content(peer)[1] == b"later" for peer in one.tasks())
    one.got.clear()
    one.push(frame := frame_of(ABOVE))
    assert one.referred() == one.tasks(), "by another courier"
    del frame
    gc.collect()
    one.push(b"x")
    assert not any(one.couriers.sizes().values())


def test_what_only_one_is_to_get_goes_to_it_at_once(hosts):
    one = hosts(1)
    frame = frame_of(ABOVE)
    one.send({"tasks 0.1": [(TASK, [frame])]})
    assert one.got == {"tasks 0.1": [frame]}


def test_a_frame_that_is_there_is_not_taken_again_and_goes_when_nobody_has_it(hosts):
    one = hosts(1)
    frame = frame_of(ABOVE)
    one.push(frame)
    one.send({"tasks 0.1": [(TASK, [frame])]})
    assert len(set(one.got["tasks 0.1"])) == 1
    reference = one.got.pop("tasks 0.1")[0]
    assert isinstance(one.homes[0].open(reference), Blob)
    assert one.couriers.sizes()["there"] == 1
    del frame
    gc.collect()
    one.send({"tasks 0.0": [(TASK, [b"x"])]})
    assert not any(one.couriers.sizes().values())
    assert not isinstance(one.homes[0].open(reference), Blob)


@pytest.mark.parametrize("count", [2, 4])
def test_hosts_get_a_frame_from_each_other(hosts, count):
    several = hosts(count)
    frame = frame_of(20 * PIECE + 1)
    several.push(frame)
    several.until(lambda: len(several.got) == 2 * count)
    assert several.referred() == several.tasks()
    assert all(several.content(peer) == [frame] for peer in several.tasks())


def test_a_host_that_is_not_reached_by_others_gets_a_frame_from_the_controller(hosts, monkeypatch):
    key = keys.make().server.public
    monkeypatch.setattr(Courier, "_pass_on", lambda courier: m.PassesOn("tcp://127.0.0.1:1", key))
    several = hosts(2)
    frames = [frame_of(20 * PIECE + 1) for _ in range(2)]
    several.push(frames[0])
    several.turn()
    assert len(several.got) == 2
    several.later(PATIENCE)
    several.until(lambda: len(several.got) == 4)
    several.push(frames[1])
    assert several.referred() == several.tasks()
    assert all(several.content(peer) == frames for peer in several.tasks()), "the second at once"


def test_hosts_whose_courier_passes_nothing_on_do_with_the_controller(hosts, monkeypatch):
    monkeypatch.setattr(Courier, "_pass_on", lambda courier: m.PassesOn())
    several = hosts(3)
    frame = frame_of(20 * PIECE + 1)
    several.push(frame)
    assert several.referred() == several.tasks()
    assert all(several.content(peer) == [frame] for peer in several.tasks())


def test_no_host_listens_where_none_is_to(hosts):
    several = hosts(3)
    several.couriers._pass_on = False
    several.push(frame := frame_of(20 * PIECE + 1))
    assert several.referred() == several.tasks()
    assert all(several.content(peer) == [frame] for peer in several.tasks())
    assert not several.couriers._passes_on


def test_a_source_that_ends_half_way_is_not_waited_for(hosts):
    several = hosts(2, 1)
    frame = frame_of(20 * PIECE + 1)
    several.deaf.add("control 1.0")  # it is told of its source, and does not hear of it yet
    several.push(frame)
    several.deaf.clear()
    passes = several.couriers._passes_on["control 0.0"]
    words = several.there["control 1.0"].receive(
        m.TakeFrame(2, len(frame), source=m.Source(passes.url, passes.key, 1)), (), several.now
    )
    assert not words
    several.leave("control 0.0")
    several.later(PATIENCE)
    several.until(lambda: len(several.got) == 2)
    assert several.content("tasks 1.0") == [frame]


def test_another_engine_takes_what_a_courier_that_ends_has_not(hosts):
    one = hosts(1)
    frame = frame_of(20 * PIECE + 1)
    one.deaf.add("control 0.0")
    one.push(frame)
    assert not one.got
    one.leave("control 0.0")
    assert one.referred() == ["tasks 0.0", "tasks 0.1"]
    assert all(one.content(peer) == [frame] for peer in one.got)


def test_another_engine_keeps_what_a_courier_that_ends_has_taken(hosts):
    one = hosts(1)
    frame = frame_of(ABOVE)
    one.push(frame)
    one.leave("control 0.0")
    reference = one.got["tasks 0.1"][0]
    assert one.there["control 0.1"].next_deadline() is not None, "it sweeps, in time"
    assert isinstance(one.homes[0].open(reference), Blob)
    one.send({"tasks 0.1": [(TASK, [frame])]})
    assert one.got["tasks 0.1"] == [reference, reference]
    del frame
    gc.collect()
    one.push(b"x")
    assert not any(one.couriers.sizes().values())


def test_where_no_courier_is_left_engines_get_the_bytes(hosts):
    one = hosts(1, 1)
    other = frame_of(ABOVE)
    one.couriers.join("tasks more", one.homes[0].proof, False)
    one.deaf.add("control 0.0")
    one.send({peer: [(TASK, [other])] for peer in ("tasks 0.0", "tasks more")})
    one.leave("control 0.0")
    assert one.got == {"tasks 0.0": [other], "tasks more": [other]}


def test_where_there_is_no_room_engines_get_the_bytes(hosts, monkeypatch):
    monkeypatch.setattr(Pool, "draft", lambda pool, size: None)
    one = hosts(1)
    frame = frame_of(ABOVE)
    one.push(frame)
    one.push(frame)
    assert one.got == {peer: [frame, frame] for peer in one.tasks()}


def test_a_piece_that_cannot_be_written_is_no_end(hosts, monkeypatch):
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    one = hosts(1)
    frame = frame_of(ABOVE)
    one.push(frame)
    assert one.got == {peer: [frame] for peer in one.tasks()}


def test_an_engine_that_leaves_is_sent_nothing(hosts):
    one = hosts(1, 3)
    one.deaf.add("control 0.0")
    one.push(frame_of(ABOVE))
    one.send(one.couriers.leave("tasks 0.1", one.now))
    one.later(STALL)
    assert sorted(one.got) == ["tasks 0.0", "tasks 0.2"]


def test_what_others_say_than_the_courier_is_nothing(hosts):
    one = hosts(1)
    one.deaf.add("control 0.0")
    one.push(frame_of(ABOVE))
    for word in (m.PieceWanted(1, 0), m.FrameTaken(1, b"elsewhere"), m.FrameTaken(9), m.PiecesCome(1)):
        assert not one.couriers.receive("control 0.1", word, one.now)
        assert not one.couriers.receive("a stranger", word, one.now)
    assert not one.couriers.receive("a stranger", m.PassesOn("tcp://1.2.3.4:5", "key"), one.now)
    assert not one.got


@pytest.mark.parametrize("reference", [b"", b"elsewhere", b"0" * REFERENCE])
def test_a_reference_that_is_none_is_sent_to_nobody(hosts, reference):
    one = hosts(1)
    one.deaf.add("control 0.0")
    one.push(frame := frame_of(ABOVE))
    one.send(one.couriers.receive("control 0.0", m.FrameTaken(1, reference), one.now))
    assert one.got == {peer: [frame] for peer in one.tasks()}


def test_only_engines_of_this_cluster_are_let_in(hosts):
    several = hosts(2, 1)
    several.push(frame_of(ABOVE))
    passes = several.couriers._passes_on["control 0.0"]
    for own, happens in (
        (several.keys.engine, zmq.EVENT_HANDSHAKE_SUCCEEDED),
        (several.keys.client, zmq.EVENT_HANDSHAKE_FAILED_AUTH),
        (keys.make().engine, zmq.EVENT_HANDSHAKE_FAILED_AUTH),
    ):
        assert outcome(passes.url, keys.Keys(passes.key, own)) == happens


@pytest.mark.parametrize("begin", [1, PIECE + 1, 2 * PIECE, 2**62])
def test_what_is_no_piece_is_not_given(hosts, begin):
    one = hosts(1, 1)
    taking = one.there["control 0.0"]
    words = taking.receive(m.TakeFrame(1, 2 * PIECE), (), 0.0)
    for word in words:
        taking.receive(m.Piece(1, word.begin), [bytes(PIECE)], 0.0)
    taking._on_wanted(b"somebody", 1, begin)
    assert not any(each.wanted for each in taking._taking.values())
