"""An agent's line to its controller: it says hello again whenever it has to, and keeps what was not heard."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import zmq

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.net.edge import Edge, Locate

_LINGER = 200  # milliseconds for which a goodbye may still be on its way out


class Line:
    """The line of one agent.

    Parameters
    ----------
    locate
        Says where the controller is.
    hello
        What to say of itself, with the number of the connection.
    generation : int
        The first of these numbers; higher than any of an agent that this one succeeds.

    Attributes
    ----------
    known : bool
        Whether the controller has welcomed this agent.
    known_at : float
        Monotonic, seconds: when it last had; before that, when the line was made.
    """

    def __init__(
        self,
        locate: Locate,
        poller: zmq.Poller,
        hello: Callable[[int], m.HelloAgent],
        log: logging.Logger,
        generation: int = 0,
    ) -> None:
        self._hello = hello
        self._log = log
        self._generation = generation
        self._epoch = 0
        self._unsent: list[Any] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._edge = Edge(self._context, locate, wire.Decoder(m.ToAgent), poller)
        self.known = False
        self.known_at = time.monotonic()

    @property
    def due(self) -> float | None:
        """When to call ``receive`` though nothing has come; monotonic, seconds."""
        return self._edge.retry_at

    def connect(self) -> None:
        """Begin a connection, with a hello, in the place of the one before."""
        if self.known:
            self.known_at = time.monotonic()
        self.known = False
        if self._edge.open(time.monotonic()):
            self._generation += 1
            self._edge.send(self._epoch, [(self._hello(self._generation), ())])

    def receive(self) -> Iterator[m.ToAgent]:
        """What has come, also before the connection was lost; after that another one begins."""
        lost = self._edge.lost(time.monotonic())
        while (batch := self._edge.receive()) is not None:
            epoch, entries = batch
            if epoch < self._epoch:
                continue
            self._epoch = epoch
            for message, _ in entries:
                match message:
                    case m.WelcomeAgent():
                        self.known = True
                    case m.HelloWanted():
                        self._edge.retry_at = time.monotonic()
                    case m.Refused():
                        self._log.error("the controller refuses this agent: %s", message.failure.message)
                yield message
        if lost or (self._edge.retry_at is not None and time.monotonic() >= self._edge.retry_at):
            self.connect()

    def tell(self, message: m.FromAgent) -> None:
        """Something that the controller is to hear, once it knows this agent; ``flush`` sends it."""
        if not self._unsent or self._unsent[-1] != message:
            self._unsent.append(message)

    def flush(self) -> None:
        """Send what can be sent."""
        if self.known and self._unsent:
            unsent, self._unsent = self._unsent, []
            self._edge.send(self._epoch, [(message, ()) for message in unsent])

    def say_goodbye(self) -> None:
        """The last word."""
        self._edge.send(self._epoch, [(m.Goodbye(), ())])

    def close(self) -> None:
        """Let go of the sockets, after what was sent has left."""
        self._edge.close(linger=_LINGER)
        self._context.term()
