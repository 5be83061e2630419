"""Messages and their frames as the parts of one transport message, and back.

One transport message carries a batch: a header part with every message of the batch, then the
large frames as parts of their own. Layout of the header (MessagePack)::

    [protocol, epoch, [[message, [frame, …]], …]]

where each *frame* is its bytes, when small, or nil, when it is the next part. A batch is what
piled up while the socket was busy; nothing waits to be batched.

The epoch is the number of the controller's life. A side that does not know it yet says 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ipkernel_ext.core import messages
from ipkernel_ext.errors import ProtocolError

Frame = Any
"""Bytes, or anything with the buffer interface; never looked into."""

Entry = tuple[Any, Sequence[Frame]]
"""A message and the frames that belong to it."""

INLINE = 4096
"""Frames up to this many bytes travel inside the header."""

_encoder = msgspec.msgpack.Encoder()


class _Header(msgspec.Struct, array_like=True):
    protocol: int
    epoch: int
    entries: list[Any]


class Decoder:
    """Decodes batches of one direction.

    Parameters
    ----------
    messages : type
        Union of the messages that may arrive.
    """

    def __init__(self, messages: Any) -> None:
        header = tuple[int, int, list[tuple[messages, list[bytes | None]]]]
        self._decode = msgspec.msgpack.Decoder(header).decode

    def decode(self, parts: Sequence[Frame]) -> tuple[int, list[Entry]]:
        """Epoch and entries of a batch.

        Raises
        ------
        ProtocolError
            The parts are not this protocol's; nothing of the batch may be used.
        """
        if not parts:
            raise ProtocolError("empty message")
        try:
            protocol, epoch, entries = self._decode(parts[0])
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise ProtocolError(f"undecodable header: {error}") from None
        if protocol != messages.PROTOCOL:
            raise ProtocolError(f"protocol {protocol}, this side speaks {messages.PROTOCOL}")
        following = iter(parts[1:])
        count = 0
        batch: list[Entry] = []
        for message, frames in entries:
            if None in frames:
                count += frames.count(None)
                frames = [next(following, None) if frame is None else frame for frame in frames]
            batch.append((message, frames))
        if count != len(parts) - 1:
            raise ProtocolError(f"{len(parts) - 1} parts follow a header that announces {count}")
        return epoch, batch


def encode(epoch: int, entries: Iterable[Entry]) -> list[Frame]:
    """The parts of a batch."""
    header: list[Any] = []
    parts: list[Frame] = [b""]
    for message, frames in entries:
        inline: list[Frame | None] = []
        for frame in frames:
            if len(frame) <= INLINE:
                inline.append(frame)
            else:
                inline.append(None)
                parts.append(frame)
        header.append((message, inline))
    parts[0] = _encoder.encode((messages.PROTOCOL, epoch, header))
    return parts
