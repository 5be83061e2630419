"""Large frames to hosts without a controller: once over the network, then shared memory there.

Engines that share memory are on one host; one of them, the *courier*, takes what several are to get,
piece by piece as it asks for them. Meanwhile what was to be sent to those engines waits here, in its order;
then they are sent a reference. Nothing is lost by that: to the core it is a connection that is slow, and if
the courier ends, has no room, or stands still, each engine is sent the bytes themselves.

    under way ──▶ there: engines are sent a reference, until nobody has the frame any more
        └───────▶ direct: engines are sent the bytes

Knows no socket, and nothing of what frames are for.
"""

from __future__ import annotations

import itertools
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ipkernel_ext.blobs import plain
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.effects import Peer
from ipkernel_ext.core.wire import Entry, Frame

PIECE = 2**20  # bytes
STALL = 5.0  # seconds after which a courier that asks for nothing counts as standing still

Out = dict[Peer, list[Entry]]


class Transfer:
    """A frame on its way to a host, or there."""

    def __init__(self, number: int, frame: Frame, courier: Peer, now: float) -> None:
        self.number = number
        self.size = len(frame)
        self.frame: Frame | None = frame  # while it is under way
        self.bytes = memoryview(plain(frame)).cast("B")
        self.courier = courier
        self.heard = now  # when its courier last asked for something
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
    """

    def __init__(self, above: int) -> None:
        self._above = above
        self._hosts: dict[bytes, Host] = {}  # by what proves that their memory is the same
        self._of: dict[Peer, bytes] = {}
        self._waiting: Out = {}  # what is to be sent once frames are where they are to be
        self._under_way: dict[int, tuple[Host, Transfer]] = {}
        self._there: dict[int, tuple[Host, Transfer]] = {}
        self._numbers = itertools.count(1)
        self._gone: deque[tuple[Peer, int]] = deque()  # frames that nobody has any more; by finalizers

    def join(self, peer: Peer, proof: bytes, controls: bool) -> None:
        """A connection of an engine: its control connection, or that for tasks."""
        host = self._hosts.setdefault(proof, Host())
        self._of[peer] = proof
        if controls and peer not in host.couriers:
            host.couriers.append(peer)
        if not controls:
            host.engines.add(peer)

    def leave(self, peer: Peer, now: float) -> Out:
        """A connection has ended; what there is to be sent now."""
        self._waiting.pop(peer, None)
        proof = self._of.pop(peer, None)
        if proof is None:
            return {}
        host = self._hosts[proof]
        host.engines.discard(peer)
        out: Out = {}
        if peer in host.couriers:
            host.couriers.remove(peer)
            for transfer in [t for t in host.transfers.values() if t.courier == peer]:
                _merge(out, self._pass_on(host, transfer, now))
        if not host.engines and not host.couriers:
            del self._hosts[proof]
        return out

    def _pass_on(self, host: Host, transfer: Transfer, now: float) -> Out:
        """Another engine is the courier of a frame from now on."""
        if not transfer.reference and transfer.frame is None:
            return {}
        if not host.couriers:
            return self._go_direct(host, transfer)
        transfer.courier, transfer.heard = host.couriers[0], now
        return {transfer.courier: [(m.TakeFrame(transfer.number, transfer.size, transfer.reference), ())]}

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
        wanted = Counter(self._large(out))
        going: Out = {}
        for peer, entries in out.items():
            host = self._host(peer)
            if host is None or peer not in host.engines:
                going.setdefault(peer, []).extend(entries)
                continue
            begun = [self._begun(host, frame, wanted[id(host), id(frame)], now) for frame in self._frames(entries)]
            _merge(going, {t.courier: [(m.TakeFrame(t.number, t.size), ())] for t in begun if t is not None})
            if peer in self._waiting or any(self._is_under_way(host, frame) for frame in self._frames(entries)):
                self._waiting.setdefault(peer, []).extend(entries)
            else:
                going.setdefault(peer, []).extend(entries)
        while self._gone:
            courier, number = self._gone.popleft()
            self._there.pop(number, None)
            if courier in self._of:
                going.setdefault(courier, []).append((m.ReleaseFrame(number), ()))
        return going

    def refer(self, peer: Peer) -> Callable[[Frame], Frame]:
        """What makes the frames for a peer: bytes, or references."""
        host = self._host(peer)
        if host is None or not host.transfers:
            return plain
        transfers: Mapping[int, Transfer] = host.transfers

        def made(frame: Frame) -> Frame:
            transfer = transfers.get(id(frame))
            return plain(frame) if transfer is None or not transfer.reference else transfer.reference

        return made

    def _large(self, out: Out) -> Iterator[tuple[int, int]]:
        """Ids of the host and of the frame, for each large one that is to go to an engine."""
        for peer, entries in out.items():
            host = self._host(peer)
            if host is not None:
                for frame in self._frames(entries):
                    yield id(host), id(frame)

    def _host(self, peer: Peer) -> Host | None:
        proof = self._of.get(peer)
        return None if proof is None else self._hosts[proof]

    def _frames(self, entries: Iterable[Entry]) -> Iterator[Frame]:
        return (frame for _, frames in entries for frame in frames if len(frame) >= self._above)

    def _is_under_way(self, host: Host, frame: Frame) -> bool:
        transfer = host.transfers.get(id(frame))
        return transfer is not None and transfer.frame is not None

    def _begun(self, host: Host, frame: Frame, engines: int, now: float) -> Transfer | None:
        """The transfer of a frame that has just begun, because several engines are to get it; else None."""
        if id(frame) in host.transfers or engines < 2 or not host.couriers:
            return None
        try:
            transfer = Transfer(next(self._numbers), frame, host.couriers[0], now)
            weakref.finalize(frame, self._on_gone, host, id(frame)).atexit = False
        except TypeError:
            return None  # what nobody can watch, or is only a reference itself
        host.transfers[id(frame)] = transfer
        self._under_way[transfer.number] = host, transfer
        return transfer

    def _on_gone(self, host: Host, id: int) -> None:
        transfer = host.transfers.pop(id)
        if transfer.reference:
            self._gone.append((transfer.courier, transfer.number))

    # ------------------------------------------------------------ in

    def receive(self, peer: Peer, message: m.PieceWanted | m.FrameTaken, now: float) -> Out:
        """A courier's word; what there is to be sent now. What others say is nothing."""
        host, transfer = self._under_way.get(message.number) or self._there.get(message.number) or (None, None)
        if host is None or transfer is None or transfer.courier != peer:
            return {}
        transfer.heard = now
        if isinstance(message, m.PieceWanted):
            if transfer.frame is None:
                return {}
            piece = transfer.bytes[message.begin : message.begin + PIECE]
            return {peer: [(m.Piece(message.number, message.begin), (piece,))]}
        if not message.reference:
            return self._go_direct(host, transfer)
        if transfer.frame is None:
            return {}  # the next courier of what is there has it
        transfer.reference = message.reference
        self._there[transfer.number] = host, transfer
        return self._arrived(host, transfer)

    def next_deadline(self) -> float | None:
        """When ``tick`` is wanted, or None."""
        return min((transfer.heard + STALL for _, transfer in self._under_way.values()), default=None)

    def tick(self, now: float) -> Out:
        """Frames whose courier stands still go another way; what there is to be sent now."""
        out: Out = {}
        for host, transfer in list(self._under_way.values()):
            if now >= transfer.heard + STALL:
                _merge(out, {transfer.courier: [(m.ReleaseFrame(transfer.number), ())]})
                _merge(out, self._go_direct(host, transfer))
        return out

    def sizes(self) -> dict[str, int]:
        """How much is kept that should not last."""
        return {"waiting": len(self._waiting), "under way": len(self._under_way), "there": len(self._there)}


def _merge(out: Out, more: Mapping[Any, list[Entry]]) -> None:
    for peer, entries in more.items():
        out.setdefault(peer, []).extend(entries)
