"""Where the time of a cell went on each engine. What is called for it must not be known here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ipkernel_ext.display import columns
from ipkernel_ext.pieces import Times


class Share(NamedTuple):
    """The time of a cell on one engine, in seconds; they add up to the cell's."""

    engine: int
    computing: float  # on processors, of all threads: may be more than the time that passed
    waiting: float  # in user code, but on no processor
    moving: float  # data and calls on their way
    idle: float  # for those that were not done yet


def shares(ran: Iterable[Times], moves: Iterable[Iterable[Times]]) -> list[Share]:
    """Of each engine that ran the code.

    Parameters
    ----------
    ran
        Of the code.
    moves
        Of each call before or after it that moved data.
    """
    moved: dict[int, float] = {}
    together = 0.0
    for times in moves:
        times = list(times)
        together += max((time.under_way for time in times), default=0.0)
        for time in times:
            moved[time.engine] = moved.get(time.engine, 0.0) + time.under_way
    ran = list(ran)
    slowest = max((time.under_way for time in ran), default=0.0)
    found = []
    for time in sorted(ran):
        moving = moved.get(time.engine, 0.0) + max(0.0, time.under_way - time.seconds)
        waiting = max(0.0, time.seconds - time.cpu)
        idle = (slowest - time.under_way) + (together - moved.get(time.engine, 0.0))
        found.append(Share(time.engine, time.cpu, waiting, moving, max(0.0, idle)))
    return found


def imbalance(ran: Iterable[Times]) -> tuple[float, float, int]:
    """How much longer than the mean the slowest engine took, the part of all time spent waiting for it, and its id."""
    seconds = {time.engine: time.seconds for time in ran}
    if not any(seconds.values()):
        return 1.0, 0.0, min(seconds, default=-1)
    slowest = max(seconds, key=lambda engine: seconds[engine])
    mean = sum(seconds.values()) / len(seconds)
    return seconds[slowest] / mean, 1.0 - mean / seconds[slowest], slowest


def table(ran: Iterable[Times], moves: Iterable[Iterable[Times]], wall: float) -> str:
    """What ``%%pxtime`` shows.

    Parameters
    ----------
    wall : float
        Seconds that the cell took.
    """
    ran = list(ran)
    seconds = {time.engine: time.seconds for time in ran}
    head: tuple[str, ...] = ("engine", "in code", "computing", "waiting", "moving data", "idle")
    rows = [(str(share.engine), *map(_text, (seconds[share.engine], *share[1:]))) for share in shares(ran, moves)]
    lines = [columns([head, *rows]), f"the cell took {_text(wall)}"]
    times, lost, slowest = imbalance(ran)
    if len(ran) > 1:
        lines.append(
            f"load imbalance: engine {slowest} took {times:.2f} × the mean; "
            f"{100 * lost:.0f} % of the engines' time was spent waiting for it"
        )
    return "\n".join(lines)


def _text(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
