"""Tasks that have ended, as blocks on a line of time, and how many there were in a second.

A map of tiny tasks is thousands of blocks that nobody could tell apart: those of one engine and one kind that
follow each other closely become one, which says how many it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ipkernel_ext.core.messages import Ended

CLOSE = 0.02  # seconds between two tasks that look as one
BLOCKS = 1024  # that are told at a time, at most


def kind(what: str) -> str:
    """What chunks of one map have in common."""
    return what.partition(" from item ")[0] if what.endswith(" on") else what


class Block(NamedTuple):
    """Tasks of one engine, one after the other."""

    engine: int
    begin: float  # seconds
    end: float
    what: str
    client: str
    failure: str  # of the last that failed; "": none
    tasks: int
    task: str  # id of the last

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.begin


def blocks(ended: Iterable[Ended], shift: float, most: int = BLOCKS) -> list[Block]:
    """Blocks of these tasks, in order of their end; what is too much is drawn more coarsely, then left out evenly.

    Parameters
    ----------
    shift : float
        Seconds from the clock of ``Ended.at`` to the clock that is wanted.
    """
    fine = [_block(one, shift) for one in ended if one.engine >= 0]
    close = CLOSE
    joined = _joined(fine, close)
    while len(joined) > most and close < 1.0:
        close *= 2
        joined = _joined(fine, close)
    return joined[:: -(-len(joined) // most) or 1]


def _block(ended: Ended, shift: float) -> Block:
    end = ended.at + shift
    client = ended.task.client
    return Block(
        ended.engine, end - ended.seconds, end, ended.what, client, ended.failure, 1, f"{client}:{ended.task.number}"
    )


def _joined(fine: Iterable[Block], close: float) -> list[Block]:
    last: dict[int, int] = {}  # by engine, where its latest block is
    joined: list[Block] = []
    for block in fine:
        place = last.get(block.engine)
        before = None if place is None else joined[place]
        if place is not None and before is not None and _follows(block, before, close):
            joined[place] = before._replace(
                end=max(block.end, before.end),
                what=kind(block.what),
                tasks=before.tasks + 1,
                task=block.task,
                failure=block.failure,
            )
        else:
            last[block.engine] = len(joined)
            joined.append(block)
    return joined


def _follows(block: Block, before: Block, close: float) -> bool:
    """Whether they look as one: small, of one kind, and hardly anything between them."""
    alike = (kind(block.what), block.client, bool(block.failure)) == (
        kind(before.what),
        before.client,
        bool(before.failure),
    )
    return alike and block.seconds < close and block.begin - before.end < close


class Rate:
    """Tasks that end in a second, from one look to the next."""

    def __init__(self) -> None:
        self._before: tuple[float, int] | None = None

    def at(self, clock: float, count: int) -> float:
        """After a look: the time, and how many have ended. 0 where an earlier look is unknown, or of another life."""
        before, self._before = self._before, (clock, count)
        if before is None or clock <= before[0] or count < before[1]:
            return 0.0
        return (count - before[1]) / (clock - before[0])
