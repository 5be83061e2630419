"""One connection from an engine, client or agent to the controller.

It is opened to where the connection file points, watched, given up when it is lost, and opened
again. A new socket each time: what the old one still held is not sent to another life of the
controller, and the hello comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import zmq

from ipkernel_ext.core.wire import Decoder, Entry, Frame, encode
from ipkernel_ext.errors import NotConnected
from ipkernel_ext.net.sockets import Monitor, new_socket, receive, send

Locate = Callable[[], str]
"""The controller's address. Raises NotConnected while there is none."""

RETRY = 0.2  # seconds between two looks at the connection file


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
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], locate: Locate, decoder: Decoder, poller: zmq.Poller
    ) -> None:
        self._context = context
        self._poller = poller
        self._locate = locate
        self._decode = decoder.decode
        self._monitor: Monitor | None = None
        self.socket: zmq.Socket[bytes] | None = None
        self.retry_at: float | None = None
        self.why = ""  # it is not open
        self.url = ""

    def open(self, now: float) -> bool:
        """Open a new socket. False while nobody knows where to; then ``retry_at`` says when to try again."""
        self.close()
        try:
            self.url = self._locate()
        except NotConnected as error:
            self.why = str(error)
            self.retry_at = now + RETRY
            return False
        self.why = ""
        self.retry_at = None
        self.socket = new_socket(self._context, zmq.DEALER)
        self._monitor = Monitor(self.socket, zmq.EVENT_DISCONNECTED)
        self.socket.connect(self.url)
        self._poller.register(self.socket, zmq.POLLIN)
        self._poller.register(self._monitor.pair, zmq.POLLIN)
        return True

    def close(self, linger: int = 0) -> None:
        """Give the socket up; what it still held is dropped after ``linger`` milliseconds."""
        if self.socket is None or self._monitor is None:
            return
        self._poller.unregister(self.socket)
        self._poller.unregister(self._monitor.pair)
        self._monitor.close()
        self.socket.close(linger)
        self.socket = self._monitor = None

    def lost(self) -> bool:
        """Whether the connection broke since it was opened."""
        return self._monitor is not None and bool(self._monitor.events())

    def send(self, epoch: int, entries: Iterable[Entry]) -> None:
        """Send one batch; into the void while the connection is not open."""
        if self.socket is not None:
            send(self.socket, encode(epoch, entries))

    def receive(self) -> tuple[int, list[Entry]] | None:
        """The next batch, or None. ProtocolError when it is not the controller's."""
        parts: Sequence[Frame] | None = receive(self.socket) if self.socket is not None else None
        return None if parts is None else self._decode(parts)
