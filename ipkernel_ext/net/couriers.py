"""Large frames to hosts without a controller: once over the network, then shared memory there.

Engines that share memory are on one host; one of them, the *courier*, takes what several engines are to get,
piece by piece as it asks for them. Of a frame that goes to several hosts the first courier gets the pieces from
the controller, the next ones each from one before them (``parents``), while they come; from the controller too
where that one does not answer. Meanwhile what was to be sent to the engines waits here, in its order; then they
are sent a reference. Nothing is lost by that: to the core it is a connection that is slow, and if a courier
ends, has no room, or stands still, the engines of its host are sent the bytes themselves.

    under way ──▶ there: engines are sent a reference, until nobody has the frame any more
        └───────▶ direct: engines are sent the bytes

Knows no socket, and nothing of what frames are for.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ipkernel_ext.blobs import Lost, plain, refers_to
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.effects import Peer
from ipkernel_ext.core.wire import Entry, Frame

PIECE = 2**18  # bytes
STALL = 5.0  # seconds after which a courier of which nothing is heard counts as standing still
CHAIN = 16  # hosts of one chain; with more each passes a frame on to two

Out = dict[Peer, list[Entry]]
Word = m.PieceWanted | m.PiecesCome | m.PassesOn | m.FrameTaken


def parents(hosts: int) -> list[int | None]:
    """From which of the others each of so many hosts gets a frame; None: from the controller.

    A chain moves everything in the time of one copy and of a piece more for each host. Many hosts are a tree,
    which takes the time of two copies, and of a piece for each of its levels.
    """
    children = 1 if hosts <= CHAIN else 2
    return [None if host == 0 else (host - 1) // children for host in range(hosts)]


class Transfer:
    """A frame on its way to a host, or there."""

    def __init__(self, number: int, frame: Frame, courier: Peer, now: float) -> None:
        self.number = number
        self.size = len(frame)
        self.frame: Frame | None = frame  # while it is under way
        self.bytes = memoryview(plain(frame)).cast("B")
        self.courier = courier
        self.heard = now  # when its courier last said something
        self.reference = b""


class Host:
    """Engines that share memory."""

    def __init__(self) -> None:
        self.engines: set[Peer] = set()  # their task connections
        self.couriers: list[Peer] = []  # their control connections
        self.transfers: dict[int, Transfer] = {}  # by the id of the frame, while that lives


class Couriers:
    """Who takes what to which host.

    Parameters
    ----------
    above : int
        Bytes of the smallest frame that takes this way.
    pass_on : bool
        Whether hosts may get frames from each other.
    """

    def __init__(self, above: int = 2**18, pass_on: bool = True) -> None:
        self._above = above
        self._pass_on = pass_on
        self._hosts: dict[bytes, Host] = {}  # by what proves that their memory is the same
        self._of: dict[Peer, Host] = {}
        self._waiting: Out = {}  # what is to be sent once frames are where they are to be
        self._under_way: dict[int, tuple[Host, Transfer]] = {}
        self._there: dict[int, tuple[Host, Transfer]] = {}
        self._numbers = itertools.count(1)
        self._gone: deque[tuple[Peer, int]] = deque()  # frames that nobody has any more; by finalizers
        self._passes_on: dict[Peer, m.PassesOn] = {}  # couriers of which that is known
        self._asked: dict[Peer, list[tuple[Transfer, Transfer]]] = {}  # who is to pass what on to whom, once it is

    def join(self, peer: Peer, proof: bytes, controls: bool) -> None:
        """A connection of an engine: its control connection, or that for tasks."""
        host = self._of[peer] = self._hosts.setdefault(proof, Host())
        if not controls:
            host.engines.add(peer)
        elif peer not in host.couriers:
            host.couriers.append(peer)

    def leave(self, peer: Peer, now: float) -> Out:
        """A connection has ended; what there is to be sent now."""
        self._waiting.pop(peer, None)
        host = self._of.pop(peer, None)
        if host is None:
            return {}
        host.engines.discard(peer)
        out: Out = {}
        if peer in host.couriers:
            host.couriers.remove(peer)
            self._passes_on.pop(peer, None)
            for _, child in self._asked.pop(peer, ()):
                if child.frame is not None:
                    _merge(out, self._take(child))
            for transfer in [t for t in host.transfers.values() if t.courier == peer]:
                _merge(out, self._replace(host, transfer, now))
        if not host.engines and not host.couriers:
            self._hosts = {proof: other for proof, other in self._hosts.items() if other is not host}
        return out

    def _replace(self, host: Host, transfer: Transfer, now: float) -> Out:
        """Another engine is the courier of a frame from now on."""
        if not transfer.reference and transfer.frame is None:
            return {}
        if not host.couriers:
            return self._go_direct(host, transfer)
        transfer.courier, transfer.heard = host.couriers[0], now
        return self._take(transfer)

    def _go_direct(self, host: Host, transfer: Transfer) -> Out:
        """Engines there get the bytes of a frame themselves."""
        transfer.reference = b""
        self._there.pop(transfer.number, None)
        return self._arrived(host, transfer)

    def _arrived(self, host: Host, transfer: Transfer) -> Out:
        """A frame is not under way any more: what has waited for it may go, if it waits for nothing else."""
        self._under_way.pop(transfer.number, None)
        transfer.frame = None
        transfer.bytes = memoryview(b"")
        return {peer: self._waiting.pop(peer) for peer in host.engines if peer in self._waiting}

    # ------------------------------------------------------------ out

    def route(self, out: Out, now: float) -> Out:
        """What may be sent now, of all that is to be sent, with what couriers are told; the rest waits here."""
        if not self._hosts:
            return out
        going: Out = {}
        for frame, hosts in self._spread(out):
            _merge(going, self._begin(frame, hosts, now))
        for peer, entries in out.items():
            host = self._of.get(peer)
            if host is None or peer not in host.engines:
                going.setdefault(peer, []).extend(entries)
            elif peer in self._waiting or any(_is_under_way(host, frame) for frame in self._large(entries)):
                self._waiting.setdefault(peer, []).extend(entries)
            else:
                going[peer] = entries
        while self._gone:
            courier, number = self._gone.popleft()
            self._there.pop(number, None)
            if courier in self._of:
                going.setdefault(courier, []).append((m.ReleaseFrame(number), ()))
        return going

    def refer(self, peer: Peer) -> Callable[[Frame], Frame]:
        """What makes the frames for a peer: bytes, or references."""
        host = self._of.get(peer)
        if host is None or not host.transfers:
            return plain
        transfers: Mapping[int, Transfer] = host.transfers

        def made(frame: Frame) -> Frame:
            transfer = transfers.get(id(frame))
            return plain(frame) if transfer is None or not transfer.reference else transfer.reference

        return made

    def _large(self, entries: Iterable[Entry]) -> Iterator[Frame]:
        return (frame for _, frames in entries for frame in frames if len(frame) >= self._above)

    def _spread(self, out: Out) -> Iterator[tuple[Frame, list[Host]]]:
        """Large frames that several engines are to get, and the hosts to which they are to be taken."""
        hosts: dict[int, tuple[Frame, list[Host]]] = {}
        for peer, entries in out.items():
            host = self._of.get(peer)
            if host is not None and peer in host.engines:
                for frame in self._large(entries):
                    hosts.setdefault(id(frame), (frame, []))[1].append(host)
        for frame, engines in hosts.values():
            if len(engines) > 1:
                there = dict.fromkeys(host for host in engines if id(frame) not in host.transfers and host.couriers)
                yield frame, list(there)

    def _begin(self, frame: Frame, hosts: Sequence[Host], now: float) -> Out:
        """Have a frame taken to hosts; what couriers are told."""
        begun: list[Transfer] = []
        out: Out = {}
        if isinstance(frame, Lost):
            return out
        sources = parents(len(hosts)) if self._pass_on else [None] * len(hosts)
        for host, parent in zip(hosts, sources, strict=True):
            transfer = Transfer(next(self._numbers), frame, host.couriers[0], now)
            try:
                weakref.finalize(frame, self._on_gone, host, id(frame)).atexit = False
            except TypeError:
                return out  # nobody can know when it is not needed any more
            host.transfers[id(frame)] = transfer
            self._under_way[transfer.number] = host, transfer
            begun.append(transfer)
            if parent is None:
                _merge(out, self._take(transfer))
            else:
                _merge(out, self._take_from(begun[parent], transfer))
        return out

    def _take_from(self, parent: Transfer, child: Transfer) -> Out:
        """Have a courier take a frame from another one, which is asked first whether it passes it on."""
        if parent.courier in self._passes_on:
            return self._take(child, self._source(parent))
        asked = self._asked.setdefault(parent.courier, [])
        asked.append((parent, child))
        return {parent.courier: [(m.PassOn(), ())]} if len(asked) == 1 else {}

    def _source(self, parent: Transfer) -> m.Source | None:
        found = self._passes_on.get(parent.courier)
        return m.Source(found.url, found.key, parent.number) if found is not None and found.url else None

    @staticmethod
    def _take(transfer: Transfer, source: m.Source | None = None) -> Out:
        told = m.TakeFrame(transfer.number, transfer.size, transfer.reference, source)
        return {transfer.courier: [(told, ())]}

    def _on_gone(self, host: Host, id: int) -> None:
        transfer = host.transfers.pop(id)
        if transfer.reference:
            self._gone.append((transfer.courier, transfer.number))

    # ------------------------------------------------------------ in

    def receive(self, peer: Peer, message: Word, now: float) -> Out:
        """A courier's word; what there is to be sent now. What others say is nothing."""
        if isinstance(message, m.PassesOn):
            return self._on_passes_on(peer, message)
        number = message.number
        host, transfer = self._under_way.get(number) or self._there.get(number) or (None, None)
        if host is None or transfer is None or transfer.courier != peer:
            return {}
        transfer.heard = now
        match message:
            case m.PieceWanted(_, begin) if transfer.frame is not None:
                return {peer: [(m.Piece(number, begin), (transfer.bytes[begin : begin + PIECE],))]}
            case m.FrameTaken(_, reference) if not refers_to(reference, transfer.size):
                return self._go_direct(host, transfer)
            case m.FrameTaken(_, reference) if transfer.frame is not None:
                transfer.reference = reference
                self._there[number] = host, transfer
                return self._arrived(host, transfer)
        return {}

    def _on_passes_on(self, peer: Peer, message: m.PassesOn) -> Out:
        out: Out = {}
        if peer in self._of:
            self._passes_on[peer] = message
            for parent, child in self._asked.pop(peer, ()):
                if child.frame is not None:
                    _merge(out, self._take(child, self._source(parent)))
        return out

    def next_deadline(self) -> float | None:
        """When ``tick`` is wanted, or None."""
        return min((transfer.heard + STALL for _, transfer in self._under_way.values()), default=None)

    def tick(self, now: float) -> Out:
        """Frames whose courier stands still go another way; what there is to be sent now."""
        out: Out = {}
        for host, transfer in list(self._under_way.values()):
            if now >= transfer.heard + STALL:
                if transfer.courier in host.couriers:  # another one is asked next time
                    host.couriers.remove(transfer.courier)
                    host.couriers.append(transfer.courier)
                _merge(out, {transfer.courier: [(m.ReleaseFrame(transfer.number), ())]})
                _merge(out, self._go_direct(host, transfer))
        return out

    def sizes(self) -> dict[str, int]:
        """How much is kept that should not last."""
        asked = sum(map(len, self._asked.values()))
        there, under_way = len(self._there), len(self._under_way)
        return {"waiting": len(self._waiting), "under way": under_way, "there": there, "asked": asked}


def _is_under_way(host: Host, frame: Frame) -> bool:
    transfer = host.transfers.get(id(frame))
    return transfer is not None and transfer.frame is not None


def _merge(out: Out, more: Mapping[Any, list[Entry]]) -> None:
    for peer, entries in more.items():
        out.setdefault(peer, []).extend(entries)
