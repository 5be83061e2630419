"""An engine as the courier of its host: takes large frames into the memory that the engines there share.

See ``couriers`` for the controller's side. It asks for a few pieces at a time, so that no connection is busy for
long, and whoever sends knows that it goes on. Where the controller names another courier as the source it asks
that one, and the controller for what does not come in time. What it has, it passes on, if it is told to: each
piece as soon as it is there.

Between couriers these are the same messages, with the number by which the source knows the frame. To listen for
them takes a port; only the key of this cluster's engines is let in.
"""

from __future__ import annotations

import socket as std_socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import zmq

from ipkernel_ext.blobs import GRACE, Blob, Draft, Home, Pool, Sweeper
from ipkernel_ext.config import addresses
from ipkernel_ext.config.connection import Address
from ipkernel_ext.config.keys import Keys, Pair
from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.errors import ParallelError, ProtocolError
from ipkernel_ext.net import tcp
from ipkernel_ext.net.couriers import PIECE, Word
from ipkernel_ext.net.sockets import Poller, receive, receive_part, receive_rest, send
from ipkernel_ext.net.zap import Gatekeeper

AHEAD = 8  # pieces that are under way at a time: what an interrupt may have to wait for on the same connection
PATIENCE = 3.0  # seconds in which a source has to send another piece
TELL = 1.0  # seconds between two words to the controller that pieces come from elsewhere
EARLY = 1024  # pieces that may be asked for before it is known that they will come

_decoder = wire.Decoder(m.PieceWanted | m.Piece)


class Taking:
    """A frame that is being taken, or is here."""

    def __init__(self, draft: Draft, size: int, source: m.Source | None, now: float) -> None:
        self.draft = draft
        self.size = size
        self.source = source  # None: the controller
        self.next = 0  # the first byte that was not asked for
        self.asked: set[int] = set()  # where pieces begin that are under way
        self.heard = self.told = now
        self.wanted: dict[int, list[bytes]] = {}  # couriers that wait for a piece, by where it begins
        self.blob: Blob | None = None

    def has(self, begin: int) -> bool:
        """Whether a piece is here."""
        return begin < self.next and begin % PIECE == 0 and begin not in self.asked

    @property
    def comes(self) -> m.Source | None:
        """From where the rest is to come, if that is another courier."""
        return None if self.blob is not None else self.source


