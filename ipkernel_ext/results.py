"""What a call gives back while it may still run: ``AsyncResult``, and its kinds.

A result is unpickled when it is asked for, in the thread that asks. How a call is sent is not
known here; a result knows its channel only to cancel.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures._base import RUNNING
from time import perf_counter
from types import MappingProxyType
from typing import Any

import msgspec

from ipkernel_ext import bars, dialogue, errors, futures, interruption, payload, waiting
from ipkernel_ext.advice import advise
from ipkernel_ext.brief import briefly
from ipkernel_ext.chunks import Pace
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.messages import TaskId
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.futures import ClientFuture
from ipkernel_ext.net.client_channel import Channel
from ipkernel_ext.pieces import Decode, Output, Piece, ResultList, RichOutput, Times, decoded
from ipkernel_ext.remote_errors import at_items, composite, error_of
from ipkernel_ext.units import bytes_text, count


class NotOpened(Exception):
    """In a future, for an exception that nobody has asked for yet and that is still pickled."""


def advise_to_seed(channel: Channel, result: m.Result) -> None:
    """Warn, once, that the value of a balanced task would be another one the next time."""
    if result.unseeded and UNSEEDED not in channel.advised:
        channel.advised.add(UNSEEDED)
        advise(UNSEEDED)


UNSEEDED = (
    "this uses random numbers of random or numpy.random, which nobody has seeded: "
    "the next run gives other results. map(…, seed=n), or rc.seed(n) or %pxseed n before, makes them the same again"
)


PENDING_AT_FORK = (
    "this result was not there yet when its process was forked, and only that one gets it: "
    "wait for it before the fork, or make a new RemoteController here and the call again"
)


PENDING_IN_TURN = (
    "this runs in the midst of taking what has arrived, as a finalizer may, and what it waits for could never come: "
    "send without waiting (block=False) there"
)


def waiting_time(timeout: Any) -> float | None:
    """Seconds to wait, checked; None: for ever.

    Raises
    ------
    TypeError, ValueError
        It is no time.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not (hasattr(timeout, "__float__") or hasattr(timeout, "__index__")):
        raise TypeError(f"timeout is a number of seconds, or None to wait for ever, not {timeout!r}")
    seconds = float(timeout)
    if not seconds >= 0:
        raise ValueError(f"timeout is 0 seconds or more, or None to wait for ever, not {timeout!r}")
    return seconds if seconds < threading.TIMEOUT_MAX else None


