"""A block of code in which nothing of the user's runs, neither handlers of signals nor finalizers, in whatever thread.

A handler of the user's, such as that of Ctrl-C, runs between any two steps of the main thread. What must not be left
half done there runs while handlers are held; what waits in between ends when one is to run. It runs after the block,
when nothing is held: it may make calls and wait for them, take long, and set other handlers. The garbage collector,
which calls finalizers, does not run in any thread meanwhile.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from _signal import getsignal, signal  # type: ignore[import-not-found]  # the slow ones make members of enumerations
from collections.abc import Callable
from signal import (
    SIG_DFL,
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
    SIGXCPU,
    raise_signal,
)
from types import FrameType
from typing import Any, TypeVar

V = TypeVar("V")

_NUMBERS = tuple(
    map(int, (SIGINT, SIGALRM, SIGVTALRM, SIGPROF, SIGXCPU, SIGUSR1, SIGUSR2, SIGHUP, SIGTERM, SIGQUIT, SIGCHLD))
)
"""Of signals that people have handlers for; Ctrl-C first, which may come while the others are dealt with."""

_main = threading.main_thread


def _raise_again(number: int, frame: FrameType | None) -> None:
    raise_signal(number)


class _Tracked:
    """What the garbage collector counts."""


class _Collector:
    """The garbage collector, off as long as somebody wants it so."""

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._forked)

    def _renew(self) -> None:
        self._lock = threading.RLock()  # it may run here, and a finalizer wants it off too
        self._pauses = 0
        self._was_on = False

    def pause(self) -> None:
        """It does not run until ``go_on`` was called as often as this."""
        with self._lock:
            if not self._pauses and gc.isenabled():
                gc.disable()
                self._was_on = True
            self._pauses += 1

    def go_on(self) -> None:
        """It may run again, and does so here if it was to run meanwhile: an I/O thread is no place for finalizers."""
        with self._lock:
            self._pauses -= 1
            if not self._pauses and self._was_on:
                self._was_on = False
                gc.enable()
        _Tracked()

    def _forked(self) -> None:
        """Whoever else wanted it off does not exist here."""
        if self._was_on:
            gc.enable()
        self._renew()


_collector = _Collector()


class _Came(BaseException):
    """A signal whose handler is held, while somebody waits."""


class Held:
    """Handlers of signals, and the garbage collector, run when the block has ended."""

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._caught: list[int] = []
        self._open = False
        self._thread: int | None = 0

    def __enter__(self) -> Held:
        if threading.get_ident() != _main().ident:  # where no handlers run
            _collector.pause()
            return self
        self._thread = _main().ident
        try:
            for number in _NUMBERS:
                handler = getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal(number, self._note)
        except BaseException:
            self._end()
            raise
        _collector.pause()
        return self

    def __exit__(self, *_: object) -> None:
        _collector.go_on()
        if self._thread:
            self._end()

    def _end(self) -> None:
        """Handlers are back, and have run for what came. That one of them raises is no reason not to call the others.

        To raise a signal again would tell a wakeup descriptor twice, so they are called.
        """
        try:
            self._give_back()
        finally:
            try:
                while self._caught:
                    number, frame = self._caught[0], sys._getframe()
                    handler = getsignal(number)
                    if not callable(handler):
                        handler = _raise_again  # another handler has set it so
                    del self._caught[0]  # now: nothing comes between this and the call
                    handler(number, frame)
            finally:
                if self._caught:
                    self._end()

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
        if number not in self._caught:
            self._caught.append(number)
        if self._open:
            self._open = False
            raise _Came

    def let(self, wait: Callable[..., V], *arguments: Any) -> V | None:
        """Call something that waits. None, at once, when a signal has come: the block is to end, then handlers run.

        The garbage collector may run meanwhile, in this thread just before the wait.
        """
        _collector.go_on()
        try:
            try:
                self._open = True
                return None if self._caught else wait(*arguments)
            finally:
                self._open = False
        except _Came:
            return None
        finally:
            _collector.pause()


def _leave_to_parent() -> None:
    """In a fork that another thread has made, nobody is in those blocks to end them."""
    for number in _NUMBERS:
        handler = getsignal(number)
        while isinstance(block := getattr(handler, "__self__", None), Held) and block._thread != threading.get_ident():
            handler = block._handlers.get(number, SIG_DFL)
            signal(number, handler)


os.register_at_fork(after_in_child=_leave_to_parent)
