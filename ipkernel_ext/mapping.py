"""Maps on their way: chunks sent as engines come free, values taken as they come.

A map that blocks sends its chunks little by little, from the calling thread, and learns from those
that are done how large the next ones should be. One that does not block is sent at once, since
its client may leave. ``imap`` is a generator that takes its input as it goes, and keeps a bounded
number of chunks under way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ipkernel_ext import payload
from ipkernel_ext.atomic import Condition
from ipkernel_ext.chunks import AHEAD, AIM, Columns, Pace, Rows, even
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.net.client_channel import Channel
from ipkernel_ext.pieces import Piece, decoded
from ipkernel_ext.remote_errors import error_of
from ipkernel_ext.results import MapResult, advise_to_seed

WINDOW = 4
"""Chunks of an ``imap`` for each engine that are sent or done, and not yet taken."""

SendChunk = Callable[[Any, int, int, Sequence[Frame]], None]
"""Sends a chunk: its receiver, its number, the index of its first item, its frames."""


def send_all(result: MapResult, columns: Columns, size: int | None, engines: int, send: SendChunk) -> None:
    """Send a map as it is, in chunks of this size; None: as large as is good, as far as that is known."""
    start = 0
    with _cancelling(result):
        while start < len(columns):
            left = len(columns) - start
            count = min(
                left, size or (result.pace.size(engines, left) if result.pace.known else even(len(columns), engines))
            )
            frames = payload.dumps_items(columns.cut(start, count), start)
            send(result, result.grow(count, _bytes(frames)), start, frames)
            start += count


def feed(
    result: MapResult,
    columns: Columns,
    size: int | None,
    engines: Callable[[], int],
    send: SendChunk,
    show: Callable[[int], None],
) -> None:
    """Send a map's chunks as engines come free. Returns when all are sent, or one has failed.

    Parameters
    ----------
    engines
        Says how many there are.
    show
        Told how many items are done.
    """
    start = 0
    with _cancelling(result):
        while start < len(columns) and not result.failing:
            left = len(columns) - start
            count = min(left, size or result.pace.size(engines(), left))
            frames = payload.dumps_items(columns.cut(start, count), start)
            send(result, result.grow(count, _bytes(frames)), start, frames)
            start += count
            if size is None:
                result.wait_for_room(max(1, engines() * (AHEAD if result.pace.known else 1)))
            show(result.progress)


@contextmanager
def _cancelling(result: MapResult) -> Iterator[None]:
    """Nothing more is sent afterwards; what was sent is cancelled where the rest cannot be."""
    try:
        yield
    except BaseException:
        result.cancel()
        raise
    finally:
        result.complete()


def _bytes(frames: Sequence[Frame]) -> int:
    return sum(map(len, frames))


def _passed(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


class Flight:
    """The chunks of an ``imap`` that are under way, and those that are done and not yet taken.

    Parameters
    ----------
    ordered : bool
        Take chunks in order of the items, or as they come.
    pace
        Learns from them.
    """

    def __init__(self, channel: Channel, hosts: dict[int, str], ordered: bool, pace: Pace) -> None:
        self._channel = channel
        self._hosts = hosts
        self._ordered = ordered
        self._pace = pace
        self._news = Condition()
        self._pieces: dict[int, tuple[int, int, Piece]] = {}  # by number: items, bytes
        self._done: deque[int] = deque()  # numbers, in order of arrival

    def __len__(self) -> int:
        return len(self._pieces)

    def add(self, number: int, items: int, size: int) -> None:
        """A chunk is about to be sent."""
        self._pieces[number] = items, size, Piece()

    def on_result(self, result: m.Result, frames: Sequence[Frame]) -> None:
        """A chunk ended."""
        with self._news:
            items, size, piece = self._pieces[result.task.number]
            piece.result, piece.frames = result, frames
            if result.failure is None:
                self._pace.learn(items, result.seconds, max(size, _bytes(frames)))
            self._done.append(result.task.number)
            self._news.notify_all()

    def on_output(self, output: m.Stream | m.Display) -> None:
        """Nobody asks for what an item wrote."""

    def on_input(self, wanted: m.InputWanted) -> None:
        """Nobody types anything for an item."""
        self._channel.give(wanted.task.number, wanted.asked, None, "nobody types for the items of an imap")

    @property
    def ready(self) -> bool:
        """Whether the next chunk can be taken without waiting."""
        if self._ordered:
            return bool(self._pieces) and next(iter(self._pieces.values()))[2].result is not None
        return bool(self._done)

    @property
    def channel(self) -> Channel:
        """Where its chunks travel."""
        return self._channel

    def take(self) -> tuple[int, Piece]:
        """The next chunk's number of items and its piece; waits for it."""
        with self._news:
            self._news.wait_for(lambda: self.ready)
            number = next(iter(self._pieces)) if self._ordered else self._done.popleft()
            items, _, piece = self._pieces.pop(number)
            return items, piece

    def values(self, return_exceptions: bool) -> list[Any]:
        """The next chunk's values; raises what it failed with."""
        items, piece = self.take()
        assert piece.result is not None
        error = error_of(piece, self._hosts.get(piece.result.engine, ""))
        if error is None:
            advise_to_seed(self._channel, piece.result)
            values: list[Any] = decoded(piece)
            return values
        if return_exceptions:
            return [error] * items
        raise error

    def cancel(self) -> None:
        """Nobody wants the rest."""
        with self._news:
            open = [number for number, (_, _, piece) in self._pieces.items() if piece.result is None]
        if open:
            self._channel.cancel(open)


def stream(
    flight: Flight,
    rows: Rows,
    size: int | None,
    engines: Callable[[], int],
    send: SendChunk,
    return_exceptions: bool,
    pace: Pace,
    show: Callable[[int], None],
) -> Iterator[Any]:
    """The values of an ``imap``: what is ready first, then input while there is room, then what comes."""
    start = done = 0
    more = True
    try:
        while more or len(flight):
            if flight.ready or not (more and len(flight) < WINDOW * max(1, engines())):
                for value in flight.values(return_exceptions):
                    yield value
                    done += 1
                show(done)
                continue
            slow = _passed(AIM)  # input that comes slowly is not waited for
            columns, count = rows.take(size or pace.size(max(1, engines())), slow)
            more = count > 0
            if more:
                frames = payload.dumps_items(columns, start)
                [number] = flight.channel.next_numbers(1)
                flight.add(number, count, _bytes(frames))
                send(flight, number, start, frames)
                start += count
    finally:
        flight.cancel()
