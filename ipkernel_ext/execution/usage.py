"""What a process uses: processor time and memory. Never raises here: user code may have used up the descriptors."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

LEAST = 0.1  # seconds between two measurements; those in between repeat the last one

FRESH = 1e-4  # seconds for which a processor's time is known after it was asked for


class Usage:
    """Measures a process, from now on.

    Parameters
    ----------
    wall, cpu
        Clocks, seconds: what time it is, and how long the process has been on a processor; by default this one.
    """

    def __init__(
        self, wall: Callable[[], float] = time.monotonic, cpu: Callable[[], float] = time.process_time
    ) -> None:
        self._wall = wall
        self._cpu = cpu
        self._last = wall(), cpu()
        self._percent = 0.0

    def cpu(self) -> float:
        """Percent of one core since the last measurement; several threads can make it more than 100."""
        now, used = self._wall(), self._cpu()
        before, earlier = self._last
        if now - before >= LEAST:
            self._percent = 100.0 * (used - earlier) / (now - before)
            self._last = now, used
        return self._percent

    @staticmethod
    def rss() -> int | None:
        """Bytes of this process's memory that are in RAM, those it shares with others included; None: unknown."""
        try:
            return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return _rss_without_proc()


class Processor:
    """The processor time of a process, of all threads, for short differences.

    To ask for it is a system call and costs as much as a tenth of a tiny task. So it is asked for seldom, and in
    between one thread counts as busy.

    Parameters
    ----------
    cpu
        A clock, seconds.
    """

    def __init__(self, cpu: Callable[[], float] = time.process_time) -> None:
        self._cpu = cpu
        self._asked = -math.inf
        self._ahead = 0.0  # of the time on the wall

    def at(self, now: float) -> float:
        """Seconds on processors, now.

        Parameters
        ----------
        now : float
            Of ``perf_counter``.
        """
        if now - self._asked > FRESH:
            self._asked, self._ahead = now, self._cpu() - now
        return now + self._ahead


def _rss_without_proc() -> int | None:
    import psutil

    try:
        rss: int = psutil.Process().memory_info().rss
    except (psutil.Error, OSError):
        return None
    return rss
