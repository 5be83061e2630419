"""``python -m benchmarks.data``: arrays to engines and back, beside the copies that no way can avoid, in turns.

A push, a scatter and a pull have to write the array once to where the other side can read it; a gather
has to join the pieces besides. The floor does these copies and nothing else, in this process, into shared
memory that has been written before. The first rows are the same calls with next to nothing in them, beside
as many of a bare ZeroMQ broker: most of a small array's time. ``--quick`` only tries it.
"""

from __future__ import annotations

import argparse
import mmap
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import psutil

from benchmarks.broker import Floor
from benchmarks.contestants import seconds
from benchmarks.table import MEGABYTES, MILLISECONDS, Row, in_turns, lines
from ipkernel_ext import RemoteController, launch

ENGINES = (4, 16)
SIZES = (8 * 2**10, 2**20, 64 * 2**20, 512 * 2**20)
ROUNDS = 9
CALLS = ("push", "scatter", "gather", "pull")
BROKER = "bare ZeroMQ broker"
TOWARDS = {"push": "to", "scatter": "to", "gather": "from", "pull": "from"}
WRITE = "one write into shared memory"
FLOORS = {"push": WRITE, "scatter": WRITE, "pull": WRITE, "gather": f"{WRITE}, and np.concatenate"}


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

    def rows(self) -> Iterator[Row]:
        """Ours beside the floor."""
        size, engines = self._name.rsplit(" ", 1)
        for call in CALLS:
            floor = f"{'join' if call == 'gather' else 'write'} {self._name}"
            where = "one" if call == "pull" else engines
            yield Row(
                f"{call} of {size} {TOWARDS[call]} {where}", MILLISECONDS, f"{call} {self._name}", floor, FLOORS[call]
            )


class Nothing:
    """The same calls with next to nothing in them, through us and through the bare broker."""

    def __init__(self, rc: RemoteController, floor: Floor) -> None:
        self._rc = rc
        self._floor = floor
        self._engines = len(rc)

    def contestants(self) -> dict[str, Callable[[], float]]:
        """By name."""
        rc, few = self._rc, np.zeros(len(self._rc), np.uint8)
        one = rc[rc.ids[-1]]
        ours: dict[str, Callable[[], float]] = {
            "push": lambda: seconds(lambda: rc.push({"few": few})),
            "scatter": lambda: seconds(lambda: rc.scatter("least", few)),
            "gather": lambda: seconds(lambda: rc.gather("least")),
            "pull": lambda: seconds(lambda: one.pull("few")),
            "call": lambda: seconds(lambda: self._floor.call(abs, -1)),
            "calls": lambda: seconds(lambda: self._floor.call_many(abs, range(self._engines))),
        }
        return {f"{call} nothing": act for call, act in ours.items()}

    def rows(self) -> Iterator[Row]:
        """Ours beside the broker."""
        for call in CALLS:
            floor, where = ("call", "one") if call == "pull" else ("calls", str(self._engines))
            text = f"{call} of some bytes {TOWARDS[call]} {where}"
            yield Row(text, MILLISECONDS, f"{call} nothing", f"{floor} nothing", BROKER)


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
        rows: list[Row] = []
        figures: dict[str, list[float]] = {}
        size = sizes[-1] if quick else 64 * 2**20
        figures |= {"grown": [memory_of_a_push(engines, size)], "once": [float(size)]}
        floor = Floor(engines)
        try:
            with launch(n=engines) as rc:
                for contest in (Nothing(rc, floor), *(Arrays(rc, size) for size in sizes)):
                    in_turns(contest.contestants(), 1 if quick else 3)  # memory becomes warm
                    figures |= in_turns(contest.contestants(), rounds)
                    rows += contest.rows()
        finally:
            floor.close()
        rows.append(Row(f"memory of a push to {engines}", MEGABYTES, "grown", "once", "the array once"))
        print("\n".join(lines(rows, figures)), end="\n\n")


if __name__ == "__main__":
    main()
