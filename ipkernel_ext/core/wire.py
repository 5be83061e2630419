"""Messages and their frames as the parts of one transport message, and back.

One transport message carries a batch: a header part with every message of the batch, then the
large frames as parts of their own. Layout of the header (MessagePack)::

    [protocol, epoch, [[message, [frame, …]], …]]

where each *frame* is its bytes, when small, or nil, when it is the next part. A part that is small
all the same is a reference: the frame is elsewhere on this host, where the shells find it. A batch is
what piled up while the socket was busy; nothing waits to be batched.

The epoch is the number of the controller's life. A side that does not know it yet says 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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

LARGE = 2**17
"""Bytes of a frame for whose sake whoever keeps it is told at once that it need not be kept any more."""

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

    def decode(self, parts: Sequence[Frame], find: Callable[[Frame], Frame] | None = None) -> tuple[int, list[Entry]]:
        """Epoch and entries of a batch.

        Parameters
        ----------
        find
            What makes a frame of a reference; None where none may come.

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
                frames = [_large(next(following, None), find) if frame is None else frame for frame in frames]
            batch.append((message, frames))
        if count != len(parts) - 1:
            raise ProtocolError(f"{len(parts) - 1} parts follow a header that announces {count}")
        return epoch, batch


def _large(part: Frame | None, find: Callable[[Frame], Frame] | None) -> Frame | None:
    if part is None or len(part) > INLINE:
        return part
    if find is None:
        raise ProtocolError("a reference that leads nowhere")
    return find(part)


def is_one_small(frames: Sequence[Frame]) -> bool:
    """Whether it is one frame, which travels inside the header."""
    return len(frames) == 1 and len(frames[0]) <= INLINE


def has_large(frames: Sequence[Frame]) -> bool:
    """Whether one of the frames is large."""
    for frame in frames:  # noqa: SIM110 - a generator costs more than the rest, for each task
        if len(frame) >= LARGE:
            return True
    return False


def encode(epoch: int, entries: Iterable[Entry], refer: Callable[[Frame], Frame] | None = None) -> list[Frame]:
    """The parts of a batch.

    Parameters
    ----------
    refer
        What travels instead of a large frame: itself, its bytes, or a reference to it.
    """
    header: list[Any] = []
    parts: list[Frame] = [b""]
    for message, frames in entries:
        inline: list[Frame | None] = []
        for frame in frames:
            if len(frame) <= INLINE:
                inline.append(frame)
            else:
                inline.append(None)
                parts.append(frame if refer is None else refer(frame))
        header.append((message, inline))
    parts[0] = _encoder.encode((messages.PROTOCOL, epoch, header))
    return parts
