"""Figures that compete, what is compared with what, and the table of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

Figures = Mapping[str, Sequence[float]]
"""By contestant, one of each round: seconds for one thing, or bytes."""


class Unit(NamedTuple):
    """How a figure is shown."""

    name: str
    show: Callable[[float], float]


MILLISECONDS = Unit("ms", lambda seconds: seconds * 1e3)
MICROSECONDS = Unit("us", lambda seconds: seconds * 1e6)
PER_SECOND = Unit("per s", lambda seconds: 1 / seconds)
MEGABYTES = Unit("MB", lambda size: size / 2**20)


class Row(NamedTuple):
    """One comparison."""

    what: str
    unit: Unit
    ours: str  # contestant
    floor: str  # contestant
    floor_is: str


def in_turns(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Every contestant's figures, taken in turns so that a drifting machine meets them all alike."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            figures[name].append(contestant())
    return figures


def spread(figures: Sequence[float]) -> float:
    """Half of the range that the middle half of the figures is in, as a share of their median."""
    if len(figures) < 2:
        return 0.0
    lower, median, upper = statistics.quantiles(figures, n=4, method="inclusive")
    return (upper - lower) / 2 / median


def lines(rows: Iterable[Row], figures: Figures) -> Iterator[str]:
    """The table: medians, and of ours the spread."""
    yield f"{'':<34} {'ours':>11} {'':>5} {'floor':>11} {'':<6} {'ratio':>6}  floor is"
    for row in rows:
        ours, floor = ([row.unit.show(figure) for figure in figures[name]] for name in (row.ours, row.floor))
        middle, bottom = statistics.median(ours), statistics.median(floor)
        yield (
            f"{row.what:<34} {middle:>11,.1f} {f'±{spread(ours):.0%}':>5} {bottom:>11,.1f} {row.unit.name:<6} "
            f"{middle / bottom:>6.2f}  {row.floor_is}"
        )
