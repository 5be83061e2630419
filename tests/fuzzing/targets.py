"""What a fuzzer calls with any bytes. A target raises only when it has found something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.core.controller import ControllerCore
from ipkernel_ext.errors import ProtocolError
from ipkernel_ext.net import pieces
from tests.fuzzing.mutation import DECODERS, DIRECTIONS, Choices, garbled, message

PEERS: list[tuple[str | None, Any, list[Any]]] = [
    ("client", m.FromClient, [m.HelloClient("ann", m.PROTOCOL, "3", "h", 1, [1, 2])]),
    ("client", m.FromClient, [m.HelloClient("bob", m.PROTOCOL, "3", "h", 1, [])]),
    ("engine", m.FromEngine, [m.HelloEngine(m.PROTOCOL, m.EngineRecord("b0", "h", 1, "3"), 1, m.Inventory())]),
    ("engine", m.FromEngine, [m.HelloTasks("b0", 1)]),
    (None, m.FromEngine, [m.HelloEngine(m.PROTOCOL, m.EngineRecord("b1", "h", 2, "3"), 1, m.Inventory())]),
    (None, m.FromEngine, [m.HelloTasks("b1", 1)]),
    ("engine", m.FromAgent, [m.HelloAgent(m.PROTOCOL, "agent", "h", 3, 2, [], 1)]),
    (None, m.FromPeer, []),
]
"""Of a conversation: role of the key (None: on the unix socket), what it mostly says, what it begins with."""


def decode(data: bytes) -> None:
    """A header of a changed message, or of any bytes, is a batch that can be said again, or one clear error."""
    choices = Choices(data)
    direction = choices.one_of(DIRECTIONS)
    header = message(choices, direction) if choices.below(4) else b""
    if not header or choices.below(2):
        header = garbled(choices, header) + choices.rest()
    decoder = DECODERS[direction]
    try:
        epoch, batch = decoder.decode([header])
    except ProtocolError:
        return
    again = decoder.decode(wire.encode(epoch, batch))
    assert repr(again) == repr((epoch, batch))  # by text, because NaN is not itself


def join(data: bytes) -> None:
    """Parts that claim to be pieces are joined, or left as they are; no byte comes from nowhere."""
    choices = Choices(data)
    parts = [bytes(choices.below(5)) for _ in range(choices.below(8))]
    head = pieces.MARK + choices.rest()
    joined = pieces.join([head, *parts])
    assert sum(map(len, joined)) in (sum(map(len, parts)), sum(map(len, parts)) + len(head))


def converse(data: bytes) -> None:
    """Whatever peers with keys say, in whatever order, the controller stays in order."""
    choices = Choices(data)
    core = ControllerCore(1, pid=1, host="here", now=0.0, begun=lambda boot: None)
    now = 0.0
    for number, (role, _, hellos) in enumerate(PEERS):
        if choices.below(8):
            for hello in hellos:
                core.receive(number, hello, (), now, role)
    while choices:
        number = choices.below(len(PEERS))
        role, direction, _ = PEERS[number]
        what = choices.below(16)
        if what == 0:
            effects = core.left(number, now)
        elif what == 1:
            now += choices.one_of((0.01, 1.0, 100.0, 100_000.0))
            due = core.next_deadline()
            effects = core.tick(now) if due is not None and due <= now else []
        else:
            try:
                _, batch = DECODERS[m.FromPeer].decode([message(choices, direction if what < 14 else m.FromPeer)])
            except ProtocolError:
                continue
            effects = [e for one, frames in batch for e in core.receive(number, one, frames, now, role)]
        assert all(effect is not None for effect in effects)
        core.check()


TARGETS: dict[str, Callable[[bytes], Any]] = {"decode": decode, "join": join, "converse": converse}
