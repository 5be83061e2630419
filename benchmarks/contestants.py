"""What is measured: each contestant does one thing once and says what it took."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from multiprocessing.pool import Pool
from typing import Any

import psutil

from benchmarks.broker import Floor
from ipkernel_ext import RemoteController, launch

IMPORTS = "import IPython, zmq, numpy"


def seconds(action: Callable[[], Any], times: int = 1) -> float:
    """Seconds for one of so many runs."""
    begun = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - begun) / times


class Life:
    """Start and stop of a cluster of ours, beside what any such process has to import."""

    def __init__(self, engines: int) -> None:
        self._engines = engines
        self._running: list[AbstractContextManager[RemoteController]] = []

    def start(self) -> float:
        """Until all engines are ready."""
        return seconds(lambda: self._running.append(launch(n=self._engines)))

    def stop(self) -> float:
        """Until all processes have ended."""
        cluster = self._running.pop()
        return seconds(lambda: cluster.__exit__(None, None, None))

    def imports(self) -> float:
        """A Python that imports and ends."""
        return seconds(lambda: subprocess.run([sys.executable, "-c", IMPORTS], check=True))

    def contestants(self) -> dict[str, Callable[[], float]]:
        """By name."""
        return {"start": self.start, "imports": self.imports, "stop": self.stop}


class Calls:
    """Small tasks, through us, the bare broker, and a process pool.

    Parameters
    ----------
    effort : float
        1.0 for figures to rely on.
    """

    def __init__(self, rc: RemoteController, floor: Floor, pool: Pool, effort: float) -> None:
        self._rc = rc
        self._one = rc[rc.ids[0]]
        self._floor = floor
        self._pool = pool
        self._calls = max(2, int(300 * effort))
        self._tasks = range(max(8, int(10_000 * effort)))
        self._items = range(max(8, int(100_000 * effort)))

    def contestants(self) -> dict[str, Callable[[], float]]:
        """By name."""
        rc, floor, pool, calls = self._rc, self._floor, self._pool, self._calls
        tasks, items, engines = self._tasks, self._items, range(len(rc))

        def each(of: Iterable[int], action: Callable[[], Any]) -> Callable[[], float]:
            count = len(list(of))
            return lambda: seconds(action) / count

        return {
            "addressed": lambda: seconds(lambda: self._one.apply(abs, -1), calls),
            "balanced": lambda: seconds(lambda: rc.submit(abs, -1).result(), calls),
            "bare call": lambda: seconds(lambda: floor.call(abs, -1), calls),
            "execute": lambda: seconds(lambda: rc.execute("a=5"), max(1, calls // 6)),
            "bare calls": lambda: seconds(lambda: floor.call_many(abs, engines), max(1, calls // 6)),
            "submits": each(tasks, lambda: [f.result() for f in [rc.submit(abs, i) for i in tasks]]),
            "bare tasks": each(tasks, lambda: floor.call_many(abs, tasks)),
            "pool tasks": each(tasks, lambda: [r.get() for r in [pool.apply_async(abs, (i,)) for i in tasks]]),
            "map": each(items, lambda: rc.map(abs, items)),
            "pool map": each(items, lambda: pool.map(abs, items)),
        }


class Memory:
    """Proportional share of memory, bytes: pages that processes share count once in all."""

    def __init__(self, rc: RemoteController, floor: Floor) -> None:
        self._of = {
            "engine": [engine.pid for engine in rc.engines],
            "worker": floor.worker_pids,
            "controller": [rc.status()["controller"]["pid"]],
            "broker": [floor.broker_pid],
        }

    def contestants(self) -> dict[str, Callable[[], float]]:
        """By name: the mean over processes of that kind."""
        return {
            name: lambda pids=pids: statistics.fmean(psutil.Process(pid).memory_full_info().pss for pid in pids)
            for name, pids in self._of.items()
        }
