"""A block of code in which no signal's handler raises, whatever thread runs it.

A handler of the user's, such as that of Ctrl-C, runs between any two steps of the main thread. What must not be left
half done there runs while handlers are held; what waits in between lets them through.
"""

from __future__ import annotations

import threading
from _signal import getsignal, signal  # type: ignore[import-not-found]  # the slow ones make members of enumerations
from collections.abc import Callable
from signal import (
    SIGALRM,
    SIGCHLD,
    SIGHUP,
    SIGINT,
    SIGPROF,
    SIGQUIT,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    SIGVTALRM,
    raise_signal,
)
from types import FrameType
from typing import Any, TypeVar

V = TypeVar("V")

_NUMBERS = tuple(map(int, (SIGINT, SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, SIGUSR2, SIGHUP, SIGTERM, SIGQUIT, SIGCHLD)))
"""Of signals that people have handlers for; Ctrl-C first, which may come while the others are dealt with."""

_main = threading.main_thread


class Held:
    """Handlers of signals wait until the block has ended, or lets them through."""

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._caught: list[int] = []
        self._open = False

    def __enter__(self) -> Held:
        if threading.get_ident() != _main().ident:
            return self  # handlers run in the main thread only
        try:
            for number in _NUMBERS:
                handler = getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal(number, self._note)
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        for number in self._caught:
            raise_signal(number)

    def _give_back(self) -> None:
        """Each handler to its signal. One that was given back may raise at once: the others follow all the same."""
        try:
            while self._handlers:
                number = next(reversed(self._handlers))
                signal(number, self._handlers[number])
                del self._handlers[number]
        finally:
            if self._handlers:
                self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._open:
            self._caught.append(number)
            return
        self._open = False  # the next one waits until this one is dealt with
        self._handlers[number](number, frame)
        self._open = True

    def let(self, wait: Callable[..., V], *arguments: Any) -> V:
        """Call something that waits, and let handlers through meanwhile. What it gives may be lost when one raises."""
        self._open = True
        try:
            while self._caught:
                self._note(self._caught.pop(0), None)
            return wait(*arguments)
        finally:
            self._open = False
