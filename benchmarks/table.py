"""Figures that compete, what is wanted of ours, and the table of it."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

OURS = "ipkernel_ext"


class Unit(NamedTuple):
    """How a figure is shown, and whether more of it is better."""

    name: str
    scale: float
    more_is_better: bool = False

    def show(self, figure: float) -> str:
        """The figure in this unit."""
        scaled = figure * self.scale
        return f"{scaled:,.0f}" if scaled >= 999.5 else f"{scaled:.3g}"


SECONDS = Unit("s", 1)
MILLISECONDS = Unit("ms", 1e3)
MICROSECONDS = Unit("µs", 1e6)
PER_SECOND = Unit("/s", 1, more_is_better=True)
MEGABYTES = Unit("MB", 2**-20)
PERCENT = Unit("%", 100, more_is_better=True)
PERCENT_OF_A_CORE = Unit("% of a core", 100)


class Row(NamedTuple):
    """One comparison.

    Attributes
    ----------
    case : str
        As ``cases`` names it; or "start", or "imports".
    n : int
        Workers.
    wanted : dict
        By contestant, how many times as good ours is to be.
    limit : float or None
        What ours is to be at most, or at least where more is better.
    """

    what: str
    case: str
    n: int
    unit: Unit
    wanted: Mapping[str, float] = {}
    limit: float | None = None


class Figures:
    """All that was measured, and why something was not."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(dict)
        self._missing: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)

    def add(self, case: str, n: int, name: str, figure: float) -> None:
        """One more figure of this contestant."""
        self._figures[case, n].setdefault(name, []).append(figure)

    def miss(self, case: str, n: int, name: str, why: str) -> None:
        """There is none."""
        self._missing[case, n][name] = why

    def save(self, path: Path) -> None:
        """Write them down, so that a later run can go on from here."""
        entries = [[*key, name, values] for key, names in self._figures.items() for name, values in names.items()]
        missing = [[*key, name, why] for key, names in self._missing.items() for name, why in names.items()]
        path.write_text(json.dumps({"figures": entries, "missing": missing}))

    def load(self, path: Path) -> None:
        """Add what an earlier run wrote down."""
        saved = json.loads(path.read_text())
        for case, n, name, values in saved["figures"]:
            for value in values:
                self.add(case, n, name, value)
        for case, n, name, why in saved["missing"]:
            self.miss(case, n, name, why)

    def median(self, row: Row, name: str) -> float | None:
        """The middle one of a contestant's figures."""
        figures = self._figures[row.case, row.n].get(name)
        return statistics.median(figures) if figures else None

    def spread(self, row: Row, name: str) -> float:
        """Half of the range that the middle half of the figures is in, as a share of their median."""
        figures = self._figures[row.case, row.n].get(name, ())
        if len(figures) < 2:
            return 0.0
        lower, median, upper = statistics.quantiles(figures, n=4, method="inclusive")
        return (upper - lower) / 2 / median if median else 0.0

    def why_not(self, row: Row, name: str) -> str | None:
        """Why a contestant has no figure; None where nobody asked it."""
        return self._missing[row.case, row.n].get(name)

    def names(self, row: Row) -> list[str]:
        """Contestants of a row, but for ours."""
        names = {**self._figures[row.case, row.n], **self._missing[row.case, row.n]}
        return [name for name in names if name != OURS]


def ratio(row: Row, ours: float, theirs: float) -> float | None:
    """How many times as good ours is; None where one of them is nothing that could be measured."""
    if not (ours and theirs):
        return None
    return ours / theirs if row.unit.more_is_better else theirs / ours


def times(value: float | None) -> str:
    """A ratio in figures."""
    if value is None:
        return "–"
    return f"{value:,.0f} ×" if value >= 10 else f"{value:.2f} ×"


def lines(rows: Iterable[Row], figures: Figures) -> Iterator[str]:
    """For people: each row with all contestants, and how many times as good ours is."""
    for row in rows:
        ours = figures.median(row, OURS)
        if ours is None:
            yield f"{row.what}: {figures.why_not(row, OURS) or 'not measured'}"
            continue
        shown = f"{row.unit.show(ours)} {row.unit.name} ±{figures.spread(row, OURS):.0%}"
        yield f"{row.what:<58} {shown:>22}  {_verdict_on_limit(row, ours)}".rstrip()
        for name in figures.names(row):
            theirs = figures.median(row, name)
            if theirs is None:
                yield f"    {name:<30} {figures.why_not(row, name)}"
                continue
            better = ratio(row, ours, theirs)
            wanted = row.wanted.get(name)
            verdict = "" if wanted is None or better is None else _verdict(better >= wanted, times(wanted))
            figure = f"{row.unit.show(theirs):>12} {row.unit.name:<12}"
            yield f"    {name:<30} {figure} {times(better):>9}  {verdict}".rstrip()


def _verdict_on_limit(row: Row, ours: float) -> str:
    if row.limit is None:
        return ""
    good = ours >= row.limit if row.unit.more_is_better else ours <= row.limit
    return _verdict(good, f"{row.unit.show(row.limit)} {row.unit.name}")


def _verdict(good: bool, wanted: str) -> str:
    return f"wanted {wanted}" if good else f"MISSED, wanted {wanted}"


def markdown(rows: Sequence[Row], figures: Figures, names: Sequence[str]) -> Iterator[str]:
    """The same as a table; a contestant without any figure has no column."""
    names = [name for name in names if any(figures.median(row, name) is not None for row in rows)]
    yield f"| | {OURS} | {' | '.join(names)} |"
    yield f"|---|---:|{'---:|' * len(names)}"
    for row in rows:
        ours = figures.median(row, OURS)
        if ours is None:
            continue
        cells = []
        for name in names:
            theirs = figures.median(row, name)
            if theirs is not None:
                cells.append(f"{row.unit.show(theirs)} ({times(ratio(row, ours, theirs))})")
            else:
                why = figures.why_not(row, name)
                cells.append("" if why is None else "–" if why == "not offered" else why)
        yield f"| {row.what}, {row.unit.name} | **{row.unit.show(ours)}** | {' | '.join(cells)} |"
