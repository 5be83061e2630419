"""Errors of engines as exceptions here: each one again, with what it was there, and many as one.

What went wrong comes as a message of the core with a pickled exception beside it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from textwrap import indent

import msgspec

from ipkernel_ext import errors, payload, targets, tracebacks
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.pieces import Piece
from ipkernel_ext.units import count

KINDS = 8  # distinct errors that the message of a CompositeError tells
SAID = 300  # characters of an error's message in it
LONGEST = 10_000  # characters of an error's message where it is told on its own


class RemoteTraceback(Exception):
    """Carries an engine's traceback as text, as the cause of the exception it belongs to."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}".rstrip()


def error_of(piece: Piece, host: str = "") -> Exception | None:
    """The exception a piece ended with, or None."""
    result = piece.result
    if result is None or result.failure is None:
        return None
    failure = msgspec.structs.replace(result.failure, traceback=tracebacks.with_source(result.failure.traceback))
    error = _rebuild(failure, piece.frames, result)
    if failure.traceback:
        story = RemoteTraceback(failure.traceback)
        story.__cause__ = error.__cause__
        error.__cause__ = story
    with contextlib.suppress(Exception):  # a class of the user's may not like it
        _note(error, result, failure, host)
    return error


def _note(error: Exception, result: m.Result, failure: m.Failure, host: str) -> None:
    """Name engine, host, task and item."""
    if result.engine >= 0:
        error.engine_id = result.engine  # type: ignore[attr-defined]
        where = f"on engine {result.engine}" + (f" of host {host}" if host else "")
        error.add_note(f"{where}, task {result.task}")
    if failure.item is not None:
        error.add_note(at_items(failure.item, 1))
    if "\n" in failure.said and not failure.restarted:
        error.add_note(f"the last that it wrote to its log:\n{indent(failure.said, '  ')}")


def at_items(start: int, count: int) -> str:
    return f"at item {start} of the map" if count == 1 else f"in items {start} to {start + count - 1} of the map"


def _rebuild(failure: m.Failure, frames: Sequence[Frame], result: m.Result) -> Exception:
    if failure.kind == "user":
        try:
            error = payload.loads(frames)
            if isinstance(error, Exception):
                return error
        except Exception:
            pass  # said by the RemoteError below
        return errors.RemoteError(f"{failure.type_name}: {failure.message}", failure.type_name, failure.traceback)
    if failure.kind == "EngineLost":
        return errors.EngineLost(
            failure.message,
            failure.engine if failure.engine >= 0 else result.engine,
            failure.exit_code,
            failure.signal,
            failure.started,
            failure.restarted,
            failure.oom,
            failure.said,
            str(result.task),
        )
    if failure.kind == "RemoteError":
        return errors.RemoteError(failure.message, failure.type_name, failure.traceback)
    kind = getattr(errors, failure.kind, errors.ParallelError)
    rebuilt: Exception = kind(failure.message)
    return rebuilt


def composite(failed: Sequence[Exception], engines: int) -> errors.CompositeError:
    """The error of a call on several engines. Its message counts the distinct errors, and names their engines."""
    groups = alike(failed)
    for same in groups.values():
        _share_tracebacks(same)
    kinds = [
        f"{len(same)} × {text}" + (f" on {targets.label(ids)}" if (ids := engines_of(same)) else "")
        for text, same in list(groups.items())[:KINDS]
    ]
    if len(groups) > KINDS:
        kinds.append(f"and {len(groups) - KINDS} errors more")
    return errors.CompositeError(
        f"{len(failed)} of {count(engines, 'engine')} failed: {'; '.join(kinds)}", list(failed)
    )


def _share_tracebacks(failed: Sequence[Exception]) -> None:
    """Let errors whose tracebacks say the same have one and the same: Python shows a cause once, whoever has it."""
    known: dict[str, BaseException] = {}
    for error in failed:
        story = error.__cause__
        if isinstance(story, RemoteTraceback):
            error.__cause__ = known.setdefault(_anywhere(str(story.args[0]), error), story)


def engines_of(failed: Sequence[Exception]) -> list[int]:
    """The engines that errors came from."""
    return [error.engine_id for error in failed if hasattr(error, "engine_id")]


def alike(failed: Sequence[Exception]) -> dict[str, list[Exception]]:
    """Errors by what they say, where they differ only in the engine and the number of its cell."""
    groups: dict[str, list[Exception]] = {}
    for error in failed:
        groups.setdefault(_anywhere(said(error), error), []).append(error)
    return groups


def impersonal(text: str, error: Exception) -> str:
    """What is said of an error, without the number of its engine and the id of its task."""
    engine = rf"engine {getattr(error, 'engine_id', None)}\b"
    text = re.sub(rf"\b{engine}", "the engine", re.sub(f" on {engine}", "", text))
    return re.sub(r" \(task \w+:\d+\)", "", text)


def _anywhere(text: str, error: Exception) -> str:
    """The same on all engines on which the same went wrong."""
    return re.sub(r"<ipython-input-\d+-\w+>", "<cell>", impersonal(text, error))


def said(error: BaseException, *, short: bool = True) -> str:
    """An error's type and message, whatever its class makes of being asked; in short, its first line."""
    try:
        message = str(error)[:LONGEST]
    except Exception:
        message = "(its message cannot be shown)"
    if short:
        message = message.split("\n")[0][:SAID]
    name: str = type.__dict__["__name__"].__get__(type(error))
    return f"{name}: {message}" if message else name
