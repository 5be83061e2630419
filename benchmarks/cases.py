"""What is measured of a system that runs. Each case gives one figure: seconds, bytes, a rate or a share.

Slow systems are given less of the same work: as much as they can do in ``BUDGET`` seconds, judged from a little of it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import processes, work
from benchmarks.systems.base import System

BUDGET = 8.0  # seconds for one figure
SHORT, LONG = 0.001, 0.1  # seconds; of the items of an uneven map one in a hundred is long


def _timed(action: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _median(action: Callable[[], Any], times: int) -> float:
    """Seconds of one run, the middle one of so many; of fewer where the budget does not suffice."""
    taken: list[float] = []
    for _ in range(max(1, times // 10)):
        action()
    while len(taken) < times and sum(taken) < BUDGET:
        taken.append(_timed(action))
    return statistics.median(taken)


def _affordable(action: Callable[[Sequence[int]], Any], items: int) -> range:
    """So many items, or as many as the budget suffices for."""
    probe = range(min(items, 500))
    action(probe)
    each = _timed(lambda: action(probe)) / len(probe)
    return range(max(len(probe), min(items, int(BUDGET / each))))


def balanced(system: System, effort: float) -> float:
    """A no-op on any worker, until its value is here: seconds."""
    return _median(lambda: system.call(work.identity, 1), max(3, int(1000 * effort)))


def addressed(system: System, effort: float) -> float:
    """A no-op on a given worker, until its value is here: seconds."""
    return _median(lambda: system.call_first(work.identity, 1), max(3, int(1000 * effort)))


def execute(system: System, effort: float) -> float:
    """A line of code on every worker, until all have run it: seconds."""
    return _median(lambda: system.execute("a=5"), max(3, int(200 * effort)))


def submits(system: System, effort: float) -> float:
    """No-ops submitted one by one, all values gathered: tasks a second."""
    items = _affordable(lambda some: system.submit_all(work.identity, some), max(8, int(50_000 * effort)))
    return len(items) / _timed(lambda: system.submit_all(work.identity, items))


def small_map(system: System, effort: float) -> float:
    """A map of small items, in the system's own chunks: items a second."""
    items = _affordable(lambda some: system.map(work.square, some), max(8, int(100_000 * effort)))
    values: list[list[int]] = []
    seconds = _timed(lambda: values.append(system.map(work.square, items)))
    assert values[0] == [work.square(item) for item in items], "values are missing, wrong, or in another order"
    return len(items) / seconds


def uneven_map(system: System, effort: float) -> float:
    """A map of which one item in a hundred takes a hundred times longer: share of the ideal speed, at most 1."""
    items = [LONG if i % 100 == 50 else SHORT for i in range(max(100, int(4000 * effort)))]
    system.map(work.wait, items[: 10 * system.n])
    taken: list[list[float]] = []
    seconds = _timed(lambda: taken.append(system.map(work.wait, items)))
    return sum(taken[0]) / system.n / seconds


def printing(system: System, effort: float) -> float:
    """Every worker prints 100,000 lines, until the client has all: lines a second."""
    count = max(10, int(100_000 * effort))
    system.print_lines(10)
    lines = 0

    def run() -> None:
        nonlocal lines
        lines = system.print_lines(count)

    seconds = _timed(run)
    assert lines >= count * system.n, f"{lines} of {count * system.n} lines arrived"
    return lines / seconds


def submit_cost(system: System, effort: float) -> float:
    """Processor time of a no-op among many, in all processes together: seconds. The same on a busy machine."""
    items = _affordable(lambda some: system.submit_all(work.identity, some), max(500, int(50_000 * effort)))
    return _processor(lambda: system.submit_all(work.identity, items)) / len(items)


def call_cost(system: System, effort: float) -> float:
    """Processor time of a lone no-op, in all processes together: seconds."""
    calls = max(100, int(1000 * effort))
    return _processor(lambda: [system.call(work.identity, 1) for _ in range(calls)]) / calls


def _processor(action: Callable[[], Any]) -> float:
    pids = processes.marked(os.environ[processes.MARK])
    before = processes.seconds(pids)
    action()
    return processes.seconds(pids) - before


def memory(system: System, effort: float) -> float:
    """Memory of a worker, what is shared counted once in all: bytes."""
    return statistics.fmean(processes.memory(pid) for pid in system.pids())


def idle(system: System, effort: float) -> float:
    """Share of one core that all processes together use while nothing happens."""
    time.sleep(1.0)
    pids = processes.marked(os.environ[processes.MARK])
    before = processes.seconds(pids)
    begun = time.perf_counter()
    time.sleep(max(0.5, 10 * effort))
    return (processes.seconds(pids) - before) / (time.perf_counter() - begun)


CASES: dict[str, Callable[[System, float], float]] = {
    case.__name__: case
    for case in (
        balanced,
        addressed,
        execute,
        submits,
        submit_cost,
        call_cost,
        small_map,
        uneven_map,
        printing,
        memory,
        idle,
    )
}
