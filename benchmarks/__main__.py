"""``python -m benchmarks``: measures ours and the floor in turns, and prints medians and ratios."""

from __future__ import annotations

import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil

from benchmarks.broker import Floor
from ipkernel_ext import RemoteController, launch

ENGINES = 4
ROUNDS = 7


def _timed(action: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _medians(*actions: Callable[[], Any]) -> list[float]:
    """Seconds of each action, measured in turns so that a drifting machine meets them all alike."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(ROUNDS):
        for action, seconds in zip(actions, times, strict=True):
            seconds.append(_timed(action))
    return [statistics.median(seconds) for seconds in times]


def _row(what: str, ours: float, floor: float, unit: str, of: str) -> None:
    print(f"{what:<44} {ours:>12,.1f} {floor:>12,.1f} {unit:<8} {ours / floor:>6.2f}  {of}")


def main() -> None:
    """Print the table."""
    print(f"{'':<44} {'ours':>12} {'floor':>12} {'':<8} ratio")
    imports = [sys.executable, "-c", "import IPython, zmq"]
    start, floor_start = _medians(lambda: launch(n=ENGINES).close(), lambda: subprocess.run(imports, check=True))
    _row(
        f"start and stop of {ENGINES} engines", start * 1e3, floor_start * 1e3, "ms", "python -c 'import IPython, zmq'"
    )
    floor = Floor(ENGINES)
    try:
        with launch(n=ENGINES) as rc:
            _compare(rc, floor)
    finally:
        floor.close()


def _compare(rc: RemoteController, floor: Floor) -> None:
    broker = "bare broker"
    calls = range(300)
    one = rc[0]
    times = _medians(
        lambda: [one.apply(abs, -1) for _ in calls],
        lambda: [rc.submit(abs, -1).result() for _ in calls],
        lambda: [floor.call(abs, -1) for _ in calls],
    )
    addressed, balanced, bare = (seconds / len(calls) * 1e6 for seconds in times)
    _row("round trip of a no-op, addressed", addressed, bare, "us", broker)
    _row("round trip of a no-op, balanced", balanced, bare, "us", broker)

    items = range(10_000)
    with multiprocessing.Pool(ENGINES) as pool:
        submits, bare, pooled, mapped, pool_map = _medians(
            lambda: [future.result() for future in [rc.submit(abs, i) for i in items]],
            lambda: floor.call_many(abs, items),
            lambda: [result.get() for result in [pool.apply_async(abs, (i,)) for i in items]],
            lambda: rc.map(abs, range(100_000)),
            lambda: pool.map(abs, range(100_000)),
        )
    count = len(items)
    _row(f"{count:,} submits, results gathered", count / submits, count / bare, "tasks/s", broker)
    _row("", count / submits, count / pooled, "tasks/s", "multiprocessing.Pool.apply_async")
    _row("map of 100,000 items", 1e5 / mapped, 1e5 / pool_map, "items/s", "multiprocessing.Pool.map")

    executed, every = _medians(
        lambda: [rc.execute("a=5") for _ in range(50)],
        lambda: [floor.call_many(abs, range(ENGINES)) for _ in range(50)],
    )
    _row(
        f"execute('a=5') on all {ENGINES} engines",
        executed / 50 * 1e6,
        every / 50 * 1e6,
        "us",
        f"{broker}, {ENGINES} calls",
    )

    engines = [psutil.Process(engine.pid).memory_full_info().pss / 2**20 for engine in rc.engines]
    print(f"{'memory of an engine (proportional share)':<44} {statistics.median(engines):>12,.1f} {'':>12} MB")


if __name__ == "__main__":
    main()
