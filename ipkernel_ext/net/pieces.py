"""Large parts of a batch in pieces, where a stranger may be at the other end.

Over TCP no frame on the wire may be larger than ``PIECE``: the length of a frame is claimed before any
key was shown, and whoever may claim a gigabyte may fill one. A batch with larger parts begins with one
part more, which is ``MARK`` and then, in MessagePack, ``[[part, pieces], …]`` for those that were cut.
No batch begins with ``MARK`` otherwise, because MessagePack never uses that byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ipkernel_ext.core.wire import Frame

PIECE = 2**18  # bytes
MARK = b"\xc1"

_decode = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode


def is_large(parts: Sequence[Frame]) -> bool:
    """Whether any of these has to be cut."""
    return max(map(len, parts)) > PIECE


def cut(parts: Sequence[Frame]) -> list[Frame]:
    """The parts, none larger than a piece; nothing is copied."""
    counts: list[tuple[int, int]] = []
    pieces: list[Frame] = []
    for index, part in enumerate(parts):
        if len(part) <= PIECE:
            pieces.append(part)
            continue
        view = memoryview(part)
        pieces += [view[begin : begin + PIECE] for begin in range(0, len(view), PIECE)]
        counts.append((index, -(-len(view) // PIECE)))
    return [MARK + msgspec.msgpack.encode(counts), *pieces]


def join(pieces: list[Any]) -> list[Frame]:
    """What was cut, in one again.

    Pieces that do not add up stay as they are: a batch that begins with ``MARK`` is no batch, and whoever
    decodes it says so.
    """
    try:
        counts = dict(_decode(bytes(pieces[0])[len(MARK) :]))
    except (msgspec.DecodeError, ValueError):
        return pieces
    if any(count < 1 for count in counts.values()) or sum(counts.values()) > len(pieces) - 1:
        return pieces
    parts: list[Frame] = []
    ahead = pieces[:0:-1]
    while ahead:
        count = counts.pop(len(parts), 0)
        if not count:
            parts.append(ahead.pop())
        elif count > len(ahead):
            return pieces
        else:
            parts.append(_joined(ahead, count))
    return pieces if counts else parts


def _joined(ahead: list[Frame], count: int) -> memoryview:
    """The last ``count`` of these, which are let go of as they are copied."""
    whole = bytearray(sum(map(len, ahead[-count:])))
    begin = 0
    for _ in range(count):
        piece = ahead.pop()
        whole[begin : begin + len(piece)] = piece
        begin += len(piece)
    return memoryview(whole)
