"""``python -m benchmarks.chunks``: ``chunksize="auto"`` beside hand-picked sizes, in one run.

For items that take from a microsecond to a second, the same map is run with each size in turns. The
ratio is that of the fastest size to auto: 1.00 is as good as the best choice by hand.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from ipkernel_ext import launch

ENGINES = 4
SIZES = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
MOST_CHUNKS = 20_000  # sizes that make more chunks than this are not tried: they are not the best ones


def computing(seconds: float) -> Callable[[int], int]:
    """A function whose items compute for so long."""
    from time import perf_counter

    def f(x: int) -> int:
        until = perf_counter() + seconds
        while perf_counter() < until:
            pass
        return x

    return f


def sleeping(seconds: float) -> Callable[[int], int]:
    """A function whose items wait for so long, so that more engines than cores can work."""
    from time import sleep

    def f(x: int) -> int:
        sleep(seconds)
        return x

    return f


def identity(x: int) -> int:
    """About the shortest function there is."""
    return x


def uneven(seconds: float) -> Callable[[int], int]:
    """A function whose items wait longer and longer."""
    from time import sleep

    def f(x: int) -> int:
        sleep(seconds * x)
        return x

    return f


CASES: list[tuple[str, Callable[[int], int], int]] = [
    ("under 1 us, computing", identity, 1_000_000),
    ("10 us, computing", computing(10e-6), 100_000),
    ("100 us, computing", computing(100e-6), 10_000),
    ("1 ms, waiting", sleeping(1e-3), 4_000),
    ("10 ms, waiting", sleeping(1e-2), 400),
    ("100 ms, waiting", sleeping(0.1), 60),
    ("1 s, waiting", sleeping(1.0), 10),
    ("0 to 20 ms, growing", uneven(1e-4), 200),
]


def timed(action: Callable[[], Any]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chunks")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(
        f"{'seconds per item':<24} {'items':>9} {'auto, s':>9} {'first, s':>9} {'best, s':>9} {'size':>8} {'ratio':>6}"
    )
    with launch(n=ENGINES) as rc:
        rc.map(identity, range(1000), chunksize=10)
        for name, f, items in CASES:
            sizes: list[int | str] = [size for size in SIZES if size < 2 * items and items / size <= MOST_CHUNKS]
            first = timed(lambda: rc.map(f, range(items)))  # noqa: B023 - called at once
            times: dict[int | str, list[float]] = {size: [] for size in ["auto", *sizes]}
            for _ in range(arguments.rounds):
                for size, seconds in times.items():
                    seconds.append(timed(lambda: rc.map(f, range(items), chunksize=size)))  # noqa: B023
            medians = {size: statistics.median(seconds) for size, seconds in times.items()}
            auto = medians.pop("auto")
            best = min(medians, key=lambda size: medians[size])
            ratio = medians[best] / auto
            print(
                f"{name:<24} {items:>9,} {auto:>9.3f} {first:>9.3f} {medians[best]:>9.3f} {best:>8} {ratio:>6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
