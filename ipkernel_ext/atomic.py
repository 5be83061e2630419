"""Conditions, events and futures that Ctrl-C cannot leave locked.

The standard's ``Condition`` is entered by a Python function. A KeyboardInterrupt may come in there when the lock is
taken and nobody is there yet to give it back; then a thread that needs it for a moment, such as a client's I/O thread,
waits for ever. A lock itself is entered in C, where no interrupt can come in between.
"""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any


class Condition(threading.Condition):
    """As the standard's, but ``with`` enters and leaves its lock, both of which are looked up before it is taken."""

    __enter__ = property(lambda self: self._lock.__enter__)
    __exit__ = property(lambda self: self._lock.__exit__)

    def wait(self, timeout: float | None = None) -> bool:  # seconds
        """As the standard's; an interrupt that comes when it has just let go of the lock finds it taken again."""
        try:
            return super().wait(timeout)
        except BaseException:
            if not self._is_owned():  # type: ignore[attr-defined]
                self.acquire()
            raise


class Event(threading.Event):
    """As the standard's, with such a condition."""

    def __init__(self) -> None:
        super().__init__()
        self._cond = Condition()


class Future(concurrent.futures.Future[Any]):
    """As the standard's, with such a condition."""

    def __init__(self) -> None:
        super().__init__()
        self._condition = Condition()
