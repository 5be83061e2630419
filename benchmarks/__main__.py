"""``python -m benchmarks``: ours beside the peers and a bare ZeroMQ broker, in one run, as ratios.

Contestants that need no processor while they are idle live side by side and take turns, case by case and round by
round; the others have the machine for themselves. Clusters of each size are started one after the other.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from benchmarks.contestant import ROOT, Contestant, Missing
from benchmarks.environment import Environment, prepare
from benchmarks.systems import NEEDS, PLACES
from benchmarks.table import (
    MEGABYTES,
    MICROSECONDS,
    MILLISECONDS,
    OURS,
    PER_SECOND,
    PERCENT,
    PERCENT_OF_A_CORE,
    SECONDS,
    Figures,
    Row,
    lines,
    markdown,
)

QUIET = (OURS, "broker", "Pool", "futures", "loky", "joblib")
SMALL = 4  # workers for all that does not depend on their number
SIZES = (4, 64, 256, 1024)
THOUSANDS = (OURS, "Pool", "futures")
"""Who is started with a thousand workers: of the others each worker takes 10 MB and more."""

LOAD = os.getloadavg()[0]
"""Before anything of this began."""

MEMORY = 0.6
"""Share of the memory that is free, which a cluster may be expected to take."""

ROUND_TRIP = {"broker": 1 / 1.25, "Pool": 1.0, "ipyparallel": 8, "ipyparallel, 200 ms": 8, "dask": 20, "ray": 2.5}
BROKER_EVERYWHERE = {"broker": 1 / 1.3}

ROWS = (
    Row("round trip of a no-op, balanced", "balanced", SMALL, MICROSECONDS, ROUND_TRIP),
    Row("round trip of a no-op, addressed", "addressed", SMALL, MICROSECONDS, ROUND_TRIP),
    Row("50,000 no-ops submitted one by one", "submits", SMALL, PER_SECOND, {"Pool": 1.3}),
    Row("processor time of one of them, in all processes", "submit_cost", SMALL, MICROSECONDS),
    Row("processor time of a lone no-op", "call_cost", SMALL, MICROSECONDS),
    Row("map of 100,000 small items", "small_map", SMALL, PER_SECOND, {"Pool": 0.8}),
    Row("map of uneven items, of the ideal", "uneven_map", SMALL, PERCENT, limit=1 / 1.1),
    Row("4 workers print 100,000 lines each", "printing", SMALL, PER_SECOND, limit=150_000),
    *(
        Row(f"execute('a=5') on {n} workers", "execute", n, MICROSECONDS, BROKER_EVERYWHERE if n < 1024 else {})
        for n in SIZES
    ),
    Row("start of 4 workers, until all have answered", "start", 4, SECONDS),
    Row("start of 64 workers", "start", 64, SECONDS),
    Row("start of 256 workers", "start", 256, SECONDS, limit=3.0),
    Row("start of 1,024 workers", "start", 1024, SECONDS, limit=12.0),
    *(Row(f"memory of one of {n:,} workers", "memory", n, MEGABYTES, limit=8e6) for n in SIZES),
    *(
        Row(f"idle, {n:,} workers and all else", "idle", n, PERCENT_OF_A_CORE, limit=0.005 if n == 256 else None)
        for n in SIZES[1:3]
    ),
    Row("import, beyond that of IPython", "imports", 0, MILLISECONDS, limit=0.15),
)

IMPORTS = {
    OURS: "import ipkernel_ext; ipkernel_ext.load_ipython_extension(shell)",
    "ipyparallel": "import ipyparallel",
    "dask": "import distributed",
    "ray": "import ray",
    "loky": "import loky",
    "joblib": "import joblib",
    "mpi4py": "import mpi4py.futures",
}


class Judge:
    """Has contestants do things, and writes down what it took.

    Parameters
    ----------
    effort : float
        Share of the whole work.
    """

    def __init__(self, environment: Environment | None, effort: float, limit: float) -> None:
        self._environment = environment
        self._effort = effort
        self._limit = limit
        self.figures = Figures()

    def small_work(self, names: Sequence[str], cases: Iterable[str], rounds: int) -> None:
        """These live side by side, and take turns."""
        contestants = [contestant for name in names if (contestant := self._contestant(name))]
        try:
            for contestant in contestants:
                self._ask(contestant, "start", SMALL, [SMALL])
            for round in range(1, rounds + 1):
                for case in cases:
                    for contestant in contestants:
                        say(f"{contestant.name}: {case}, round {round} of {rounds}")
                        self._ask(contestant, case, SMALL, [self._effort])
        finally:
            for contestant in contestants:
                contestant.close()

    def start(self, name: str, n: int, cases: Iterable[str]) -> None:
        """A cluster of this size, and what is asked of it."""
        wanted = n * self._memory_of_one(name)
        if wanted > MEMORY * psutil.virtual_memory().available:
            self.figures.miss("start", n, name, f"would take {wanted / 2**30:.0f} GB of memory")
            return
        contestant = self._contestant(name)
        if contestant is None:
            return
        say(f"{name}: start of {n}")
        try:
            self._ask(contestant, "start", n, [n])
            for case in cases:
                if not contestant.failed:
                    say(f"{name}: {case} of {n}")
                    self._ask(contestant, case, n, [self._effort])
        finally:
            contestant.close()

    def _memory_of_one(self, name: str) -> float:
        """Bytes that a worker of this system takes, as far as it was seen in smaller clusters."""
        seen = [self.figures.median(Row("", "memory", n, MEGABYTES), name) for n in SIZES]
        return max((figure for figure in seen if figure is not None), default=0.0)

    def imports(self, name: str, rounds: int) -> None:
        """What importing costs beyond IPython, with the extension loaded where there is one."""
        python = self._python(name)
        if python is None:
            return
        say(f"{name}: import")
        shell = "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()"
        code = f"import time; {shell}; begun = time.perf_counter(); {IMPORTS[name]}; print(time.perf_counter() - begun)"
        for _ in range(rounds):
            done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=ROOT)
            if done.returncode:
                self.figures.miss("imports", 0, name, (done.stderr.splitlines() or ["failed"])[-1])
            else:
                self.figures.add("imports", 0, name, float(done.stdout.split()[-1]))

    def _ask(self, contestant: Contestant, case: str, n: int, arguments: list[float]) -> None:
        try:
            figure = contestant.ask(case, *arguments, limit=self._limit)
        except Missing as missing:
            self.figures.miss(case, n, contestant.name, str(missing))
            if str(missing) != "not offered":
                say(f"{contestant.name}: {missing}", *contestant.log())
        else:
            self.figures.add(case, n, contestant.name, figure)

    def _contestant(self, name: str) -> Contestant | None:
        python = self._python(name)
        return None if python is None else Contestant(name, python)

    def _python(self, name: str) -> str | None:
        """The interpreter that has what a system needs; None where it is not there."""
        need = NEEDS.get(name)
        if need is None:
            return sys.executable
        if self._environment is None or need in self._environment.missing:
            return None
        return self._environment.python


def say(*lines: str) -> None:
    """How far it is; not a part of the table."""
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: three minutes")
    parser.add_argument("--only", default=",".join(PLACES), help="these systems, by name, with semicolons between")
    parser.add_argument("--sizes", default="", help="these numbers of workers; default: 4,64,256,1024")
    parser.add_argument("--rounds", type=int, default=0, help="of the small work")
    parser.add_argument("--effort", type=float, default=0.0, help="share of the whole work")
    parser.add_argument("--limit", type=float, default=0.0, help="seconds in which each figure must come")
    parser.add_argument("--parts", default="small,start,imports", help="these parts of the whole")
    parser.add_argument("--figures", type=Path, help="a file that earlier figures are taken from, and all are put into")
    parser.add_argument("--write", type=Path, help="put the table into this page too, between its marks")
    options = parser.parse_args(arguments)
    names = [name for name in PLACES if name in options.only.split(";" if ";" in options.only else ",")]
    if options.only == ",".join(PLACES):
        names = list(PLACES)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have their byte code, so have ours too
    compileall.compile_dir(ROOT / "ipkernel_ext", quiet=2)
    quick = options.quick
    sizes = [int(size) for size in options.sizes.split(",")] if options.sizes else list(SIZES[:3] if quick else SIZES)
    rounds = options.rounds or (2 if quick else 5)
    judge = Judge(
        prepare(say=say) if any(name in NEEDS for name in names) else None,
        options.effort or (0.1 if quick else 1.0),
        options.limit or (30 if quick else 300),
    )
    if options.figures and options.figures.exists():
        judge.figures.load(options.figures)
    try:
        measure(judge, names, sizes, rounds, quick, options.parts.split(","))
    except KeyboardInterrupt:
        say("interrupted; this is what there is")
    if options.figures:
        judge.figures.save(options.figures)
    rows = [row for row in ROWS if judge.figures.median(row, OURS) is not None]
    print("\n".join(lines(rows, judge.figures)))
    if options.write:
        write(options.write, rows, judge.figures, list(PLACES))


def measure(
    judge: Judge, names: Sequence[str], sizes: Sequence[int], rounds: int, quick: bool, parts: Sequence[str]
) -> None:
    """All of it, in an order in which nobody disturbs anybody."""
    if "small" in parts:
        small(judge, names, rounds, quick)
    if "cost" in parts:  # alone: what a busy machine does not change
        for name in names:
            judge.small_work([name], ("submit_cost", "call_cost"), rounds)
    for n in sizes if "start" in parts else ():
        for _ in range(3 if n == SMALL and not quick else 1):
            for name in _who_starts(names, n, quick):
                judge.start(name, n, ("memory", "idle") if n == SMALL else ("memory", "execute", "idle"))
    for name in names if "imports" in parts else ():
        if name in IMPORTS:
            judge.imports(name, rounds)


def small(judge: Judge, names: Sequence[str], rounds: int, quick: bool) -> None:
    """What few workers do."""
    cases = ("submit_cost", "call_cost", "balanced", "addressed", "execute", "submits", "small_map", "uneven_map")
    quiet = [name for name in QUIET if name in names]
    judge.small_work(quiet, cases, rounds)
    for name in names:
        if name not in quiet and not (quick and name in ("ipyparallel", "mpi4py")):
            judge.small_work([name], (*cases, "printing"), 1 if quick else 2)
    if OURS in names:
        judge.small_work([OURS], ["printing"], rounds)


def _who_starts(names: Sequence[str], n: int, quick: bool) -> list[str]:
    if n >= 1000:
        return [name for name in names if name in THOUSANDS]
    if quick:
        return [name for name in names if name in (OURS, "Pool", *(["broker"] if n < 100 else []))]
    return [name for name in names if name != "mpi4py, busy" or n == SMALL]


BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def write(page: Path, rows: Sequence[Row], figures: Figures, names: Sequence[str]) -> None:
    """Replace the table of a page."""
    text = page.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    load = f"other processes kept {max(0.0, LOAD):.0f} of them busy or waiting when it began"
    where = f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {machine}; {load}."
    table = "\n".join(markdown(rows, figures, [name for name in names if name != OURS]))
    page.write_text(f"{head}{BEGIN}\n{where}\n\n{table}\n{END}{tail}")


if __name__ == "__main__":
    main()
