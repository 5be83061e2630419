"""How many items of a map travel as one task, and the items cut for it.

A chunk that is too small costs more on its way than in user code; one that is too large leaves
engines idle in the end, and results late. So the first chunks are single items, and from how long
they took, and how large they were, the next ones are made to last ``AIM`` seconds. Towards the end
they get smaller. Pure: results in, sizes out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

AIM = 0.03  # seconds of work in a chunk
LEAST = 0.002  # seconds of work that a chunk of the last ones still has
BYTES = 4 * 2**20  # a chunk's items or values at most, except a single larger one
AHEAD = 2  # chunks under way for each engine
GROWTH = 64  # how many times larger than what has been measured a chunk may be
SMOOTHING = 0.5
UNKNOWN = 32  # chunks per engine, where all has to be sent before anything is known


class Pace:
    """What is known of a function's items: seconds and bytes of one."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._bytes = 0.0
        self._measured = 0  # items of the largest chunk that was measured; 0: nothing is known

    @property
    def known(self) -> bool:
        """Whether anything is."""
        return self._measured > 0

    def learn(self, items: int, seconds: float, size: int) -> None:
        """A chunk took so long in user code; ``size``: bytes of its items or values."""
        if items > 2 * self._measured:
            self._seconds = seconds / items  # of smaller chunks, more was spent on the way into user code
        else:
            self._seconds += SMOOTHING * (seconds / items - self._seconds)
        self._bytes = max(self._bytes, size / items)
        self._measured = max(self._measured, items)

    def size(self, engines: int, left: int | None = None) -> int:
        """Items for the next chunk.

        Parameters
        ----------
        left : int or None
            Items that are not sent yet; None where nobody knows.
        """
        if not self._measured:
            return 1
        size = min(self._lasting(AIM), self._measured * GROWTH)
        if left is not None:
            share = -(-left // (AHEAD * max(1, engines)))
            size = min(size, max(share, self._lasting(LEAST)))
        return max(1, min(size, int(BYTES / self._bytes) if self._bytes else size))

    def _lasting(self, seconds: float) -> int:
        return int(min(seconds / self._seconds, sys.maxsize)) if self._seconds else sys.maxsize


def even(items: int, engines: int) -> int:
    """Items of a chunk where nothing is known of them, and all chunks are sent at once."""
    return max(1, -(-items // (max(1, engines) * UNKNOWN)))


class Columns:
    """The arguments of a map: a sequence for each argument, cut together. The shortest ends it."""

    def __init__(self, iterables: Sequence[Iterable[Any]]) -> None:
        if all(_sliceable(one) for one in iterables):
            self._columns: list[Any] = list(iterables)
        elif len(iterables) == 1:
            self._columns = [list(iterables[0])]
        else:
            self._columns = list(zip(*zip(*iterables, strict=False), strict=True))
        self._length = min(map(len, self._columns), default=0)

    def __len__(self) -> int:
        return self._length

    def cut(self, start: int, size: int) -> list[Any]:
        """The arguments of some items."""
        stop = min(start + size, self._length)
        return [column[start:stop] for column in self._columns]


def _sliceable(sequence: Any) -> bool:
    """Whether slices hold the same items as iteration gives, and surely stay what they are."""
    if type(sequence) in (list, tuple, range, str, bytes):
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(sequence) is numpy.ndarray and sequence.ndim > 0


class Rows:
    """The arguments of a map that may never end, taken as they are wanted."""

    def __init__(self, iterables: Sequence[Iterable[Any]]) -> None:
        self._single = len(iterables) == 1
        self._rows: Iterator[Any] = iter(iterables[0]) if self._single else zip(*iterables, strict=False)

    def take(self, size: int, enough: Callable[[], bool]) -> tuple[list[Any], int]:
        """The arguments of up to so many items, and how many; fewer when ``enough`` says so, none at the end."""
        rows: list[Any] = []
        for row in islice(self._rows, size):
            rows.append(row)
            if enough():
                break
        return ([rows] if self._single else [list(column) for column in zip(*rows, strict=True)]), len(rows)
