"""``python -m benchmarks.data``: arrays to engines and back, beside the copies that no way can avoid, in turns.

A push, a scatter and a pull have to write the array once to where the other side can read it; a gather
has to join the pieces besides. The floor does these copies and nothing else, in this process, into shared
memory that has been written before. The first rows are the same calls with next to nothing in them: most
of a small array's time. ``--quick`` only tries it.
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.table import MEGABYTES, MILLISECONDS, Unit
from ipkernel_ext import RemoteController, launch

ENGINES = (4, 16)
SIZES = (8 * 2**10, 2**20, 64 * 2**20, 512 * 2**20)
ROUNDS = 9
WANTED = {"push": 1.3, "scatter": 1.5, "gather": 1.5, "pull": 1.5}
"""By call, how many times the floor's time it may take."""
CALLS = tuple(WANTED)
TOWARDS = {"push": "to", "scatter": "to", "gather": "from", "pull": "from"}

Figures = Mapping[str, Sequence[float]]
"""By contestant, one of each round: seconds, or bytes."""


class Line(NamedTuple):
    """One comparison."""

    what: str
    unit: Unit
    ours: str  # contestant
    floor: str | None = None  # contestant
    wanted: float | None = None  # times the floor, at most


def in_turns(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Every contestant's figures, taken in turns so that a drifting machine meets them all alike."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            figures[name].append(contestant())
    return figures


def table(rows: Iterable[Line], figures: Figures) -> Iterator[str]:
    """Medians, and the ratio of the medians; in brackets the quickest of the rounds, which others disturb least."""
    yield f"{'':<28} {'ours':>8} {'(best)':>8} {'floor':>8} {'(best)':>8}      {'ratio':>7} {'(best)':>7}"
    for what, unit, ours, floor, wanted in rows:
        middle, best = statistics.median(figures[ours]), min(figures[ours])
        line = f"{what:<28} {unit.show(middle):>8} {unit.show(best):>8}"
        if floor is not None:
            floor_middle, floor_best = statistics.median(figures[floor]), min(figures[floor])
            line += f" {unit.show(floor_middle):>8} {unit.show(floor_best):>8} {unit.name:<4}"
            line += f" {middle / floor_middle:>7.2f} {best / floor_best:>7.2f}"
        if wanted is not None:
            line += f"  wanted {wanted:g}"
        yield line


def seconds(action: Callable[[], Any]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def sized(size: int) -> str:
    """In the unit that suits it."""
    return f"{size // 2**20} MB" if size >= 2**20 else f"{size // 2**10} kB"


class Arrays:
    """One size of array, through us and through bare copies.

    Parameters
    ----------
    size : int
        Bytes.
    """

    def __init__(self, rc: RemoteController, size: int) -> None:
        self._rc = rc
        self._one = rc[rc.ids[-1]]
        self._name = f"{sized(size)} {len(rc)}"
        self._large = size >= 64 * 2**20
        self._array = np.frombuffer(os.urandom(2**12), np.uint8).repeat(size // 2**12)
        self._memory = np.frombuffer(mmap.mmap(-1, size), np.uint8)  # shared, and warm after the first time

    def write(self) -> float:
        """The array into shared memory."""
        return seconds(lambda: np.copyto(self._memory, self._array))

    def join(self) -> float:
        """The array into shared memory, and its pieces from there into one."""
        pieces = np.array_split(self._memory, len(self._rc))
        return self.write() + seconds(lambda: np.concatenate(pieces))

    def contestants(self) -> dict[str, Callable[[], float]]:
        """By name. What is pulled and gathered is not what is pushed and scattered: that was read by nobody."""
        rc, one, array = self._rc, self._one, self._array
        one.execute(f"import numpy\nmade = numpy.arange({len(array) // 8})")
        rc.scatter("part", array)
        ours: dict[str, Callable[[], float]] = {
            "push": lambda: seconds(lambda: rc.push({"whole": array})),
            "pull": lambda: seconds(lambda: one.pull("made")),
            "scatter": lambda: seconds(lambda: rc.scatter("piece", array)),
            "gather": lambda: seconds(lambda: rc.gather("part")),
            "write": self.write,
            "join": self.join,
        }
        return {f"{call} {self._name}": act for call, act in ours.items()}

    def rows(self) -> Iterator[Line]:
        """Ours beside the floor."""
        size, engines = self._name.rsplit(" ", 1)
        for call, wanted in WANTED.items():
            floor = f"{'join' if call == 'gather' else 'write'} {self._name}"
            what = f"{call} of {size} {TOWARDS[call]} {'one' if call == 'pull' else engines}"
            yield Line(what, MILLISECONDS, f"{call} {self._name}", floor, wanted if self._large else None)


class Nothing:
    """The same calls with next to nothing in them."""

    def __init__(self, rc: RemoteController) -> None:
        self._rc = rc

    def contestants(self) -> dict[str, Callable[[], float]]:
        """By name."""
        rc, few = self._rc, np.zeros(len(self._rc), np.uint8)
        one = rc[rc.ids[-1]]
        ours: dict[str, Callable[[], float]] = {
            "push": lambda: seconds(lambda: rc.push({"few": few})),
            "scatter": lambda: seconds(lambda: rc.scatter("least", few)),
            "gather": lambda: seconds(lambda: rc.gather("least")),
            "pull": lambda: seconds(lambda: one.pull("few")),
        }
        return {f"{call} nothing": act for call, act in ours.items()}

    def rows(self) -> Iterator[Line]:
        """Ours alone."""
        for call in CALLS:
            where = "one" if call == "pull" else len(self._rc)
            yield Line(f"{call} of some bytes {TOWARDS[call]} {where}", MILLISECONDS, f"{call} nothing")


def memory_of_a_push(engines: int, size: int) -> float:
    """Bytes by which all processes of a cluster grow together when each engine has an array and reads it."""
    array = np.ones(size, np.uint8)
    with launch(n=engines) as rc:
        pids = [os.getpid(), rc.status()["controller"]["pid"], *(engine.pid for engine in rc.engines)]

        def memory() -> int:
            return sum(psutil.Process(pid).memory_full_info().pss for pid in pids)

        rc.push({"few": array[:10]})
        rc.execute("few.sum()")
        before = memory()
        rc.push({"held": array})
        rc.execute("held.sum()")
        return float(memory() - before)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.data", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few engines, small arrays, one round: whether it runs")
    quick = parser.parse_args(arguments).quick
    rounds, sizes, counts = (1, SIZES[:2], (2,)) if quick else (ROUNDS, SIZES, ENGINES)
    for engines in counts:
        size = sizes[-1] if quick else 64 * 2**20
        figures: dict[str, list[float]] = {"grown": [memory_of_a_push(engines, size)], "once": [float(size)]}
        rows = [Line(f"memory of a push to {engines}", MEGABYTES, "grown", "once", 1.1)]
        with launch(n=engines) as rc:
            for contest in (Nothing(rc), *(Arrays(rc, size) for size in sizes)):
                in_turns(contest.contestants(), 1 if quick else 3)  # memory becomes warm
                figures |= in_turns(contest.contestants(), rounds)
                rows += contest.rows()
        print("\n".join(table(rows, figures)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
