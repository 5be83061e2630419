"""``python -m benchmarks.calls``: what a call costs the calling thread, and the taking of its result.

Over a channel that leads nowhere: what is submitted is kept, and its results are handed over by hand, so that neither
processes nor other threads are in the way. Processor time of one task in a burst of many, with what the garbage
collector takes of it; the best of many runs.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import socket
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from ipkernel_ext import RemoteController, payload
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.client import Submission
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.net.client_channel import Failures, Receiver, Roster

TASKS = 50_000
RUNS = 9
ENGINES = 4


class Nowhere(Failures):
    """A connection over which nothing travels."""

    client = "client"
    ended: str | None = None
    forked = False
    turning = False

    def __init__(self) -> None:
        engines = {n: m.EngineRecord(f"boot{n}", socket.gethostname(), 1, "", id=n) for n in range(ENGINES)}
        self.roster = Roster(True, engines)
        self.sent: list[tuple[Submission, Receiver]] = []
        self.advised: set[str] = set()
        self.asking: weakref.WeakSet[Any] = weakref.WeakSet()
        self.on_stray: Callable[[Any], None] = lambda output: None
        self.on_followed: Callable[[Any], None] = lambda event: None
        self.on_module: Callable[[str], tuple[str | None, str]] = lambda name: (None, "")
        self._numbers = itertools.count()

    def next_numbers(self, count: int) -> range:
        """Task numbers nobody else has."""
        assert count == 1
        first = next(self._numbers)
        return range(first, first + 1)

    def share(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """They are small."""
        return frames

    def submit(self, submission: Submission, receiver: Receiver) -> None:
        """Keep it."""
        self.sent.append((submission, receiver))

    def close(self) -> None:
        """There is nothing to close."""


def identity(x: Any) -> Any:
    """What is called."""
    return x


def measure(tasks: int) -> list[float]:
    """Microseconds of a task: its submission, the taking of its result, the asking for its value."""
    channel = Nowhere()
    rc = RemoteController(channel=channel)  # type: ignore[arg-type]
    rc.submit(identity, 0)
    channel.sent.clear()
    gc.collect()
    times = [time.thread_time()]
    futures = [rc.submit(identity, i) for i in range(tasks)]
    times.append(time.thread_time())
    frames = payload.dumps(1)
    arrived = [(m.Result(m.TaskId(channel.client, s.numbers[0]), 1, 0), receiver) for s, receiver in channel.sent]
    channel.sent.clear()
    times.append(time.thread_time())
    for result, receiver in arrived:
        receiver.on_result(result, frames)
    times.append(time.thread_time())
    assert sum(future.result() for future in futures) == tasks
    times.append(time.thread_time())
    begun, sent, ready, taken, asked = times
    return [1e6 * seconds / tasks for seconds in (sent - begun, taken - ready, asked - taken)]


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args()
    runs = [measure(options.tasks) for _ in range(options.runs)]
    for name, figures in zip(("submit", "on_result", "result"), zip(*runs, strict=True), strict=True):
        print(f"{name:10} {min(figures):6.2f} µs")


if __name__ == "__main__":
    main()
