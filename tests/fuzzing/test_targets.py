"""The fuzzers' targets, with some hundred inputs at each run of the tests; `make fuzz` goes on for longer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.errors import ProtocolError
from tests.fuzzing import targets
from tests.fuzzing.mutation import DECODERS, DIRECTIONS, OF_DIRECTION, Choices, garbled, message

DATA = st.binary(max_size=600)


@pytest.mark.fault("any messages of somebody who was let in")
@settings(max_examples=1000, deadline=None)
@given(DATA)
def test_the_decoder(data: bytes) -> None:
    targets.decode(data)


@settings(max_examples=500, deadline=None)
@given(DATA)
def test_pieces(data: bytes) -> None:
    targets.join(data)


@pytest.mark.fault("any messages of somebody who was let in")
@settings(max_examples=500, deadline=None)
@given(DATA)
def test_a_conversation(data: bytes) -> None:
    targets.converse(data)


def test_choices_come_from_the_bytes_alone() -> None:
    choices = Choices(bytes([5, 1, 2]))
    assert (choices.below(4), choices.below(300), choices.below(9)) == (1, 258, 0)
    assert not choices
    assert message(Choices(b"\x05" * 9), m.FromPeer) == message(Choices(b"\x05" * 9), m.FromPeer)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_change_often_leaves_a_message_and_often_none(direction: object) -> None:
    """Or else a fuzzer would learn only one side of the decoder."""
    outcomes = []
    for seed in range(1000):
        header = message(Choices(bytes([seed % 256, seed // 256, *range(seed % 97, seed % 97 + 40)])), direction)
        try:
            DECODERS[direction].decode([header])
            outcomes.append(True)
        except ProtocolError:
            outcomes.append(False)
    assert 100 < sum(outcomes) < 900


def test_garbling_changes_something() -> None:
    header = bytes(wire.encode(0, [(OF_DIRECTION[m.FromPeer][0], ())])[0])
    changed = [garbled(Choices(bytes([n, n * 7 % 256, n % 4, n * 3 % 256])), header) for n in range(256)]
    assert sum(one != header for one in changed) > 200
