"""Ctrl-C in a call that waits, at whatever moment: what the call has sent by then is found, and cancelled.

``KeyboardInterrupt`` may come between the sending of a task and the moment at which the caller has a
name for its result. So each result is noted, per thread, before anything is sent.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Protocol, TypeVar, cast


class Cancellable(Protocol):
    """As much of a result as is needed here."""

    def done(self) -> bool:
        """Whether all has ended."""

    def cancel(self) -> bool:
        """Have it end."""


R = TypeVar("R", bound=Cancellable)
V = TypeVar("V")


def _nothing() -> None:
    return None


class _Latest(threading.local):
    result: Callable[[], Cancellable | None] = staticmethod(_nothing)


_latest = _Latest()


def note(result: Cancellable) -> None:
    """The calling thread is about to send what this is the result of."""
    _latest.result = weakref.ref(result)


def guarded(
    send: Callable[[], R], wait: Callable[[R], V], interrupted: Callable[[R], object] = lambda result: result.cancel()
) -> V:
    """``wait(send())``; a KeyboardInterrupt at any moment of it goes on after the result was cancelled.

    Parameters
    ----------
    send
        Makes a result, which notes itself, and sends.
    wait
        Gives the call's value.
    interrupted
        What to do with the result if it is not done.
    """
    _latest.result = _nothing
    result: R | None = None
    try:
        result = sent = send()
        return wait(sent)
    except KeyboardInterrupt:
        if result is None:
            result = cast("R | None", _latest.result())
        if result is not None and not result.done():
            interrupted(result)
        raise
