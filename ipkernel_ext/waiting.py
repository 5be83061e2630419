"""What somebody who waits for long wants to know: whether the controller answers, and what engines do meanwhile.

A call that takes no longer than a moment asks nothing; and what waits elsewhere is not known here.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.errors import ParallelError
from ipkernel_ext.net.client_channel import Channel

ASKS_AFTER = 2.0  # seconds of waiting, after which the controller is asked
ASKS_AGAIN = 10.0  # seconds from an answer to the next question
SILENT = 3.0  # seconds without an answer, after which that is said
TURN = 1.0  # seconds between two looks at a controller that is silent


def ping(request: int) -> m.Question:
    """A question that costs next to nothing."""
    return m.Why(request, None, [])


def what_runs(request: int) -> m.Question:
    """What each engine has, and what it does first."""
    return m.Ask(request, "queue_status")


class Watch:
    """Asks the controller now and then while somebody waits.

    Parameters
    ----------
    question
        Made from its request number.
    after : float, optional
        Seconds until the first question.
    again : float
        Seconds from an answer to the next question.

    Attributes
    ----------
    answer : dict
        The latest.
    """

    def __init__(
        self,
        channel: Channel,
        question: Callable[[int], m.Question] = ping,
        after: float | None = None,  # seconds
        again: float = ASKS_AGAIN,  # seconds
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel = channel
        self._question = question
        self._again = again
        self._clock = clock
        self._due = clock() + (ASKS_AFTER if after is None else after)
        self._asked: Future[dict[str, Any]] | None = None
        self._asked_at = 0.0
        self._said = False
        self.answer: dict[str, Any] = {}

    @property
    def turn(self) -> float:
        """Seconds until the next look is worth it."""
        return max(0.0, self._due - self._clock())

    def look(self) -> float:
        """Ask, if it is time; for how many seconds the controller has not answered, 0.0 while it does."""
        now = self._clock()
        if self._asked is None and now >= self._due:
            try:
                self._asked, self._asked_at = self._channel.ask(self._question), now
            except ParallelError:  # who waits hears of it from what he waits for
                self._due = math.inf
            else:
                self._due = now + SILENT
        if self._asked is not None and self._asked.done():
            if self._asked.exception() is None:
                self.answer = self._asked.result()
            self._asked, self._due = None, now + self._again
        if self._asked is None or now < self._asked_at + SILENT:
            return 0.0
        self._due = now + TURN
        return now - self._asked_at

    def say(self) -> None:
        """Look, and tell on standard error when the controller falls silent, and when it answers again."""
        silence = self.look()
        if bool(silence) != self._said:
            self._said = bool(silence)
            print(silent_for(silence) if silence else "the controller answers again", file=sys.stderr, flush=True)


def silent_for(seconds: float) -> str:
    """That the controller has not answered for so long."""
    return f"the controller has not answered for {seconds:.0f} s: its process is stopped or away, or its host too busy"
