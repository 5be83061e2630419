"""Real messages, changed by choices that come from bytes: so one set of targets serves every fuzzer.

A change is one of the tree (a field is another value that is about right) or of the encoded bytes.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, get_args

import msgspec

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from tests.core.test_wire import EXAMPLES

DIRECTIONS = (m.FromPeer, m.ToClient, m.ToEngine, m.ToCourier, m.ToAgent)
DECODERS = {direction: wire.Decoder(direction) for direction in DIRECTIONS}
PARTS = (m.FromClient, m.FromEngine, m.FromAgent)
OF_DIRECTION = {d: [e for e in EXAMPLES if type(e) in get_args(d)] for d in (*DIRECTIONS, *PARTS)}

VALUES: list[Any] = [
    *(None, True, False, "", "x", b"", b"x", [], [[]], {}, 0.5, -1.0, float("inf"), float("nan"), "🜚", "\x00"),
    *(0, 1, 2, 3, 4, -1, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1),
    *("ann", "bob", "b0", "b1", "b9", "agent", "f", "client", "engine", "stdout", "ready", "overrun", "x" * 17),
    *([0], [1], [1, 2, 3], [0, 0], ["b0"], ["b0", "b1"], ["ann", 1], [["ann", 1]], [[["ann", 1], 1]], ["f", None]),
    *([0] * 100, [["ann", n] for n in range(20)], "f" * 64, {"a": {"b": [1]}}),
]


class Choices:
    """Numbers out of bytes; 0 once they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def below(self, count: int) -> int:
        """A number from 0 to count - 1."""
        value = 0
        for _ in range((max(count - 1, 1).bit_length() + 7) // 8):
            value = value * 256 + (self._data[self._at] if self else 0)
            self._at += 1
        return value % count

    def one_of(self, things: Any) -> Any:
        """One of several things."""
        return things[self.below(len(things))]

    def rest(self) -> bytes:
        """What was not used."""
        rest, self._at = self._data[self._at :], len(self._data)
        return rest


def message(choices: Choices, direction: Any) -> bytes:
    """The header of a batch of one message, well-formed MessagePack, with up to 3 fields changed."""
    example = choices.one_of(OF_DIRECTION[direction])
    tree = msgspec.msgpack.decode(wire.encode(choices.below(3), [(example, [b"frame"] * choices.below(3))])[0])
    for _ in range(choices.below(4)):
        _change(choices, tree)
    return msgspec.msgpack.encode(tree)


def _change(choices: Choices, tree: list[Any]) -> None:
    """Walk to a place somewhere in the tree and put another value there."""
    node: Any = tree[2][0]
    while True:
        keys = list(range(len(node))) if isinstance(node, list) else list(node)
        if not keys:
            return
        key = choices.one_of(keys)
        if isinstance(node[key], list | dict) and node[key] and choices.below(4):
            node = node[key]
            continue
        node[key] = deepcopy(choices.one_of(VALUES))
        return


def garbled(choices: Choices, header: bytes) -> bytes:
    """The header with bytes changed, taken out or put in."""
    changed = bytearray(header)
    for _ in range(1 + choices.below(3)):
        at = choices.below(len(changed) or 1)
        match choices.below(4):
            case 0:
                changed[at : at + 1] = bytes([choices.below(256)])
            case 1:
                del changed[at : at + 1 + choices.below(8)]
            case 2:
                changed[at:at] = bytes([choices.below(256)]) * (1 + choices.below(8))
            case _:
                del changed[at:]
    return bytes(changed)
