"""Does the work of a task, whatever user code makes of it. Never raises.

What user code can do to us is met here, in one place: it raises anything at any moment, is
interrupted, takes our streams and builtins away, gives results that cannot be pickled. User code
runs, and is asked about its objects and errors, only while the interrupter is armed. Where a task
comes from, and where its result goes, must not be known here.
"""

from __future__ import annotations

import bdb
import builtins
import difflib
import keyword
import sys
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from functools import partial
from types import FrameType, TracebackType
from typing import Any, NoReturn, Protocol, assert_never

import msgspec

from ipkernel_ext import payload
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.effects import Typed
from ipkernel_ext.core.messages import Failure
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.errors import (
    NameNotFound,
    NothingToDebug,
    ParallelError,
    PayloadError,
    RemoteError,
    RemoteExit,
    ResultExpired,
    ResultTooLarge,
    TaskTimeout,
    VersionMismatch,
)
from ipkernel_ext.execution import half_imports, sources
from ipkernel_ext.execution.debugger import Ask, Debugger, ask_nobody, of_user_code
from ipkernel_ext.execution.draws import Draws
from ipkernel_ext.execution.functions import FunctionCache
from ipkernel_ext.execution.interrupt import Interrupter
from ipkernel_ext.execution.output import CaptureStream, OutputBuffer
from ipkernel_ext.execution.seeding import Streams
from ipkernel_ext.execution.shell import EngineShell
from ipkernel_ext.execution.traces import MESSAGE, format_traceback, message_of, name_of, shortened
from ipkernel_ext.execution.usage import Processor
from ipkernel_ext.units import bytes_text

LARGEST = 16 * 2**20
"""Bytes of an exception that is sent as itself; a larger one arrives as ``RemoteError``."""

REFUSED = "_refused"
"""Name of the latest value that was too large to be sent."""

_EVAL, _EXEC = eval, exec

_BUILTINS = vars(builtins)

_ANYTHING = BaseException  # under a name that user code cannot delete


class Outcome(msgspec.Struct):
    """How a task ended.

    Attributes
    ----------
    frames
        The pickled value; of a failure of kind "user", the pickled exception.
    execution : int or None
        Number of the cell.
    has_value : bool
        The cell ended in a value, which is kept in ``Out``.
    seconds : float
        In user code, including what its objects do when they are rebuilt and pickled.
    cpu : float
        Seconds on processors meanwhile, of all threads; to a tenth of a millisecond.
    unseeded : bool
        The function has drawn from the global random generators, and no seed was given.
    """

    failure: Failure | None = None
    frames: Sequence[Frame] = ()
    execution: int | None = None
    has_value: bool = False
    seconds: float = 0.0
    unseeded: bool = False
    cpu: float = 0.0


