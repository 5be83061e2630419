"""Does the work of a task, whatever user code makes of it. Never raises.

What user code can do to us is here in one place: raise anything at any moment, be interrupted,
give results that cannot be pickled.
"""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Hashable, Sequence
from typing import Any, assert_never

import msgspec

from ipkernel_ext import payload
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.messages import Failure
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.errors import NameNotFound, ParallelError, PayloadError, RemoteError, ResultExpired
from ipkernel_ext.execution.functions import FunctionCache
from ipkernel_ext.execution.interrupt import Interrupter
from ipkernel_ext.execution.output import CaptureStream, OutputBuffer
from ipkernel_ext.execution.shell import EngineShell, format_traceback


class Outcome(msgspec.Struct):
    """How a task ended."""

    failure: Failure | None = None
    frames: Sequence[Frame] = ()
    execution: int | None = None
    has_value: bool = False
    seconds: float = 0.0


class _ItemFailed(Exception):
    """An item of a map raised; the exception is the cause."""

    def __init__(self, index: int, error: BaseException) -> None:
        super().__init__(index)
        self.index = index
        self.error = error


class Runner:
    """Runs tasks in a shell.

    Parameters
    ----------
    shell, output, interrupter
        Of this engine.
    """

    def __init__(self, shell: EngineShell, output: OutputBuffer, interrupter: Interrupter) -> None:
        self._shell = shell
        self._interrupter = interrupter
        self._functions = FunctionCache(shell.user_ns)
        self._stdout = CaptureStream(output, "stdout")
        self._stderr = CaptureStream(output, "stderr")

    def run(
        self, work: m.Work, frames: Sequence[Frame], function: Sequence[Frame] | None, task: Hashable = None
    ) -> Outcome:
        """Do the work of a task.

        Parameters
        ----------
        function
            Frames of the function that the work names.
        task
            By what name it can be interrupted.
        """
        outcome = Outcome()
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self._stdout, self._stderr
        begun = time.perf_counter()
        try:
            try:
                self._interrupter.arm(task)
                self._do(work, frames, function or (), outcome)
            finally:
                self._interrupter.disarm()
        except BaseException as error:
            outcome.failure, outcome.frames = _failed(error)
        outcome.seconds = time.perf_counter() - begun
        sys.stdout, sys.stderr = before
        return outcome

    def _do(self, work: m.Work, frames: Sequence[Frame], function: Sequence[Frame], outcome: Outcome) -> None:
        names = self._shell.user_ns
        match work:
            case m.Execute():
                self._execute(work, outcome)
            case m.Apply():
                args, kwargs = self._functions.load(frames)
                args = [self._resolve(arg) for arg in args]
                kwargs = {name: self._resolve(arg) for name, arg in kwargs.items()}
                with self._functions.function(work.function, function) as f:
                    value = f(*args, **kwargs)
                outcome.frames = payload.dumps(value, name="result")
            case m.Map():
                outcome.frames = payload.dumps(self._map(work, frames, function), name="results")
            case m.Push():
                names.update(self._functions.load(frames))
            case m.Pull():
                self._need(work.names)
                values = [names[name] for name in work.names]
                outcome.frames = _dump_named(work.names, values)
            case m.Delete():
                self._need(work.names)
                for name in work.names:
                    del names[name]
            case m.Keys():
                outcome.frames = payload.dumps(self._shell.keys())
            case m.Value():
                kept = names["_oh"]
                if work.execution not in kept:
                    raise ResultExpired(f"Out[{work.execution}] is no longer kept")
                outcome.frames = payload.dumps(kept[work.execution], name=f"Out[{work.execution}]")
            case m.Reset():
                self._shell.empty()
                self._functions.clear()
            case _:
                assert_never(work)

    def _execute(self, work: m.Execute, outcome: Outcome) -> None:
        shell = self._shell
        outcome.execution = shell.execution_count
        error = shell.run(work.code, work.filename)
        outcome.has_value = shell.has_value
        if error is not None:
            outcome.failure, outcome.frames = _failed(error, shell.problem_text)

    def _map(self, work: m.Map, frames: Sequence[Frame], function: Sequence[Frame]) -> list[Any]:
        items = self._functions.load(frames)
        values: list[Any] = []
        with self._functions.function(work.function, function) as f:
            for index, item in enumerate(items, work.start):
                try:
                    values.append(f(*item))
                except Exception as error:
                    if not work.return_exceptions:
                        raise _ItemFailed(index, error) from None
                    values.append(_portable(error))
                except BaseException as error:
                    raise _ItemFailed(index, error) from None
        return values

    def _resolve(self, argument: Any) -> Any:
        if isinstance(argument, payload.Ref):
            self._need([argument.name])
            return self._shell.user_ns[argument.name]
        return argument

    def _need(self, wanted: Sequence[str]) -> None:
        names = self._shell.user_ns
        for name in wanted:
            if name not in names:
                near = difflib.get_close_matches(name, self._shell.keys(), 3)
                hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
                raise NameNotFound(f"there is no variable {name!r} on engine {self._engine()}{hint}")

    def _engine(self) -> int:
        return self._shell.output.engine_id()


def _dump_named(names: Sequence[str], values: list[Any]) -> list[Frame]:
    try:
        return payload.dumps(values)
    except PayloadError:
        for name, value in zip(names, values, strict=True):
            payload.dumps(value, name=name)
        raise


def _portable(error: Exception) -> Exception:
    if payload.dumps_exception(error) is not None:
        return error
    return RemoteError(f"{type(error).__name__}: {_text(error)}", type(error).__name__, format_traceback(error))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return "(its message cannot be shown)"


def _failed(error: BaseException, trace: str = "") -> tuple[Failure, Sequence[Frame]]:
    """A failure from what was raised, and the exception itself where it can travel."""
    try:
        item = None
        if isinstance(error, _ItemFailed):
            item, error = error.index, error.error
        name = type(error).__name__
        trace = trace or format_traceback(error)
        if isinstance(error, ParallelError) and type(error).__module__ == ParallelError.__module__:
            return Failure(name, name, _text(error), trace if isinstance(error, PayloadError) else "", item), ()
        if isinstance(error, KeyboardInterrupt):
            return Failure("TaskInterrupted", name, "the task was interrupted (KeyboardInterrupt)", trace, item), ()
        if isinstance(error, SystemExit):
            text = f"engine code raised SystemExit({error.code!r}); the engine lives on with its namespace"
            return Failure("RemoteExit", name, text, trace, item), ()
        frames = payload.dumps_exception(error) if isinstance(error, Exception) else None
        if frames is None:
            return Failure("RemoteError", name, f"{name}: {_text(error)}", trace, item), ()
        return Failure("user", name, _text(error), trace, item), frames
    except BaseException as second:
        text = f"{type(error).__name__}, which cannot be described: {type(second).__name__}"
        return Failure("RemoteError", type(error).__name__, text), ()

