"""``python -m benchmarks``: ours and the floor in turns; medians, spread and ratios. ``--quick`` only tries it."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Sequence

from benchmarks.broker import Floor
from benchmarks.contestants import IMPORTS, Calls, Life, Memory
from benchmarks.table import MEGABYTES, MICROSECONDS, MILLISECONDS, PER_SECOND, Row, in_turns, lines
from ipkernel_ext import launch

ENGINES = 4
ROUNDS = 7
PYTHON = f"python -c '{IMPORTS}'"
BROKER = "bare ZeroMQ broker"
POOL = "multiprocessing.Pool"

ROWS = (
    Row(f"start, until {ENGINES} engines are ready", MILLISECONDS, "start", "imports", PYTHON),
    Row(f"stop of {ENGINES} engines", MILLISECONDS, "stop", "imports", PYTHON),
    Row("round trip of a no-op, addressed", MICROSECONDS, "addressed", "bare call", BROKER),
    Row("round trip of a no-op, balanced", MICROSECONDS, "balanced", "bare call", BROKER),
    Row(f"execute('a=5') on {ENGINES} engines", MICROSECONDS, "execute", "bare calls", f"{BROKER}, {ENGINES} calls"),
    Row("submits, results gathered", PER_SECOND, "submits", "bare tasks", BROKER),
    Row("", PER_SECOND, "submits", "pool tasks", f"{POOL}.apply_async"),
    Row("items of a map", PER_SECOND, "map", "pool map", f"{POOL}.map"),
    Row("memory of an engine", MEGABYTES, "engine", "worker", f"worker of the {BROKER}"),
    Row("memory of the controller", MEGABYTES, "controller", "broker", BROKER),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of little work: whether it runs at all")
    quick = parser.parse_args(arguments).quick
    rounds, effort = (1, 0.01) if quick else (ROUNDS, 1.0)
    figures = in_turns(Life(ENGINES).contestants(), rounds)
    floor = Floor(ENGINES)
    try:
        with multiprocessing.Pool(ENGINES) as pool, launch(n=ENGINES) as rc:
            figures |= in_turns(Calls(rc, floor, pool, effort).contestants(), rounds)
            figures |= in_turns(Memory(rc, floor).contestants(), rounds)
    finally:
        floor.close()
    print("\n".join(lines(ROWS, figures)))


if __name__ == "__main__":
    main()