class Outlet:
    """Where couriers of other hosts ask for pieces.

    Raises
    ------
    ParallelError
        There can be none.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: Address) -> None:
        if address.keys is None:
            raise ParallelError("there are no keys by which others could be known")
        pair = Pair(*(key.decode() for key in zmq.curve_keypair()))
        self.key = pair.public
        self._gatekeeper = Gatekeeper(context, {address.keys.own.public: "engine"}, lambda: None)
        self.socket = tcp.listening_socket(context, pair)
        try:
            ip = _own_address(address.urls[0])
            self.url = addresses.url(ip, tcp.bind(self.socket, ip, 0))
        except BaseException:
            self.close()
            raise

    def receive(self) -> Iterator[tuple[bytes, Sequence[Frame]]]:
        """What others have sent, and who."""
        while (id := receive_part(self.socket)) is not None:
            yield id, receive_rest(self.socket, self.socket.recv(zmq.DONTWAIT))

    def send(self, id: bytes, message: m.Piece, piece: Frame) -> None:
        """A piece to one of them, if it is still there."""
        with suppress(zmq.ZMQError):
            send(self.socket, wire.encode(0, [(message, (piece,))]), id)

    def close(self) -> None:
        """Listen no more."""
        self.socket.close(0)
        self._gatekeeper.close()


class Courier:
    """What an engine has taken, and is taking.

    Parameters
    ----------
    home : Home
        Of the engines of this host.
    context
        Of its sockets.
    poller
        Watches them.
    address : Address
        Where the controller is.
    """

    def __init__(self, home: Home, context: zmq.Context[zmq.Socket[bytes]], poller: Poller, address: Address) -> None:
        self._home = home
        self._context = context
        self._poller = poller
        self._address = address
        self._pool = Pool(home, 0, 0)
        self._sweeper = Sweeper(home)
        self._sweep_at: float | None = None  # while there may be something to sweep
        self._taking: dict[int, Taking] = {}
        self._kept: dict[int, Blob] = {}  # what other couriers took that are gone
        self._outlet: Outlet | None = None
        self._inlets: dict[str, zmq.Socket[bytes]] = {}  # to the sources, by their addresses
        self._early: deque[tuple[bytes, int, int]] = deque(maxlen=EARLY)
        self._answered: set[str] = set()  # sources from which something has come
        self._silent: set[str] = set()  # those from which nothing ever has

    def receive(self, message: m.ToCourier, frames: Sequence[Frame], now: float) -> Iterable[Word]:
        """What the controller says; the answers."""
        self._sweep_at = self._sweep_at or now + GRACE
        match message:
            case m.TakeFrame(number, size, b"", source):
                return self._take(number, size, source, now)
            case m.TakeFrame(number, _, reference):
                found = self._home.open(reference)
                if not isinstance(found, Blob):
                    return [m.FrameTaken(number)]
                self._kept[number] = found
                return [m.FrameTaken(number, reference)]
            case m.Piece(number, begin) if number in self._taking and frames:
                return self._write(number, begin, frames[0], now)
            case m.PassOn():
                return [self._pass_on()]
            case m.ReleaseFrame(number):
                self._kept.pop(number, None)
                self._let_go(number)
        return ()

    # ------------------------------------------------------------ taking

    def _take(self, number: int, size: int, source: m.Source | None, now: float) -> Sequence[Word]:
        draft = self._pool.draft(size)
        if draft is None:
            return [m.FrameTaken(number)]
        reached = None if source is None or source.url in self._silent else source
        self._taking[number] = Taking(draft, size, reached, now)
        early, self._early = self._early, deque(maxlen=EARLY)
        for id, wanted, begin in early:
            self._on_wanted(id, wanted, begin)
        return self._ask(number)

    def _ask(self, number: int) -> Sequence[Word]:
        """Ask for as many pieces as may be under way; what the controller is asked for."""
        taking = self._taking[number]
        begins: list[int] = []
        while len(taking.asked) < AHEAD and taking.next < taking.size:
            begins.append(taking.next)
            taking.asked.add(taking.next)
            taking.next += PIECE
        if taking.source is None:
            return [m.PieceWanted(number, begin) for begin in begins]
        if begins:
            words = [(m.PieceWanted(taking.source.number, begin), ()) for begin in begins]
            send(self._inlet(taking.source), wire.encode(0, words))
        return ()

    def _inlet(self, source: m.Source) -> zmq.Socket[bytes]:
        socket = self._inlets.get(source.url)
        if socket is None:
            assert self._address.keys is not None, "who has none is told of no source"
            keys = Keys(source.key, self._address.keys.own)
            socket = self._inlets[source.url] = tcp.connecting_socket(self._context, source.url, keys)
            socket.connect(source.url)
            self._poller.register(socket)
        return socket

    def _write(self, number: int, begin: int, piece: Frame, now: float) -> Sequence[Word]:
        """A piece has come. One that was asked for twice is here already."""
        taking = self._taking[number]
        if begin not in taking.asked:
            return ()
        try:
            blob = taking.draft.write(begin, piece)
        except OSError:
            self._let_go(number)
            return [m.FrameTaken(number)]
        taking.asked.discard(begin)
        taking.heard = now
        for id in taking.wanted.pop(begin, ()):
            self._serve(id, number, begin)
        if blob is None:
            return self._ask(number)
        taking.blob = blob
        self._close_inlets()
        return [m.FrameTaken(number, blob.reference)]

    def _let_go(self, number: int) -> None:
        taking = self._taking.pop(number, None)
        if taking is not None and taking.blob is None:
            taking.draft.give_up()
        del taking  # its blob with it
        self._close_inlets()
        self._pool.tick(float("inf"))

    def _close_inlets(self) -> None:
        """Those from which nothing comes any more."""
        used = {taking.comes.url for taking in self._taking.values() if taking.comes is not None}
        for url in self._inlets.keys() - used:
            socket = self._inlets.pop(url)
            self._poller.unregister(socket)
            socket.close(0)

    # ------------------------------------------------------------ passing on

    def _pass_on(self) -> m.PassesOn:
        if self._outlet is None:
            try:
                self._outlet = Outlet(self._context, self._address)
            except (ParallelError, OSError):
                return m.PassesOn()
            self._poller.register(self._outlet.socket)
        return m.PassesOn(self._outlet.url, self._outlet.key)

    def _on_wanted(self, id: bytes, number: int, begin: int) -> None:
        taking = self._taking.get(number)
        if taking is None:
            self._early.append((id, number, begin))
        elif taking.has(begin):
            self._serve(id, number, begin)
        elif begin < taking.size and begin % PIECE == 0:
            taking.wanted.setdefault(begin, []).append(id)

    def _serve(self, id: bytes, number: int, begin: int) -> None:
        assert self._outlet is not None
        with suppress(OSError):
            self._outlet.send(id, m.Piece(number, begin), self._taking[number].draft.read(begin, PIECE))

    # ------------------------------------------------------------ the loop

    def turn(self, now: float) -> Sequence[Word]:
        """Look at what has come from other couriers, and has not; what the controller is told."""
        words: list[Word] = []
        if self._outlet is not None:
            for id, parts in self._outlet.receive():
                for message, _ in _messages(parts):
                    if isinstance(message, m.PieceWanted):
                        self._on_wanted(id, message.number, message.begin)
        for url, socket in list(self._inlets.items()):
            while not socket.closed and (got := receive(socket)) is not None:
                self._answered.add(url)
                for message, frames in _messages(got):
                    number = self._known_there(url, message.number)
                    if isinstance(message, m.Piece) and number is not None and frames:
                        words += self._write(number, message.begin, frames[0], now)
        for number, taking in self._taking.items():
            if taking.comes is not None:
                words += self._watch(number, taking, now)
        self._close_inlets()
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep_at = now + GRACE if self._sweeper.sweep(now) or self._sweeper.waits else None
        return words

    def _known_there(self, url: str, number: int) -> int | None:
        """By which number a frame is known here that has this one at a source."""
        for here, taking in self._taking.items():
            if taking.comes is not None and (taking.comes.url, taking.comes.number) == (url, number):
                return here
        return None

    def _watch(self, number: int, taking: Taking, now: float) -> Iterable[Word]:
        """Ask the controller for what does not come from elsewhere, and tell it of what does."""
        if now >= taking.heard + PATIENCE:
            if taking.source is not None and taking.source.url not in self._answered:
                self._silent.add(taking.source.url)  # a firewall, most likely
            taking.source = None
            return [m.PieceWanted(number, begin) for begin in sorted(taking.asked)]
        if now >= taking.told + TELL:
            taking.told = now
            return [m.PiecesCome(number)]
        return ()

    def next_deadline(self) -> float | None:
        """When ``turn`` is wanted though nothing has come, or None."""
        come = [taking for taking in self._taking.values() if taking.comes is not None]
        due = [min(taking.heard + PATIENCE, taking.told + TELL) for taking in come]
        return min(due if self._sweep_at is None else [self._sweep_at, *due], default=None)

    def close(self) -> None:
        """The connection is over: what was under way comes no more; for what is there others may still come."""
        for taking in self._taking.values():
            if taking.blob is None:
                taking.draft.give_up()
        self._pool.close()
        self._taking.clear()
        self._kept.clear()
        self._close_inlets()
        if self._outlet is not None:
            self._poller.unregister(self._outlet.socket)
            self._outlet.close()
            self._outlet = None


def _messages(parts: Sequence[Frame]) -> Sequence[wire.Entry]:
    try:
        return _decoder.decode(parts)[1]
    except ProtocolError:
        return ()


def _own_address(url: str) -> str:
    """The address by which this host reaches the controller, at which others may reach this host."""
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    host = host.strip("[]")
    with std_socket.socket(std_socket.AF_INET6 if ":" in host else std_socket.AF_INET, std_socket.SOCK_DGRAM) as one:
        one.connect((host, int(port)))
        return str(one.getsockname()[0])
