"""The engines as a ``concurrent.futures.Executor``.

A call is pickled when it is submitted, and waits here until one of a few places for each worker is
free; so what waits can still be cancelled, as with the standard executors, and what was sent runs to
its end. How a call travels is the sender's business. A value is unpickled in the thread that asks.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, NamedTuple, TypeVar

from ipkernel_ext import payload
from ipkernel_ext.atomic import Condition
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.errors import ForkedClientError
from ipkernel_ext.futures import ClientFuture
from ipkernel_ext.net.client_channel import Channel, Receiver
from ipkernel_ext.pieces import Piece, decoded
from ipkernel_ext.remote_errors import error_of
from ipkernel_ext.results import PENDING_AT_FORK, NotOpened, advise_to_seed

PLACES = 2
"""Calls that are sent, for each worker."""

T = TypeVar("T")


class PickledCall(NamedTuple):
    """A pickled call."""

    digest: str
    function: Sequence[Frame]
    frames: Sequence[Frame]
    name: str


class EngineFuture(ClientFuture):
    """The future of a call on an engine.

    Attributes
    ----------
    left : bool
        Whether its place is somebody else's.
    """

    left = False

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._piece = Piece()
        self._opened: tuple[bool, Any] | None = None

    def result(self, timeout: float | None = None) -> Any:  # seconds
        """The call's value, or what it raised."""
        self._check_process()
        try:
            super().result(timeout)
        except NotOpened:
            pass  # it is in the piece
        good, answer = self._open()
        try:
            if good:
                return answer
            raise answer
        finally:
            del self, answer

    def exception(self, timeout: float | None = None) -> BaseException | None:  # seconds
        """What the call raised, or None."""
        self._check_process()
        error = super().exception(timeout)
        if error is not None and not isinstance(error, NotOpened):
            return error
        good, answer = self._open()
        return None if good else answer

    def _check_process(self) -> None:
        """A fork does not hear what comes for the process that made the call."""
        if self._channel.forked and not self.done():
            raise ForkedClientError(PENDING_AT_FORK)

    def end(self, piece: Piece) -> None:
        """The call has ended."""
        self._piece = piece
        failed = piece.result is not None and piece.result.failure is not None
        self.settle(NotOpened() if failed else None)

    def _open(self) -> tuple[bool, Any]:
        if self._opened is None:
            error = error_of(self._piece)
            if self._piece.result is not None:
                advise_to_seed(self._channel, self._piece.result)
            try:
                self._opened = (True, decoded(self._piece)) if error is None else (False, error)
            except Exception as failed:
                self._opened = False, failed
        return self._opened


class EngineExecutor(Executor):
    """Calls on engines, one at a time on each. Ends with ``shutdown``; the engines go on.

    Parameters
    ----------
    channel
        Of the client whose engines these are.
    send
        Sends a call, whose result goes to the receiver.
    workers : int
        How many engines there are for it.
    """

    def __init__(self, channel: Channel, send: Callable[[Receiver, PickledCall], None], workers: int) -> None:
        self._channel = channel
        self._send = send
        self._places = PLACES * max(1, workers)
        self._waiting: deque[tuple[EngineFuture, PickledCall]] = deque()
        self._sent = 0
        self._shut = False
        self._changed = Condition()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call ``fn(*args, **kwargs)`` on an engine. All keywords are its own."""
        future = EngineFuture(self._channel)
        with self._changed:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
        try:
            digest, function = payload.dumps_function(fn)
            frames = payload.own(self._channel.share(payload.dumps_call(args, kwargs)))
            call = PickledCall(digest, function, frames, payload.name_of(fn))
        except Exception as error:
            future.set_running_or_notify_cancel()
            future.set_exception(error)
            return future
        with self._changed:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append((future, call))
        self._fill()
        return future

    def decline(self, wanted: m.InputWanted) -> None:
        """A call asks for a line; nobody types."""
        self._channel.give(wanted.task.number, wanted.asked, None, "nobody types for the calls of an executor")

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,  # seconds
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[T]:
        """``map(fn, *iterables)``, all of it submitted at once; ``chunksize`` items travel together."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **options)
        chunks = _chunks(zip(*iterables, strict=False), chunksize)
        return _one_by_one(super().map(functools.partial(_each, fn), chunks, timeout=timeout, **options))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; wait for those that there are, or cancel what has not been sent."""
        with self._changed:
            self._shut = True
            waiting = [future for future, _ in self._waiting] if cancel_futures else []
        for future in waiting:
            future.cancel()
        self._fill()
        if wait:
            with self._changed:
                self._changed.wait_for(lambda: not self._sent and not self._waiting)

    def _fill(self) -> None:
        """Send what there is a place for. What was cancelled needs none."""
        while True:
            counted: EngineFuture | None = None
            try:
                with self._changed:
                    if not self._waiting or (self._sent >= self._places and not self._waiting[0][0].cancelled()):
                        return
                    future, call = self._waiting.popleft()
                    if not future.set_running_or_notify_cancel():
                        self._changed.notify_all()
                        continue
                    counted = future
                    self._sent += 1
                self._send(_Place(self, future), call)
            except Exception as error:
                if counted is None:
                    raise
                self.leave(counted, error)
            except BaseException:
                if counted is not None:
                    self.leave(counted, CancelledError("Ctrl-C came while it was sent"))
                raise

    def leave(self, future: EngineFuture, outcome: Piece | Exception) -> None:
        """A call has ended: its place is free. Nothing happens when that was said before."""
        with self._changed:
            if future.left:
                return
            future.left = True
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.end(outcome)
        with self._changed:
            self._sent -= 1
            self._changed.notify_all()
        self._fill()


class _Place:
    """Receives the result of a call that was sent."""

    def __init__(self, executor: EngineExecutor, future: EngineFuture) -> None:
        self._executor = executor
        self._future = future

    def on_result(self, result: m.Result, frames: Sequence[Frame]) -> None:
        """It ended."""
        piece = Piece()
        piece.result, piece.frames = result, frames
        self._executor.leave(self._future, piece)

    def on_output(self, output: m.Stream | m.Display) -> None:
        """A future has no place for what a call wrote."""

    def on_input(self, wanted: m.InputWanted) -> None:
        """Nobody types anything for it."""
        self._executor.decline(wanted)


def _each(fn: Callable[..., T], rows: Iterable[tuple[Any, ...]]) -> list[T]:
    return [fn(*row) for row in rows]


def _chunks(rows: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    while chunk := list(itertools.islice(rows, size)):
        yield chunk


def _one_by_one(lists: Iterator[list[T]]) -> Iterator[T]:
    """The items of lists that are nobody else's; what was taken is not kept."""
    for values in lists:
        values.reverse()
        while values:
            yield values.pop()