class _Stop(Exception):
    """What ended the work, with what is known of it where it was raised.

    ``ours``: the error is this package's own, not one that user code raised.
    """

    def __init__(self, error: BaseException, item: int | None = None, trace: str = "", *, ours: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.item = item
        self.trace = trace
        self.ours = ours


class Timer(Protocol):
    """Measures the items of a task whose time is limited."""

    def begin_item(self) -> bool:
        """An item begins. Whether an interrupt meant for the one before may still come."""

    def expired(self) -> bool:
        """Whether the time of the running item is up."""


class Runner:
    """Runs tasks in a shell. To be used in the process's main thread.

    Parameters
    ----------
    shell, output, interrupter
        Of this engine.

    Attributes
    ----------
    shell : EngineShell
        Where it runs them.
    ask
        Asks the client of the running task for a line: with a prompt, and the seconds to wait for it.
    ask_for_module
        Asks it for the sources of a module.
    share
        Puts large frames of values into shared memory, where there is any.
    """

    ask: Ask = staticmethod(ask_nobody)
    ask_for_module: Callable[[str], Typed | None] = staticmethod(lambda name: None)

    def __init__(self, shell: EngineShell, output: OutputBuffer, interrupter: Interrupter) -> None:
        self.shell = self._shell = shell
        self._interrupter = interrupter
        self._functions = FunctionCache(shell.user_ns)
        self._draws = Draws()
        self._processor = Processor()
        self._stdout = CaptureStream(output, "stdout")
        self._stderr = CaptureStream(output, "stderr")
        self._builtins = dict(_BUILTINS)
        self._task: Hashable = None
        self._timer: Timer | None = None
        self._max_result = 0
        self._failed: TracebackType | None = None  # of what failed last
        self._debugger: Debugger | None = None  # of the running task
        shell.on_breakpoint = self._breakpoint
        self.share: Callable[[Sequence[Frame]], Sequence[Frame]] = lambda frames: frames

    def run(
        self,
        work: m.Work,
        frames: Sequence[Frame],
        function: Sequence[Frame] | None,
        task: Hashable = None,
        timer: Timer | None = None,
        max_result: int = 0,
    ) -> Outcome:
        """Do the work of a task.

        Parameters
        ----------
        function
            Frames of the function that the work names.
        task
            By what name it can be interrupted.
        timer
            Where the time of each item is limited.
        max_result : int
            Bytes that the value may have; 0: any number.
        """
        outcome = Outcome()
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self._stdout, self._stderr
        self._task, self._timer, self._max_result = task, timer, max_result
        begun = time.perf_counter()
        used = self._processor.at(begun)
        asked = sources.ask_by(self.ask_for_module)
        raised = self._do(work, frames, function or (), outcome)
        if self._debugger is not None:
            self._debugger.end()  # before anything else is called from here, which it would take for the user's
            self._debugger = None
        sources.ask_by(asked)
        ended = time.perf_counter()
        outcome.seconds = ended - begun
        used = self._processor.at(ended) - used
        outcome.cpu = used if used > 0 else 0.0
        if _BUILTINS.__len__() < self._builtins.__len__():
            self._mend_builtins()
        if self._interrupter.struck:
            self._interrupter.struck = False
            half_imports.forget()
        self._functions.end()
        if raised is not None:
            if not isinstance(work, m.Debug):
                self._keep(raised)
            self._tell_of(raised, task, outcome)
        sys.stdout, sys.stderr = before
        return outcome

    def _mend_builtins(self) -> None:
        """Put back the builtins that user code has deleted: this package needs them too."""
        for name, value in self._builtins.items():
            _BUILTINS.setdefault(name, value)

    def _tell_of(self, raised: BaseException, task: Hashable, outcome: Outcome) -> None:
        """A failure from what was raised; user code, which is asked about it, may raise again."""
        try:
            try:
                self._interrupter.arm(task)
                _describe(raised, outcome)
            finally:
                self._interrupter.disarm()
        except _ANYTHING:
            outcome.failure, outcome.frames = _indescribable(raised), ()

    # ------------------------------------------------------------ debugging

    def _keep(self, raised: BaseException) -> None:
        """Keep the traceback of what failed, if user code is in it, for who wants to debug it."""
        stop = raised if isinstance(raised, _Stop) else _Stop(raised)
        trace = None if stop.ours or isinstance(stop.error, bdb.BdbQuit) else of_user_code(stop.error.__traceback__)
        if trace is not None:
            self._failed = trace

    def _debug(self) -> None:
        if self._failed is None:
            text = f"nothing has failed on engine {self._engine()} since it began, or was reset"
            raise _Stop(NothingToDebug(text), ours=True)
        self._new_debugger().post_mortem(self._failed)

    def _breakpoint(self, frame: FrameType) -> None:
        """User code has called ``breakpoint`` in this frame."""
        if self._task is None or threading.current_thread() is not threading.main_thread():
            print("breakpoint() is for the code of a call, and in its main thread: it goes on", file=sys.stderr)
            return
        if self._debugger is None:
            self._debugger = self._new_debugger()
        self._debugger.begin(frame)

    def _new_debugger(self) -> Debugger:
        self._debugger = Debugger(self.shell, self._typed, self.shell.input_timeout)
        return self._debugger

    def _typed(self, prompt: str, timeout: float) -> Typed | None:
        """A line of the user's. What runs from now on can be interrupted again."""
        typed = self.ask(prompt, timeout)
        self._interrupter.arm(self._task)
        return typed

    # ------------------------------------------------------------ the kinds of work

    def _do(
        self, work: m.Work, frames: Sequence[Frame], function: Sequence[Frame], outcome: Outcome
    ) -> BaseException | None:
        """Do the work; what was raised."""
        try:
            try:
                self._interrupter.arm(self._task)
                self._functions.begin()
                match work:
                    case m.Apply():  # first, since it is the quickest
                        outcome.frames = self._apply(work, frames, function, outcome)
                    case m.Execute():
                        self._execute(work, outcome)
                    case m.Map():
                        outcome.frames = self._map(work, frames, function, outcome)
                    case m.Push():
                        self._push(work.names, self._load(frames))
                    case m.Pull():
                        self._need(work.names)
                        outcome.frames = self._pull(work.names)
                    case m.Delete():
                        self._need(work.names)
                        self._delete(work.names)
                    case m.Keys():
                        outcome.frames = payload.dumps(self._shell.keys())
                    case m.Value():
                        outcome.frames = self._value(work.execution)
                    case m.Seed():
                        Streams(work.seed).begin(self._engine())
                    case m.Debug():
                        self._debug()
                    case m.Reset():
                        self._failed = None
                        self._shell.empty()
                        self._functions.clear()
                    case _:
                        assert_never(work)
            finally:
                self._interrupter.disarm()
        except _ANYTHING as error:
            return error
        return None

    def _execute(self, work: m.Execute, outcome: Outcome) -> None:
        shell = self._shell
        outcome.execution = shell.execution_count
        error = shell.run(work.code, work.filename)
        outcome.has_value = shell.has_value
        if error is not None:
            raise _Stop(error, trace=shell.problem_text)

    def _apply(
        self, work: m.Apply, frames: Sequence[Frame], function: Sequence[Frame], outcome: Outcome
    ) -> list[Frame]:
        (args, kwargs), f = self._load_call(work.function, frames, function)
        if work.seed is None:
            look = self._draws.look(work.function)
            value = f(*args, **kwargs)
            outcome.unseeded = look is not None and look(f)
        else:
            with Streams(work.seed) as streams:
                streams.begin(0)
                value = f(*args, **kwargs)
        del args, kwargs
        result = _dump(value, "result")
        if self._too_large(result):
            self._refuse(result, value)
        del value
        return self._kept(result)

    def _in_namespace(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """A function that runs code in the namespace of its caller; it does so in the user's, and not in ours."""

        def run(source: Any, globals: Any = None, *args: Any, **kwargs: Any) -> Any:
            return f(source, self._shell.user_ns if globals is None else globals, *args, **kwargs)

        return run

    def _map(self, work: m.Map, frames: Sequence[Frame], function: Sequence[Frame], outcome: Outcome) -> list[Frame]:
        columns, f = self._load_call(work.function, frames, function)
        values: list[Any] = []
        call = f if self._timer is None else partial(self._timed, f, self._timer, work.return_exceptions)
        look = self._draws.look(work.function) if work.seed is None else None
        with nullcontext() if work.seed is None else Streams(work.seed) as streams:
            for index, item in enumerate(zip(*columns, strict=False), work.start):
                try:
                    if streams is not None:
                        streams.begin(index)
                    values.append(call(*item))
                except KeyboardInterrupt as error:
                    raise _Stop(error, index) from None
                except BaseException as error:
                    if not work.return_exceptions:
                        raise _Stop(error, index) from None
                    values.append(_portable(error))
        outcome.unseeded = look is not None and look(f)
        del columns
        result = _dump(values, "results")
        if self._too_large(result):
            self._refuse(result, values)
        del values
        return self._kept(result)

    def _timed(self, f: Callable[..., Any], timer: Timer, as_value: bool, *args: Any) -> Any:
        """Call with an item's time running; an interrupt because of that time is for this call alone."""
        interrupter = self._interrupter
        interrupter.hold()
        if timer.begin_item():
            interrupter.spend()
        interrupter.arm(self._task)
        try:
            return f(*args)
        except KeyboardInterrupt:
            if not (as_value and timer.expired()):
                raise
            interrupter.arm(self._task)
            return TaskTimeout("it ran longer than its time")

    def _push(self, names: Sequence[str], values: Any) -> None:
        if not isinstance(values, dict) or set(values) != set(names):
            raise _Stop(PayloadError(f"what arrived are not values for {', '.join(names)}"), ours=True)
        for name in names:
            if not name.isidentifier() or keyword.iskeyword(name):
                raise _Stop(PayloadError(f"cannot push {name!r}: that is not a name for a variable"), ours=True)
        self._shell.user_ns.update(values)

    def _pull(self, names: Sequence[str]) -> list[Frame]:
        values = [self._shell.user_ns[name] for name in names]
        try:
            result = payload.dumps(values)
        except PayloadError as error:
            for name, value in zip(names, values, strict=True):
                _dump(value, name)
            raise _Stop(error, ours=True) from None
        if self._too_large(result):
            raise self._too_large_to_send(result, f"the value of {' and '.join(names)}", "it stays there")
        del values
        return self._kept(result)

    def _delete(self, names: Sequence[str]) -> None:
        namespace = self._shell.user_ns
        taken: dict[str, Any] = {}
        try:
            for name in dict.fromkeys(names):
                taken[name] = namespace[name]
                del namespace[name]
        except BaseException:
            namespace.update(taken)
            raise

    def _value(self, execution: int) -> list[Frame]:
        kept = self._shell.kept()
        if execution == self._shell.showed_out:
            kept = {execution: dict(kept)}
        if execution not in kept:
            raise _Stop(
                ResultExpired(f"Out[{execution}] of engine {self._engine()} is no longer kept; it keeps the last few"),
                ours=True,
            )
        result = _dump(kept[execution], f"Out[{execution}]")
        if self._too_large(result):
            raise self._too_large_to_send(result, f"Out[{execution}]", "it stays there")
        return self._kept(result)

    # ------------------------------------------------------------ parts of them

    def _load(self, frames: Sequence[Frame]) -> Any:
        try:
            return self._functions.load(frames, self._named)
        except (NameNotFound, PayloadError, VersionMismatch) as error:
            raise _Stop(error, ours=True) from None

    def _load_call(
        self, digest: str, frames: Sequence[Frame], function: Sequence[Frame]
    ) -> tuple[Any, Callable[..., Any]]:
        """What a function is called with, and the function."""
        try:
            given = self._functions.load(frames, self._named)
            f = self._functions.function(digest, function)
        except (NameNotFound, PayloadError, VersionMismatch) as error:
            raise _Stop(error, ours=True) from None
        return given, self._in_namespace(f) if f is _EVAL or f is _EXEC else f

    def _named(self, name: str) -> Any:
        """What a ``Ref`` stands for."""
        names = self._shell.user_ns
        if name not in names:
            raise self._not_found(name)
        return names[name]

    def _need(self, wanted: Sequence[str]) -> None:
        names = self._shell.user_ns
        for name in wanted:
            if name not in names:
                raise _Stop(self._not_found(name), ours=True)

    def _not_found(self, name: str) -> NameNotFound:
        near = difflib.get_close_matches(name, self._shell.keys(), 3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        return NameNotFound(f"there is no variable {name!r} on engine {self._engine()}{hint}")

    def _kept(self, result: Sequence[Frame]) -> list[Frame]:
        """Frames that stay as they are although user code goes on. What they were made of is not referred to here."""
        return payload.own(self.share(result))

    def _too_large(self, result: Sequence[Frame]) -> bool:
        return bool(self._max_result) and sum(map(len, result)) > self._max_result

    def _refuse(self, result: Sequence[Frame], value: Any) -> NoReturn:
        """Keep a value that is not sent, which nobody else has."""
        self._shell.user_ns[REFUSED] = value
        raise self._too_large_to_send(result, "the result", f"it is kept there as {REFUSED}, until the next such one")

    def _too_large_to_send(self, result: Sequence[Frame], what: str, where: str) -> _Stop:
        text = (
            f"{what} on engine {self._engine()} has {bytes_text(sum(map(len, result)))}, more than this client takes "
            f"({bytes_text(self._max_result)}): {where}. Compute on with it there, pull a part of it, "
            "or set rc.max_result higher and pull it"
        )
        return _Stop(ResultTooLarge(text), ours=True)

    def _engine(self) -> int:
        return self._shell.output.engine_id()


def _dump(value: Any, name: str) -> list[Frame]:
    try:
        return payload.dumps(value, name)
    except PayloadError as error:
        raise _Stop(error, ours=True) from None


# ---------------------------------------------------------------- what was raised


def _portable(error: BaseException) -> BaseException:
    """What stands for an item that failed, in the list of values."""
    if isinstance(error, SystemExit):
        return RemoteExit(_exit_text(error))
    if isinstance(error, Exception) and _dumped(error) is not None:
        return error.with_traceback(None)
    name = name_of(error)
    return RemoteError(f"{name}: {message_of(error)}", name, format_traceback(error))


def _dumped(error: Exception) -> list[Frame] | None:
    """The exception as frames, if it can travel."""
    frames = payload.dumps_exception(error)
    return frames if frames is None or sum(map(len, frames)) <= LARGEST else None


def _describe(raised: BaseException, outcome: Outcome) -> None:
    """A failure from what was raised, and the exception itself where it can travel."""
    stop = raised if isinstance(raised, _Stop) else _Stop(raised)
    error = stop.error
    name = name_of(error)
    trace = stop.trace or format_traceback(error)
    outcome.frames = ()
    if stop.ours and isinstance(error, ParallelError):
        trace = trace if error.__cause__ is not None else ""
        outcome.failure = Failure(name, name, message_of(error), trace, stop.item)
    elif isinstance(error, KeyboardInterrupt):
        text = "the task was interrupted (KeyboardInterrupt)"
        outcome.failure = Failure("TaskInterrupted", name, text, trace, stop.item)
    elif isinstance(error, bdb.BdbQuit):
        outcome.failure = Failure("TaskInterrupted", name, "the task was ended in the debugger", trace, stop.item)
    elif isinstance(error, SystemExit):
        outcome.failure = Failure("RemoteExit", name, _exit_text(error), trace, stop.item)
    else:
        frames = _dumped(error) if isinstance(error, Exception) else None
        text = message_of(error)
        kind, text = ("RemoteError", f"{name}: {text}") if frames is None else ("user", text)
        outcome.failure = Failure(kind, name, text, trace, stop.item)
        outcome.frames = frames or ()


def _indescribable(raised: BaseException) -> Failure:
    """A failure without asking user code anything."""
    item = None
    if type(raised) is _Stop:
        item, raised = raised.item, raised.error
    name = name_of(raised)
    kinds = {KeyboardInterrupt: "TaskInterrupted", SystemExit: "RemoteExit"}
    bases: tuple[type, ...] = type.__dict__["__mro__"].__get__(type(raised))
    kind = next((kinds[base] for base in bases if base in kinds), "RemoteError")
    return Failure(kind, name, f"{name}; it could not be asked for more", "", item)


def _exit_text(error: SystemExit) -> str:
    try:
        code = shortened(repr(error.code), MESSAGE)
    except KeyboardInterrupt:
        raise
    except BaseException:
        code = "…"
    return f"engine code raised SystemExit({code}); the engine lives on with its namespace"
