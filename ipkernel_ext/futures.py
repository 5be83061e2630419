"""A ``concurrent.futures.Future`` of which there may be very many.

Nobody waits for each of 50,000 small tasks, but the garbage collector looks at all that each of them consists of,
again and again while they pile up: with a condition, its lock and lists for everyone, it took half of the time in
which they were sent. So what it takes to wait for a future is made when somebody does, and all futures have one lock.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, _base
from concurrent.futures._base import FINISHED, PENDING, RUNNING
from pathlib import Path
from types import FrameType
from typing import Any

from ipkernel_ext.atomic import Condition, Event
from ipkernel_ext.net.client_channel import Channel

_TAKERS = frozenset({_base.__file__, __file__, str(Path(__file__).with_name("results.py"))})

lock = threading.RLock()
"""Of all futures. Held for moments; nobody waits for anything else meanwhile.

It is entered as such, not by way of a condition: that is a Python function, in which a KeyboardInterrupt may come when
the lock is taken and nobody is there yet to give it back.
"""


def _renew_lock() -> None:
    global lock
    lock = threading.RLock()  # a thread that held it does not exist in a forked process


os.register_at_fork(after_in_child=_renew_lock)


def let_go(outer: int = 2) -> None:
    """Give the lock back that an interrupt has left with this thread, which is about to wait for something else.

    ``concurrent.futures.wait`` and ``as_completed`` take it once for each future, in Python. Where a finalizer or a
    signal's handler calls this, whoever was interrupted may still have it, and keeps it.

    Parameters
    ----------
    outer : int
        How far out in the stack the frames begin that may have it.
    """
    if is_mine() and not _has_takers(sys._getframe(outer)):
        while is_mine():
            lock.release()


def _has_takers(frame: FrameType | None) -> bool:
    """Whether a function that takes the lock is under way in the stack."""
    while frame is not None:
        if frame.f_code.co_filename in _TAKERS:
            return True
        frame = frame.f_back
    return False


def is_mine() -> bool:
    """Whether this thread has the lock, as when a signal's handler runs where somebody looks at a future.

    Then it is to wait by a condition, which lets go of the lock.
    """
    return bool(lock._is_owned())  # type: ignore[attr-defined]


class _Event(Event):
    """What those two wait for."""

    def wait(self, timeout: float | None = None) -> bool:  # seconds
        """As any event's."""
        let_go(3)  # the frame before is of the function that waits, and has given back what it had
        return super().wait(timeout)


class _Waiters(list[Any]):
    """Of ``concurrent.futures.wait`` and ``as_completed``, which put them here before they wait for their events."""

    def append(self, waiter: Any) -> None:
        """Another one. The I/O thread will set its event, so that is to be one that Ctrl-C cannot leave locked."""
        if not isinstance(waiter.event, _Event):
            waiter.event = _Event()
        super().append(waiter)


class ClientFuture(Future):  # type: ignore[type-arg]
    """A future whose callbacks may make calls of its client and wait for them; they run one after the other.

    Parameters
    ----------
    channel
        The client's.
    """

    _state = PENDING
    _result = None
    _exception = None
    _waited: threading.Condition | None = None
    _waiting: list[Any] | None = None
    _callbacks: list[Callable[[Any], object]] | None = None

    def __init__(self, channel: Channel) -> None:
        self._channel = channel  # and nothing of Future's own: see below

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        waited = self._waited
        if waited is None:
            with lock:
                waited = self._waited = self._waited or Condition(lock)
        return waited

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        """Under the lock, as the next."""
        if self._waiting is None:
            self._waiting = _Waiters()
        return self._waiting

    @property
    def _done_callbacks(self) -> list[Callable[[Any], object]]:
        if self._callbacks is None:
            self._callbacks = []
        return self._callbacks

    def done(self) -> bool:
        """Whether it has ended."""
        return self._state != PENDING and self._state != RUNNING

    def set_running_or_notify_cancel(self) -> bool:
        """It runs now, unless it was cancelled before."""
        with lock:
            if self._state == PENDING:
                self._state = RUNNING
                return True
        return super().set_running_or_notify_cancel()

    def settle(self, error: Exception | None) -> None:
        """It is done, with this error or with no value."""
        with lock:
            self._exception = error
            self._state = FINISHED
            for waiter in self._waiting or ():
                waiter.add_result(self) if error is None else waiter.add_exception(self)
            self.tell()
            self._waited = None  # whoever still holds it holds the same lock
        if self._callbacks:
            self._invoke_callbacks()  # type: ignore[attr-defined]

    def tell(self) -> None:
        """Whoever waits for it is to look again. Under the lock."""
        if self._waited is not None:
            self._waited.notify_all()

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call ``fn`` with this future when it is done; at once, and here, if it is."""
        if getattr(fn, "__module__", "") == "asyncio.futures":  # wakes a loop, and is to wait for nobody
            super().add_done_callback(fn)
        else:
            super().add_done_callback(functools.partial(self._channel.call_back, fn))
