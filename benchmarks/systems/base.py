"""What every system is asked to do. What it does not offer stays ``NotOffered``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import work


class NotOffered(Exception):
    """The system has no such thing."""


class System:
    """A client and its workers.

    Attributes
    ----------
    n : int
        Workers, once started.
    """

    n = 0

    def start(self, n: int) -> None:
        """Start workers. Whether each is there is asked by ``pids``."""
        raise NotImplementedError

    def stop(self) -> None:
        """End them."""
        raise NotImplementedError

    def pids(self) -> list[int]:
        """Processes of the workers, all of which have answered."""
        seconds = min(0.05, 0.002 * self.n)
        found: set[int] = set()
        while len(found) < self.n:
            found.update(self.submit_all(work.pid_after, [seconds] * self.n))
            seconds = min(1.0, 1.3 * seconds)
            time.sleep(0)
        return sorted(found)

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        """One call, on any worker, and its value."""
        raise NotOffered

    def call_first(self, f: Callable[..., Any], *arguments: Any) -> Any:
        """One call on a given worker, and its value."""
        raise NotOffered

    def submit_all(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        """One task for each item, and all values."""
        raise NotOffered

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        """The values for all items, in the chunks that the system makes when it is not told any."""
        raise NotOffered

    def execute(self, code: str) -> None:
        """Run source code in the namespace of every worker."""
        raise NotOffered

    def print_lines(self, count: int) -> int:
        """Have every worker print so many lines; how many of them arrived at the client."""
        raise NotOffered
