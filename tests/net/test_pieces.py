"""Large parts travel in pieces, and come together again only if they add up."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.errors import ProtocolError
from ipkernel_ext.net import pieces
from ipkernel_ext.net.pieces import MARK, PIECE, cut, is_large, join

SIZES = st.sampled_from([0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 5 * PIECE + 3])


@given(st.lists(SIZES, min_size=1, max_size=5))
def test_what_is_cut_is_joined_again(sizes: list[int]) -> None:
    parts = [bytes([n + 1]) * size for n, size in enumerate(sizes)]
    sent = cut(parts)
    assert max(map(len, sent)) <= PIECE
    assert is_large(parts) == (len(sent) > len(parts) + 1)
    assert [bytes(part) for part in join([*map(bytes, sent)])] == parts


def test_what_is_joined_is_memory_of_its_own_that_may_be_written_to() -> None:
    (whole,) = join([bytes(part) for part in cut([bytes(PIECE + 1)])])
    assert not whole.readonly
    assert len(whole) == PIECE + 1


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"\x90",
        b"\x91\x92\x00\x03",
        [(0, 0)],
        [(0, -1)],
        [(0, 4)],
        [(5, 1)],
        [(-1, 2)],
        [(0, 2**40)],
        [(2, 2), (0, 2)],
    ],
    ids=repr,
)
def test_what_does_not_add_up_is_refused_by_the_decoder(manifest: bytes | list[tuple[int, int]]) -> None:
    head = manifest if isinstance(manifest, bytes) else msgspec.msgpack.encode(manifest)
    with pytest.raises(ProtocolError):
        wire.Decoder(m.FromPeer).decode(join([MARK + head, b"a", b"b", b"c"]))


@given(st.lists(st.binary(max_size=20), max_size=5), st.binary(max_size=20))
def test_any_bytes_are_joined_or_left(parts: list[bytes], head: bytes) -> None:
    joined = join([MARK + head, *parts])
    assert sum(map(len, joined)) <= sum(map(len, parts)) + len(head) + 1


def test_no_batch_begins_like_one_in_pieces() -> None:
    assert not bytes(wire.encode(0, [(m.Cancel([1]), ())])[0]).startswith(MARK)
    assert pieces.MARK == b"\xc1", "a byte that MessagePack never uses"
