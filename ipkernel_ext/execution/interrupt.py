"""Interrupting user code, and nothing else.

SIGINT is the only way to stop Python code from outside, and it lands wherever the main thread is.
So an interrupt names the task it is for, and the handler raises KeyboardInterrupt only while the
main thread is *armed* for that very task; at most once per arming. One that comes before the task
is armed takes effect when it is. And a signal that comes just as user code enters a system call does
not end that call, so it is sent again until it has been seen.
"""

from __future__ import annotations

import signal
import threading
from _signal import getsignal  # type: ignore[import-not-found]  # ``signal``'s own is slow: it makes an enumeration's member
from collections.abc import Callable, Hashable
from types import FrameType

_SIGINT = signal.SIGINT

_SPENT = object()
"""Wanted is the interrupt of something that does not run any more."""


class Interrupter:
    """Owns SIGINT in the process's main thread.

    Attributes
    ----------
    otherwise
        Called at a SIGINT that no interrupt of ours has sent, such as a terminal's Ctrl-C.
    """

    def __init__(self) -> None:
        self.otherwise: Callable[[], None] = lambda: None
        self._handler = self._handle  # one object, so that it can be known again quickly
        self._main = threading.main_thread().ident
        self._armed: Hashable = None
        self._wanted: Hashable = None
        self.struck = False  # user code was interrupted, since somebody last looked

    def install(self) -> None:
        """Take SIGINT over. To be called from the main thread."""
        signal.signal(signal.SIGINT, self._handler)

    def arm(self, task: Hashable) -> None:
        """User code of this task begins; from now on it can be interrupted."""
        if getsignal(_SIGINT) is not self._handler and threading.get_ident() == self._main:
            self.install()  # user code had replaced it
        self._armed = task
        if self._wanted is not None and self._wanted == task:
            self.disarm()
            self.struck = True
            raise KeyboardInterrupt

    def hold(self) -> None:
        """User code pauses between two items: an interrupt that comes now takes effect when it is armed again."""
        self._armed = None

    def spend(self) -> None:
        """An interrupt that may still come was for an item that has ended: it has no effect."""
        self._wanted = _SPENT

    def disarm(self) -> None:
        """User code has ended."""
        self._armed = None
        self._wanted = None

    def interrupt(self, task: Hashable) -> None:
        """Interrupt this task, if it is the one that runs. From any thread."""
        self._wanted = task
        self._signal()

    def insist(self) -> bool:
        """Send the signal again, if the interrupt has had no effect so far. Whether it was sent.

        A handler that user code has put in the place of ours has got the first one, and gets no other.
        """
        if self._wanted is None or self._wanted is _SPENT or getsignal(_SIGINT) is not self._handler:
            return False
        self._signal()
        return True

    def _signal(self) -> None:
        if self._main is not None:
            signal.pthread_kill(self._main, signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._wanted is None:
            self.otherwise()
        elif self._armed is not None and self._armed == self._wanted:
            self.disarm()
            self.struck = True
            raise KeyboardInterrupt
