"""One connection from an engine, client or agent to the controller.

It is opened to where the connection file points, watched, given up when it is lost, and opened
again. A new socket each time: what the old one still held is not sent to another life of the
controller, and the hello comes first.

Each attempt is one look at the file and one socket, because the controller may come back with another port; what
attempts over TCP ended with is kept for the user (``trouble``).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq

from ipkernel_ext import blobs
from ipkernel_ext.config import shared
from ipkernel_ext.config.connection import Address
from ipkernel_ext.core.wire import Decoder, Entry, Frame, encode
from ipkernel_ext.errors import NotConnected
from ipkernel_ext.net.handshake import EVENTS, Handshake, Trouble
from ipkernel_ext.net.local import Connection, path_of
from ipkernel_ext.net.sockets import Monitor, Poller, receive, send
from ipkernel_ext.net.tcp import answering, connecting_socket

Locate = Callable[[], Address]
"""Where the controller is. Raises NotConnected while it is nowhere."""

SOON = 0.1  # seconds between two attempts where nobody listens at the unix socket
RETRY = 0.2  # seconds between two looks at the connection file
PAUSES = 0.1, 1.0  # seconds, first and longest, between two attempts over TCP
ATTEMPT = 1.8  # seconds that one may take
ENDS = zmq.EVENT_DISCONNECTED, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
"""Of a connection: libzmq 4.3.5 may fail to end one on which something came that nobody can decrypt."""
PATIENCE = {True: 0.6, False: 1.4}
"""Seconds of failing after which a first connection is not to be hoped for: when somebody answers but
does not take us, and when nobody does (a controller may be about to come back)."""


class Edge:
    """A DEALER to the controller.

    Parameters
    ----------
    locate
        Says where the controller is, each time anew.
    decoder
        Of what the controller may send here.
    poller
        Watches the connection while it is open.
    warm : float
        Share of the shared memory that is to be kept warm which this process may keep; 0: it shares none.
    away : bool or None
        Whether a unix socket may lead to another host, as one that ssh forwards does. Where the controller is on
        another host, this process shares memory with others of its kind. None: it does not.

    Attributes
    ----------
    retry_at : float or None
        When ``open`` is to be called again, unless the connection comes to be before.
    trouble : Trouble or None
        Why it is not open.
    url : str
        Where it leads.
    pool : Pool or None
        Shared memory, where the controller is on this host and offers it. It outlives the connection.
    home : Home or None
        Where references lead: into that, or into what is shared away from the controller.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        locate: Locate,
        decoder: Decoder,
        poller: zmq.Poller | Poller,
        warm: float = 0.0,
        away: bool | None = None,
    ) -> None:
        self._context = context
        self._poller = poller
        self._locate = locate
        self._decode = decoder.decode
        self._monitor: Monitor | None = None
        self._greeted = False  # something was said on this connection
        self._handshake: Handshake | None = None  # of an attempt over TCP that may still fail
        self._failures = 0  # attempts in a row
        self._trying_since = 0.0
        self._alternatives = 1
        self._next_attempt = 0.0
        self.socket: zmq.Socket[bytes] | Connection | None = None
        self.retry_at: float | None = None
        self.trouble: Trouble | None = None
        self.url = ""
        self.address: Address | None = None
        self.pool: blobs.Pool | None = None
        self.home: blobs.Home | None = None
        self._warm = warm
        self._away = away

    def open(self, now: float) -> bool:
        """Open a new socket. False while nobody knows where to; then ``retry_at`` says when to try again."""
        if self._handshake is not None:
            self._fail(self._handshake.unreachable(), now)
        self.close()
        if now < self._next_attempt:
            self.retry_at = self._next_attempt
            return False
        try:
            address = self._locate()
        except NotConnected as error:
            self.trouble = Trouble(error, False, False)
            self.retry_at = now + RETRY
            return False
        if not self._failures:
            self._trying_since = now
        urls = address.urls if len(address.urls) == 1 else answering(address.urls)
        self._alternatives = len(urls)
        if not urls:
            self.url = " or ".join(address.urls)
            self._fail(Handshake(self.url, address).unreachable(), now)
            self.retry_at = self._next_attempt
            return False
        self.url = urls[self._failures % len(urls)]  # another one at each attempt
        self.address = Address((self.url,), address.keys, address.source)
        remote = self.url.startswith("tcp://")
        self._handshake = Handshake(self.url, address) if remote else None
        if not remote:
            self.trouble = None
        self.retry_at = now + ATTEMPT if remote else now + SOON
        self._share(address.keys.server if remote and address.keys is not None else self.url)
        self._greeted = False
        path = path_of(self.url)
        if path is not None:
            try:
                self.socket = Connection.to(path)
            except OSError:
                return False
            self.retry_at = None
        else:
            self.socket = connecting_socket(self._context, self.url, address.keys, once=True)
            self._monitor = Monitor(self.socket, EVENTS)
            self.socket.connect(self.url)
            self._poller.register(self._monitor.pair, zmq.POLLIN)
        self._poller.register(self.socket, zmq.POLLIN)
        return True

    def _share(self, cluster: str) -> None:
        """Use the shared memory that the controller there offers, else that of this host's engines of its cluster."""
        offered = shared.find(self.url) if self._warm else None
        with suppress(OSError, NotConnected):
            directory = None if offered is None else Path(offered.directory)
            if offered is None and (self._away or (self._away is False and self.url.startswith("tcp://"))):
                directory = shared.away(cluster)
            if self.home is not None and self.home.directory == directory:
                return
            self.end_sharing()
            if directory is not None:
                self.home = blobs.Home(directory)
            if offered is not None and self.home is not None:
                self.pool = blobs.Pool(self.home, offered.above, int(offered.pool * self._warm))

    def end_sharing(self) -> None:
        """Give up shared memory; what others may still come for stays there."""
        home, self.home = self.home, None
        if self.pool is not None:
            self.pool.close()
        elif home is not None:
            home.leave()
            shared.leave(home.directory)
        self.pool = None

    def next_deadline(self) -> float | None:
        """When the caller's loop has to turn for this connection's sake, or None."""
        pool = None if self.pool is None else self.pool.next_deadline()
        if pool is None or self.retry_at is None:
            return self.retry_at if pool is None else pool
        return min(pool, self.retry_at)

    def tick(self, now: float) -> None:
        """Give back shared memory that is no longer needed."""
        due = None if self.pool is None else self.pool.next_deadline()
        if self.pool is not None and due is not None and now >= due:
            self.pool.tick(now)

    def share(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """The frames, large ones in shared memory where there is any; from any thread."""
        pool = self.pool
        return frames if pool is None else pool.share(frames)

    def greeting(self, hello: Any) -> Entry:
        """A hello, with what tells the controller that large frames may come in shared memory."""
        return hello, () if self.home is None else (self.home.proof,)

    def encode(self, epoch: int, entries: Iterable[Entry]) -> list[Frame]:
        """The parts of a batch for the controller."""
        return encode(epoch, entries, blobs.plain if self.pool is None else self.pool.home.refer)

    def decode(self, parts: Sequence[Frame]) -> tuple[int, list[Entry]]:
        """A batch of the controller's, large frames mapped from shared memory; ProtocolError when it is none."""
        return self._decode(parts, blobs.absent if self.home is None else self.home.fetch)

    def _fail(self, trouble: Trouble, now: float) -> None:
        first, longest = PAUSES
        self._next_attempt = now + min(first * 2.0**self._failures, longest)
        self._failures += 1
        self._handshake = None
        self.trouble = trouble

    def hopeless(self, now: float) -> bool:
        """Whether what is in the way of a first connection over TCP is there to stay."""
        if self.trouble is None or not self._failures:
            return False
        late = now >= self._trying_since + PATIENCE[self.trouble.answered]
        return (self.trouble.certain or late) and self._failures >= self._alternatives

    def close(self, linger: int = 0) -> None:
        """Give the socket up; what it still held is dropped after ``linger`` milliseconds."""
        if self.socket is None:
            return
        self._poller.unregister(self.socket)
        if self._monitor is not None:
            self._poller.unregister(self._monitor.pair)
            self._monitor.close()
        self.socket.close(linger)
        self.socket = self._monitor = None

    def lost(self, now: float, ready: Container[Any] | None = None) -> bool:
        """Whether the connection broke, or did not come to be, since it was opened.

        Parameters
        ----------
        ready
            What the poller has told of; None where it was not asked.
        """
        if isinstance(self.socket, Connection):
            self.socket.flush()
            return self.socket.ended
        if self._monitor is None or (ready is not None and self._monitor.pair not in ready):
            return False
        lost = False
        for event, value in self._monitor.events():
            if self._handshake is None:
                lost |= event in ENDS
                continue
            trouble = self._handshake.see(event, value)
            if self._handshake.succeeded:
                self._handshake = self.trouble = self.retry_at = None
                self._failures = 0
            elif trouble is not None:
                self._fail(trouble, now)
                return True
        return lost

    def send(self, epoch: int, entries: Iterable[Entry]) -> None:
        """Send one batch; into the void while the connection is not open, or not any more (``lost`` will say so)."""
        if self.socket is not None:
            if not self._greeted:
                (hello, _), *rest = entries
                entries = [self.greeting(hello), *rest]
                self._greeted = True
            with suppress(zmq.Again):
                send(self.socket, self.encode(epoch, entries))

    def receive(self) -> tuple[int, list[Entry]] | None:
        """The next batch, or None. ProtocolError when it is not the controller's."""
        parts: Sequence[Frame] | None = receive(self.socket) if self.socket is not None else None
        return None if parts is None else self.decode(parts)
