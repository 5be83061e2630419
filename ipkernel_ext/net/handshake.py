"""What the first moments of a TCP connection tell of the other side, in words for the user.

Pure: events of ZeroMQ's socket monitor go in, a verdict comes out.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

import zmq

from ipkernel_ext.config.connection import Address
from ipkernel_ext.errors import AuthenticationError, NotConnected

EVENTS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)

_MECHANISM = zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
_ENDS = zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED


class Trouble(NamedTuple):
    """Why a connection did not come to be."""

    error: NotConnected
    certain: bool  # the next attempt ends the same way
    answered: bool  # somebody is there, but not a controller that takes us


class Handshake:
    """One attempt to connect."""

    def __init__(self, url: str, address: Address) -> None:
        self._url = url
        self._address = address
        self._connected = False
        self._failure: tuple[int, int] | None = None
        self.succeeded = False

    def see(self, event: int, value: int) -> Trouble | None:
        """The attempt's end, if this event is it."""
        if event == zmq.EVENT_CONNECTED:
            self._connected = True
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.succeeded = True
        elif event & _ENDS:
            return self._judge() if self._connected else self.unreachable()
        else:
            self._failure = (event, value)
        return None

    def unreachable(self) -> Trouble:
        """Nobody answers."""
        text = (
            f"no controller answers at {self._url} (from {self._address.source}): it has ended, or the address "
            "cannot be reached from here; if it was started again, copy its file again"
        )
        return Trouble(NotConnected(text), False, False)

    def _judge(self) -> Trouble:
        event, value = self._failure or (0, 0)
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return self._refused("refuses the key in", certain=True)
        if self._address.keys is None:
            mechanism = event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == _MECHANISM
            if mechanism or (event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and value != errno.EAGAIN):
                return self._refused("asks for a key, and there is none in", certain=mechanism)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
            return self._refused("is not the one whose key is in", certain=True)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and value != errno.EAGAIN:
            return self._refused("does not take the keys in", certain=False)
        return self._foreign(certain=event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)

    def _refused(self, what: str, *, certain: bool) -> Trouble:
        text = (
            f"the controller at {self._url} {what} {self._address.source}: the file is of another cluster, or of an "
            "earlier start of this one; copy it again from the controller's host"
        )
        return Trouble(AuthenticationError(text), certain, True)

    def _foreign(self, *, certain: bool) -> Trouble:
        text = (
            f"what listens at {self._url} (from {self._address.source}) is not a controller of ours, or it hangs: "
            "check the address, and whether the controller there still runs"
        )
        return Trouble(NotConnected(text), certain, True)
