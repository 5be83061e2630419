"""Why a task has no value, in words for its user. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.messages import Exit, Failure, Result, TaskId

_BEGAN = {
    True: "the task had begun",
    False: "the task had not begun",
    None: "whether the task had begun is not known",
}

_CANCELLED = {
    True: "the task was cancelled while it ran",
    False: "the task was cancelled before it began",
    None: "the task was cancelled",
}


def how(exit: Exit) -> str:
    """How a process ended."""
    if exit.signal is not None:
        text = f"killed by signal {exit.signal}"
        if exit.oom:
            text += " from the kernel, for want of memory"
    elif exit.exit_code is not None:
        text = f"exited with code {exit.exit_code}"
    else:
        return exit.detail or "its process ended"
    return f"{text} ({exit.detail})" if exit.detail else text


def lost(task: TaskId, engine: int, exit: Exit, started: bool | None, losses: int = 0) -> Failure:
    """The engine that had the task, or was to have it, is dead.

    Parameters
    ----------
    losses : int
        How many engines have died with this task begun, where more than one was allowed to.
    """
    where = f"engine {engine}" if engine >= 0 else "the engine"
    end = f"; {losses} engines have died with it, so it is given up" if losses > 1 else ""
    return Failure(
        "EngineLost",
        "EngineLost",
        f"{where} is lost: {how(exit)}; {_BEGAN[started]} (task {task}){end}",
        exit_code=exit.exit_code,
        signal=exit.signal,
        started=started,
        oom=exit.oom,
        said=exit.said if started is not False else "",
        engine=engine,
    )


def restarted(engine: int, exit: Exit | None) -> Failure:
    """The client meant an earlier life of the engine."""
    text = f" ({how(exit)})" if exit is not None else ""
    return Failure(
        "EngineLost",
        "EngineLost",
        f"engine {engine} was restarted{text} and its namespace is empty; "
        "nothing was run, the next call reaches the new one",
        exit_code=exit.exit_code if exit else None,
        signal=exit.signal if exit else None,
        started=False,
        restarted=True,
        oom=exit.oom if exit else False,
        said=exit.said if exit else "",
        engine=engine,
    )


def cancelled(started: bool | None) -> Failure:
    """Somebody wanted it so."""
    return Failure("TaskCancelled", "TaskCancelled", _CANCELLED[started], started=started)


def silent(engine: int, start: int | None, timeout: float, seconds: float | None, started: bool | None) -> Failure:
    """Its time is up, and its engine, which keeps the time, does not answer. ``start``: of its items."""
    each = f"each item had {timeout:g} s" if start is None else f"each item, from {start} on, had {timeout:g} s"
    silence = "long" if seconds is None else f"{seconds:.0f} s"
    text = (
        f"engine {engine} has not answered for {silence}, and {each}: its process is stopped, or C code "
        f"keeps Python's lock; {_BEGAN[started]}; kill() or restart() ends that engine"
    )
    return Failure("TaskTimeout", "TaskTimeout", text, started=started)


def no_engines(trouble: str, among: Iterable[int] | None = None) -> Failure:
    """Nobody is here to run it, and nobody is expected."""
    text = trouble or "no engines: start some with `ipengine` or `ipcluster start`"
    if among is not None:
        ids = sorted(among)
        text = f"none of the engines that may run it, {', '.join(map(str, ids))}, is here or expected"
        if len(ids) == 1:
            text = f"engine {ids[0]}, where alone it may run, is not here, and not expected"
        text += f": {trouble}" if trouble else ""
    return Failure("NoEngines", "NoEngines", text)


def brief(failure: Failure) -> str:
    """What went wrong, in one line."""
    text = failure.message.partition("\n")[0]
    return f"{failure.type_name}: {text}" if text else failure.type_name


def dependency(id: TaskId, error: str) -> Failure:
    """One that it was to come after did not end well."""
    text = f"not run, because task {id}, which it was to come after, failed: {error}"
    return Failure("DependencyFailed", "DependencyFailed", text, started=False)


def unknown_dependency(id: TaskId, why: str) -> Failure:
    """One that it was to come after is not known."""
    text = f"not run, because task {id}, which it was to come after, is not known here: {why}"
    return Failure("DependencyFailed", "DependencyFailed", text, started=False)


def no_such_engine(id: int, engines: Iterable[int], why: str) -> Failure:
    """There is no engine of this id."""
    there = ", ".join(map(str, sorted(engines)))
    text = f"engine {id} does not exist; " + (f"the engines are {there}" if there else "there are no engines")
    text += f": {why}" if why else ""
    return Failure("NoSuchEngine", "NoSuchEngine", text)


def expired(task: TaskId) -> Failure:
    """Its result was dropped while its client was away."""
    text = f"what came of task {task} was dropped while its client was away"
    return Failure("ResultExpired", "ResultExpired", text)


def unknown_result(task: TaskId) -> Failure:
    """Somebody asked for the result of a task by its id."""
    text = f"no result of task {task} is here: its client has collected it, or it is too old, or never was"
    return Failure("ResultExpired", "ResultExpired", text)


def result(task: TaskId, failure: Failure) -> Result:
    """The end of a task that no engine has a word in."""
    return Result(task, 0, -1, failure=failure)


def protocol(text: str) -> Failure:
    """The peer's mistake."""
    return Failure("ProtocolError", "ProtocolError", text)


def bug(message: str, error: Exception) -> Failure:
    """A mistake in the controller."""
    text = f"the controller cannot deal with this {message}, by a mistake in it ({error!r}); its log says where"
    return Failure("ProtocolError", "ProtocolError", text)


def refused(message: Any, failure: Failure) -> m.Refused:
    """What tells whoever has sent this message so, and whoever waits for what would have come of it."""
    numbers = list(message.numbers) if isinstance(message, m.Submit) else []
    return m.Refused(failure, numbers, getattr(message, "request", 0))


def wrong_role(wanted: str, role: str) -> Failure:
    """A key is used for what it is not for."""
    file = "client.json" if "client" in wanted else "engine.json"
    text = f"the key of this connection is for the role {role!r}, it does not make {wanted}: use {file} of this cluster"
    return Failure("AuthenticationError", "AuthenticationError", text)


def version(theirs: int, ours: int) -> Failure:
    """The two cannot work together."""
    text = f"this peer speaks protocol {theirs}, the controller {ours}: install the same version on both sides"
    return Failure("VersionMismatch", "VersionMismatch", text)