class AsyncResult(ClientFuture):
    """The result of a call that may still run. It is a ``concurrent.futures.Future``.

    ``get()`` gives what the blocking call gives. Over several engines, or a map, it can be
    iterated as values arrive; ``len`` counts the engines, or the items.

    Parameters
    ----------
    channel
        To cancel through.
    numbers : range or list of int
        The call's tasks.
    engine_ids : list of int or None
        Where they go; None for balanced ones.
    hosts
        Host by engine id, for error notes.

    Attributes
    ----------
    when_collected
        Called, once, when somebody has asked for the value and it is there.
    max_result : int
        Bytes that all its tasks' values may have together; 0: any number. What comes beyond them is dropped.
    asked : dict
        By task number, what its tasks ask the user for, and wait for.
    """

    _pieces: Sequence[Piece]
    _more = 0  # 1: tasks may be added
    _typed_here = False  # what its tasks ask for is typed here, though this is no terminal
    _ended: float | None = None
    _answer: tuple[bool, Any] | None = None
    _seen: Sequence[int] = ()  # how much of each piece's output was followed
    when_collected: Callable[[], Any] = staticmethod(lambda: None)
    max_result = 0
    _size = 0  # bytes
    asked: Mapping[int, m.InputWanted] = MappingProxyType({})
    _attended = 0  # threads that wait for it
    _order: Any = ()  # pieces in order of arrival
    _state = RUNNING

    def __init__(
        self,
        channel: Channel,
        numbers: Sequence[int],
        engine_ids: Sequence[int] | None = None,
        hosts: dict[int, str] | None = None,
        decode: Decode = decoded,
    ) -> None:
        self._channel = channel
        self._numbers = numbers
        self._engine_ids = None if engine_ids is None else list(engine_ids)
        self._hosts = hosts or {}
        self._decode = decode
        self._first = numbers[0] if numbers else 0
        self._open = tasks = len(numbers) + self._more
        if tasks == 1 and not self._more:
            self._pieces = (Piece(),)  # of which the garbage collector loses sight, unlike a list
        else:
            self._pieces, self._order = [Piece() for _ in numbers], []
        self._begun = perf_counter()
        interruption.note(self)
        if not tasks:
            self._finish(self._begun)

    # ------------------------------------------------------------ from the I/O thread

    def on_result(self, result: m.Result, frames: Sequence[Frame]) -> None:
        """One of the tasks ended."""
        number = result.task.number
        index = number - self._first
        piece = self._pieces[index]
        if self.max_result:
            self._size += len(frames[0]) if len(frames) == 1 else sum(map(len, frames))
            if self._size > self.max_result:
                result, frames = _dropped(result, self.max_result), ()
        piece.frames, piece.came = frames, perf_counter()
        if result.failure is not None and result.engine >= 0:
            self._channel.note_failed(self._first, result.engine)
        ended = None
        with futures.lock:
            if self.asked:
                ended = self._ask_no_more(number)
            piece.result = result
            self._order += (index,)
            self._open -= 1
            last = self._open == 0
            self._on_piece(index)
            if not last:
                self.tell()
        if ended is not None:
            dialogue.announce_end(ended)
        if last:
            self._finish(piece.came)  # tells too: who waits for the whole is not woken twice

    def _on_piece(self, index: int) -> None:
        """A piece has its result; for subclasses."""

    def on_output(self, output: Output) -> None:
        """One of the tasks wrote something."""
        assert output.task is not None
        with futures.lock:
            self._pieces[output.task.number - self._first].write(output)
            self.tell()

    def on_input(self, wanted: m.InputWanted) -> None:
        """One of the tasks asks for a line: whoever waits here has the user type it."""
        if not self._typed_here and not dialogue.possible():
            self._channel.give(wanted.task.number, wanted.asked, None, dialogue.NO_KEYBOARD)
            return
        with futures.lock:
            self.asked = {**self.asked, wanted.task.number: wanted}
            self._channel.asking.add(self)
            self.tell()
            attended = self._attended
        if not attended:
            dialogue.announce(wanted)

    def _ask_no_more(self, number: int) -> m.InputWanted | None:
        """What a task has asked for, and does not any more."""
        wanted = self.asked.get(number)
        if wanted is not None:
            self.asked = {other: asked for other, asked in self.asked.items() if other != number}
        return wanted

    def answer(self, wanted: m.InputWanted, text: str | None, why: str = "") -> None:
        """Give a task the line that it asked for; None: there is none, and why."""
        with futures.lock:
            if self.asked.get(wanted.task.number) is wanted:
                self._ask_no_more(wanted.task.number)
        self._channel.give(wanted.task.number, wanted.asked, text, why)

    def is_open(self, task: TaskId) -> bool:
        """Whether a task of it has not ended."""
        return self._pieces[task.number - self._first].result is None

    def look(self, engine: int, inspection: m.Inspection, patience: float) -> dict[str, Any]:  # seconds
        """What an engine tells though it is busy; nothing if it does not answer in time."""
        asked = self._channel.ask(lambda request: m.Inspect(request, [engine], inspection, patience))
        try:
            return dict(asked.result(2 * patience)["engines"][0][1])
        except TimeoutError:
            return {}

    def interrupt(self, engine: int) -> None:
        """Interrupt what an engine runs at this moment."""
        self._channel.tell(m.Interrupt([engine]))

    def asks_here(self) -> bool:
        """Whether the calling thread is to have the user type something before it goes on waiting."""
        return bool(self.asked) and threading.current_thread() is threading.main_thread()

    def _until(self, enough: Callable[[], bool], timeout: float | None = None) -> bool:  # seconds
        """Wait until this is so. What tasks ask for meanwhile, the user is asked for. False when the time ran out."""
        until = None if timeout is None else time.monotonic() + timeout
        watch = waiting.Watch(self._channel)

        def called() -> bool:
            return enough() or self.asks_here()

        def left() -> float:
            turn = watch.turn if until is None else min(watch.turn, max(0.0, until - time.monotonic()))
            return min(turn, threading.TIMEOUT_MAX)

        while True:
            self._check_may_wait()
            with futures.lock:
                self._attended += 1
            try:
                if self._more or futures.is_mine() or not self._channel.attend(called, left()):
                    with futures.lock:
                        self._condition.wait_for(called, left())
                if enough():
                    return True
            finally:
                with futures.lock:
                    self._attended -= 1
            if self.asks_here():
                dialogue.hold(self)
            elif until is not None and time.monotonic() >= until:
                return False
            else:
                watch.say()

    def watch(self) -> waiting.Watch:
        """Tells, while somebody waits for this, what engines do first and whether the controller answers."""
        return waiting.Watch(self._channel, waiting.what_runs, after=1.0, again=3.0)

    def _check_may_wait(self) -> None:
        """Neither a fork hears what comes for the process that made the call, nor who hands over what comes."""
        if self._channel.forked and self._open:
            raise errors.ForkedClientError(PENDING_AT_FORK)
        if self._channel.turning and self._open:
            raise RuntimeError(PENDING_IN_TURN)

    def _finish(self, now: float) -> None:
        self._ended = now
        if self._state == RUNNING:
            self.settle(NotOpened() if self._has_failed() else None)

    def _has_failed(self) -> bool:
        """Whether ``get`` will raise; a standard ``wait`` for the first exception wants to know."""
        for piece in self._pieces:  # noqa: SIM110 - a generator costs more than the rest, for each task
            if piece.result is not None and piece.result.failure is not None:
                return True
        return False

    # ------------------------------------------------------------ waiting

    def wait(self, timeout: float | None = None) -> bool:  # seconds
        """Wait until all is done. False when the time ran out."""
        timeout = waiting_time(timeout)
        return super().done() or self._until(super().done, timeout)

    def _wait_to_get(self, timeout: float | None) -> bool:  # seconds
        """``wait``; for subclasses that have something to do meanwhile."""
        return self.wait(timeout)

    @briefly
    def get(self, timeout: float | None = None) -> Any:  # seconds
        """What the blocking call gives.

        Raises
        ------
        TimeoutError
            Not done in time; the task goes on.
        CompositeError
            Several engines were addressed and some failed.
        Exception
            What the one engine raised.
        """
        if not (self.done() and timeout is None) and not self._wait_to_get(timeout):
            go = "goes" if self._open == 1 else "go"
            raise TimeoutError(
                f"not done after {timeout:g} s: {self._open} of {count(len(self._pieces), 'task')} {go} on"
            )
        if self._answer is None:
            try:
                self._answer = True, self._assemble()
            except Exception as error:
                self._answer = False, error
            self.when_collected()
        good, answer = self._answer
        if good:
            return answer
        try:
            raise answer.with_traceback(None)  # else each time adds to it
        finally:
            del answer

    @property
    @briefly
    def r(self) -> Any:
        """``get()``."""
        return self.get()

    def result(self, timeout: float | None = None) -> Any:
        """``get(timeout)``, under its name in ``concurrent.futures``; there less than 0 is 0."""
        if timeout is not None and isinstance(timeout, int | float) and timeout < 0:
            timeout = 0
        return self.get(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception that ``get(timeout)`` raises, or None."""
        try:
            self.result(timeout)
        except TimeoutError:
            if not self.done():
                raise
        except Exception:
            if self._answer is None:
                raise
        assert self._answer is not None
        good, answer = self._answer
        return None if good else answer

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio  # which takes as long to import as half of this package

        return asyncio.wrap_future(self).__await__()

    def _assemble(self) -> Any:
        """The value of the whole call, once all pieces are here; raises what it failed with."""
        raise NotImplementedError

    def _value(self, index: int) -> Any:
        """The value of one piece that is here; raises what it failed with."""
        piece = self._pieces[index]
        result = piece.result
        assert result is not None, "the piece is not here yet"
        if result.failure is not None:
            error = error_of(piece, self._hosts.get(result.engine, ""))
            assert error is not None
            raise error
        if result.unseeded and self._engine_ids is None:
            advise_to_seed(self._channel, result)
        return self._decode(piece)

    # ------------------------------------------------------------ state

    def ready(self) -> bool:
        """Whether all is done."""
        return self.done()

    def successful(self) -> bool:
        """Whether all is done without an error."""
        return self.done() and self.exception() is None

    def cancelled(self) -> bool:
        """Whether it ended by being cancelled."""
        error = self.exception() if self.done() else None
        members = error.exceptions if isinstance(error, errors.CompositeError) else [error]
        return all(isinstance(member, CancelledError) for member in members)

    def cancel(self) -> bool:
        """Take queued tasks away and interrupt running ones. Returns at once; ``done()`` tells when it took effect.

        Returns
        -------
        bool
            False when there was nothing left to cancel.
        """
        open = [number for number, piece in zip(self._numbers, self._pieces, strict=False) if piece.result is None]
        if open:
            self._channel.cancel(open)
        return bool(open)

    def set_result(self, result: Any) -> None:
        """What an engine gives is set by the engine: this raises ``InvalidStateError``."""
        raise InvalidStateError("a result that comes from engines cannot be set here")

    def set_exception(self, exception: BaseException | None) -> None:
        """As ``set_result``."""
        raise InvalidStateError("an error that comes from engines cannot be set here")

    @property
    def progress(self) -> int:
        """How many tasks are done."""
        return len(self._pieces) - self._open

    @property
    def elapsed(self) -> float:
        """Seconds since the call was sent, until it was done."""
        return (self._ended or time.perf_counter()) - self._begun

    @property
    def engine_ids(self) -> list[int | None]:
        """Which engines run, or ran, the tasks; None where that is not known yet."""
        if self._engine_ids is not None:
            return list(self._engine_ids)
        return [None if p.result is None or p.result.engine < 0 else p.result.engine for p in self._pieces]

    @property
    def addressed(self) -> bool:
        """Whether the call named its engines; else it is balanced."""
        return self._engine_ids is not None

    @property
    def task_ids(self) -> list[str]:
        """Ids of the tasks."""
        return [str(TaskId(self._channel.client, number)) for number in self._numbers]

    def tasks(self) -> list[tuple[TaskId, m.Result | None]]:
        """The tasks, each with its result where that is here."""
        client = self._channel.client
        numbered = zip(self._numbers, self._pieces, strict=True)
        return [(TaskId(client, number), piece.result) for number, piece in numbered]

    @property
    def metadata(self) -> list[dict[str, Any]]:
        """Per task: ``task_id``, ``engine_id``, ``host``, ``status``, ``seconds`` in user code, ``execution_count``."""
        records = []
        for id, engine, piece in zip(self.task_ids, self.engine_ids, self._pieces, strict=True):
            result = piece.result
            status = "pending" if result is None else "ok" if result.failure is None else "error"
            records.append(
                {
                    "task_id": id,
                    "engine_id": engine,
                    "host": self._hosts.get(-1 if engine is None else engine),
                    "status": status,
                    "seconds": None if result is None else result.seconds,
                    "execution_count": None if result is None else result.execution,
                }
            )
        return records

    @property
    def times(self) -> list[Times]:
        """Of each task that has ended: where, how long it was under way, in user code, and on processors."""
        return [
            Times(piece.result.engine, piece.came - self._begun, piece.result.seconds, piece.result.cpu)
            for piece in self._pieces
            if piece.result is not None
        ]

    @property
    def stdout(self) -> Any:
        """What was written to stdout so far: a string, over several engines a list of them."""
        return self._per_piece(lambda piece: piece.text("stdout"))

    @property
    def stderr(self) -> Any:
        """What was written to stderr so far: a string, over several engines a list of them."""
        return self._per_piece(lambda piece: piece.text("stderr"))

    @property
    def outputs(self) -> Any:
        """Rich outputs so far, a list of ``RichOutput``."""
        return [RichOutput(d.bundle, d.metadata) for piece in self._pieces for d in piece.displays]

    def _per_piece(self, read: Callable[[Piece], str]) -> Any:
        return [read(piece) for piece in self._pieces]

    def logs(self) -> dict[int, list[Output]]:
        """All output so far, by engine."""
        logs: dict[int, list[Output]] = {}
        for piece in self._pieces:
            for output in list(piece.log):
                logs.setdefault(output.engine, []).append(output)
        return dict(sorted(logs.items()))

    def follow(self, until: float | None = None, enough: Callable[[], bool] = lambda: False) -> Iterator[Output]:
        """Output as it arrives, until all is done, or the monotonic clock says ``until``, or it is enough.

        Calling it again goes on where the last one stopped.
        """
        self._check_may_wait()
        while True:
            with futures.lock:
                seen = [*self._seen, *[0] * (len(self._pieces) - len(self._seen))]
                fresh = [o for piece, n in zip(self._pieces, seen, strict=True) for o in piece.log[n:]]
                self._seen = [len(piece.log) for piece in self._pieces]
                done = self._open == 0
                if not fresh and not done:
                    left = None if until is None else until - time.monotonic()
                    if (left is not None and left <= 0) or enough():
                        return
                    self._attended += 1
                    try:
                        self._condition.wait(left)
                    finally:
                        self._attended -= 1
            yield from fresh
            if (done and not fresh) or (until is not None and not done and time.monotonic() >= until):
                return

    def wait_interactive(self) -> None:
        """Wait with a progress bar."""
        with bars.bar(len(self), delay=0.5, leave=False) as bar:
            self.show_progress(bar)

    def show_progress(self, bar: Any) -> None:
        """Keep a bar of tqdm up to date until all is done."""
        while not self.done():
            before = self.progress
            self._until(lambda: self.progress > before, 0.5)  # noqa: B023 - called at once
            bar.update(self.progress - bar.n)

    def _arrivals(self) -> Iterator[int]:
        """Indices of the pieces as they arrive."""
        seen = 0
        while seen < len(self._pieces):
            self._until(lambda: len(self._order) > seen)  # noqa: B023 - called at once
            fresh = self._order[seen:]
            yield from fresh
            seen += len(fresh)

    def __reduce__(self) -> Any:
        raise payload.StaysHere("a result that may not be there yet cannot be sent: pass result.get(), or after=result")

    def __len__(self) -> int:
        return len(self._pieces)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        """Values as they arrive, in order of the engines or items."""
        for index in range(len(self._pieces)):
            self._until(lambda: self._pieces[index].result is not None)  # noqa: B023 - called at once
            yield from self._values(index)

    @briefly
    def __getitem__(self, which: int | slice) -> Any:
        """The value of the n-th engine, or item, once it is there; of a slice a list."""
        if isinstance(which, slice):
            return [self[n] for n in range(*which.indices(len(self)))]
        return self._item(range(len(self))[which])

    def _item(self, position: int) -> Any:
        self._until(lambda: self._pieces[position].result is not None)
        return self._value(position)

    def _values(self, index: int) -> Sequence[Any]:
        return [self._value(index)]

    def __repr__(self) -> str:
        state = "done" if self.done() else f"{self.progress} of {len(self._pieces)} done"
        return f"<{AsyncResult.__name__}: {state}>"


def _dropped(result: m.Result, limit: int) -> m.Result:
    """Of a result, what is left when its value would be too much."""
    if result.failure is not None:
        return result
    text = (
        f"the results of this call have more than {bytes_text(limit)} together, which is all that this client takes: "
        f"the one on engine {result.engine} was dropped. Ask fewer engines at a time, take a map's values one by one "
        "with imap, or set rc.max_result higher"
    )
    name = errors.ResultTooLarge.__name__
    return msgspec.structs.replace(result, failure=m.Failure(name, name, text))


class SingleResult(AsyncResult):
    """Of a call on one engine, or of one balanced task: its value."""

    def _has_failed(self) -> bool:
        result = self._pieces[0].result
        return result is not None and result.failure is not None

    def _assemble(self) -> Any:
        return self._value(0)

    def _item(self, position: int) -> Any:
        return self.get()

    def _per_piece(self, read: Callable[[Piece], str]) -> Any:
        return read(self._pieces[0])


class FetchedResult(SingleResult):
    """Of a task by its id: another client's, or one whose client has left.

    ``cancel`` ends the waiting; the task is its own client's to cancel.
    """

    def __init__(self, channel: Channel, numbers: Sequence[int], hosts: dict[int, str], task: TaskId, decode: Decode):
        self._task = task
        super().__init__(channel, numbers, None, hosts, decode)
        self._first = task.number

    def on_result(self, result: m.Result, frames: Sequence[Frame]) -> None:
        """It came, as that of a task of this client."""
        super().on_result(msgspec.structs.replace(result, task=self._task), frames)

    def on_output(self, output: Output) -> None:
        """Some of its output came, likewise."""
        super().on_output(msgspec.structs.replace(output, task=self._task))

    @property
    def task_ids(self) -> list[str]:
        """Of the task, as its client has it."""
        return [str(self._task)]

    def tasks(self) -> list[tuple[TaskId, m.Result | None]]:
        """That task."""
        return [(self._task, self._pieces[0].result)]


class DebugResult(SingleResult):
    """Of a debugger that the user has called."""

    _typed_here = True


class ListResult(AsyncResult):
    """Of a call on several engines: a list in engine order, or a ``CompositeError``."""

    def _item(self, position: int) -> Any:
        if self._answer is not None and self._answer[0]:
            return self._answer[1][position]
        return super()._item(position)

    def _assemble(self) -> Any:
        values, failed = [], []
        for index in range(len(self._pieces)):
            try:
                values.append(self._value(index))
            except Exception as error:
                failed.append(error.with_traceback(None))
        if failed:
            raise composite(failed, len(self._pieces))
        return self._join(values)

    def _join(self, values: list[Any]) -> Any:
        return values


class CodeResult(ListResult):
    """Of ``execute`` on several engines."""

    def _join(self, values: list[Any]) -> ResultList:
        return ResultList(values)


class JoinedResult(ListResult):
    """Of a gather: the pieces joined."""

    def __init__(self, join: Callable[[list[Any]], Any], *args: Any, **kwargs: Any) -> None:
        self._joiner = join
        super().__init__(*args, **kwargs)

    def _item(self, position: int) -> Any:
        return self.get()[position]

    def _join(self, values: list[Any]) -> Any:
        return self._joiner(values)


class MapResult(AsyncResult):
    """Of a map: the items' values in order; the first failing item in input order raises its own exception.

    Its tasks are chunks, which are added as they are sent.

    Parameters
    ----------
    items : int
        How many there are in all.
    first : int
        Number of the first chunk; those up to ``first + items`` are its own.
    ordered : bool
        Values in order of the items, or of their arrival.
    return_exceptions : bool
        Failed items are values.
    pace
        Learns from the chunks.
    """

    _pieces: list[Piece]
    _more = 1

    def __init__(
        self,
        channel: Channel,
        hosts: dict[int, str],
        items: int,
        first: int,
        ordered: bool,
        return_exceptions: bool,
        pace: Pace,
    ) -> None:
        self._items = items
        self._sizes: list[int] = []
        self._bytes: list[int] = []
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._values_of: dict[int, list[Any]] = {}
        self._unpickled = 0  # of those that have arrived
        self.pace = pace
        self.failing = False
        """Whether an item has failed, so that those after it are not wanted."""
        self._chunks: list[int] = []  # their numbers
        super().__init__(channel, self._chunks, None, hosts)
        self._first = first

    def grow(self, items: int, size: int) -> int:
        """One more chunk, of so many bytes; its number."""
        with futures.lock:
            number = self._first + len(self._chunks)
            self._pieces.append(Piece())
            self._sizes.append(items)
            self._bytes.append(size)
            self._chunks.append(number)  # last: Ctrl-C may come after each line, and what it cancels is looked up here
            self._open += 1
        return number

    def complete(self) -> None:
        """There are no more chunks to come."""
        with futures.lock:
            self._open -= self._more
            self._more = 0
            last = self._open == 0
            self._condition.notify_all()
        if last:
            self._finish(perf_counter())

    def wait_for_room(self, chunks: int) -> None:
        """Wait until fewer chunks than these are under way, or an item has failed."""
        self._unpickle_until(lambda: self.failing or self._open - self._more < chunks)

    def _wait_to_get(self, timeout: float | None) -> bool:  # seconds
        return self._unpickle_until(self.done, waiting_time(timeout))

    def _unpickle_until(self, enough: Callable[[], bool], timeout: float | None = None) -> bool:  # seconds
        """Wait until this is so, and unpickle meanwhile what has arrived. False when the time ran out."""
        until = None if timeout is None else time.monotonic() + timeout
        while not enough():
            place = self._unpickled
            if place < len(self._order):
                self._unpickled = place + 1
                self._unpickle(self._order[place])
                continue
            left = None if until is None else until - time.monotonic()
            if not self._until(lambda: enough() or self._unpickled < len(self._order), left):
                return False
        return True

    def _unpickle(self, index: int) -> None:
        """Unpickle a piece that is here. What is to be said or raised of it is left to whoever asks for its value."""
        piece = self._pieces[index]
        assert piece.result is not None
        if piece.result.failure is None and not piece.result.unseeded and index not in self._values_of:
            with contextlib.suppress(Exception):
                self._values_of.setdefault(index, self._decode(piece))

    def _on_piece(self, index: int) -> None:
        """What comes after a failed item is not wanted any more; what comes before may fail too, and would count."""
        piece = self._pieces[index]
        assert piece.result is not None
        if piece.result.failure is None:
            size = max(self._bytes[index], sum(map(len, piece.frames)))
            self.pace.learn(self._sizes[index], piece.result.seconds, size)
        elif not self._return_exceptions:
            self.failing = True
            after = range(index + 1, len(self._chunks))  # Ctrl-C may have left more pieces
            self._channel.cancel([self._numbers[i] for i in after if self._pieces[i].result is None])

    def _has_failed(self) -> bool:
        return not self._return_exceptions and super()._has_failed()

    def _value(self, index: int) -> Any:
        try:
            return super()._value(index)
        except Exception as error:
            result = self._pieces[index].result
            failure = None if result is None else result.failure  # None: its values cannot be rebuilt here
            if failure is None or (failure.item is None and failure.kind != "TaskCancelled"):
                with contextlib.suppress(Exception):  # a class of the user's may not like it
                    error.add_note(at_items(sum(self._sizes[:index]), self._sizes[index]))
            raise

    def _values(self, index: int) -> Sequence[Any]:
        if index not in self._values_of:
            try:
                self._values_of[index] = self._value(index)
            except Exception as error:
                if not self._return_exceptions:
                    raise
                self._values_of[index] = [error] * self._sizes[index]
        return self._values_of[index]

    def _assemble(self) -> Any:
        if not self._return_exceptions:
            self._raise_first()
        order = range(len(self._pieces)) if self._ordered else self._order
        values: list[Any] = []
        for index in order:
            values.extend(self._values(index))
        return values

    def _raise_first(self) -> None:
        """Raise the first failure in input order; those that were only cancelled because of another come last."""
        failures = [i for i, p in enumerate(self._pieces) if p.result is not None and p.result.failure is not None]
        own = [i for i in failures if self._failure(i).kind != "TaskCancelled"]
        for index in own or failures:
            self._value(index)

    def _failure(self, index: int) -> m.Failure:
        result = self._pieces[index].result
        assert result is not None and result.failure is not None
        return result.failure

    @property
    def progress(self) -> int:
        """How many items are done."""
        return sum(self._sizes[index] for index in self._order)

    def __len__(self) -> int:
        return self._items

    def _item(self, position: int) -> Any:
        return self.get()[position]

    def __iter__(self) -> Iterator[Any]:
        if self._ordered:
            yield from super().__iter__()
            return
        for index in self._arrivals():
            yield from self._values(index)
