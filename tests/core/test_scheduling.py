"""Windows, and the choice of an engine."""

from __future__ import annotations

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.queues import Task
from ipkernel_ext.core.roster import Engine
from ipkernel_ext.core.scheduling import LONG, RECALL_AFTER, WINDOW, Pool, learn, window
from tests.core.cluster import CODE, ann


def engine(boot: str = "b0", held: int = 0) -> Engine:
    """An engine that is here and holds some balanced tasks."""
    made = Engine(m.EngineRecord(boot, "here", 1, "3"))
    made.tasks = boot
    hold(made, held)
    return made


def hold(engine: Engine, count: int) -> None:
    """It holds so many balanced tasks."""
    engine.sent = {ann(n): Task(ann(n), CODE, (), None, None, 0) for n in range(count)}
    engine.balanced = count


@pytest.mark.parametrize(
    ("seconds", "expected"), [(None, 1), (1e-6, WINDOW), (0.001, 5), (0.004, 2), (LONG, 2), (1.0, 1)]
)
def test_a_window_is_a_few_milliseconds_of_work(seconds: float | None, expected: int) -> None:
    one = engine()
    one.seconds = seconds
    assert window(one) == expected
    one.stuck = True
    assert window(one) == 1


def test_durations_are_learned_gradually() -> None:
    one = engine()
    learn(one, 1.0)
    assert one.seconds == 1.0
    learn(one, 0.0)
    assert one.seconds == pytest.approx(0.8)


def test_idle_engines_come_first_then_those_that_waited_longest() -> None:
    pool = Pool()
    busy = [engine(f"b{n}", held=1) for n in range(3)]
    for one in busy:
        one.seconds = 1e-6
        pool.file(one)
    assert [pool.choose() for _ in range(4)] == [*busy, busy[0]]
    idle = engine("idle")
    pool.file(idle)
    assert pool.choose() is idle


def test_who_cannot_take_a_task_is_not_chosen() -> None:
    pool = Pool()
    full = engine("full", held=1)
    away = engine("away")
    away.tasks = None
    waiting = engine("waiting")
    waiting.queue.append(Task(ann(0), CODE, (), 0, None, 0))
    for one in (full, away, waiting):
        pool.file(one)
    assert pool.choose() is None
    assert not pool.any_free


def test_unstarted_work_beside_an_idle_engine_is_lopsided() -> None:
    pool = Pool()
    loaded = engine("loaded", held=2)
    pool.file(loaded)
    assert not pool.lopsided
    pool.file(engine("idle"))
    assert pool.lopsided
    assert pool.stuck(RECALL_AFTER / 2) == []
    assert pool.stuck(RECALL_AFTER) == [loaded]
    loaded.stuck = True
    pool.file(loaded)
    assert not pool.lopsided
