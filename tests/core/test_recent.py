"""Which tasks have ended of late: noted while somebody watches, and no more of them than can be seen."""

from __future__ import annotations

from typing import Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.queues import Task
from ipkernel_ext.core.recent import IN_A_MOMENT, KEPT, MOMENT, WATCHED, Recent
from tests.core.cluster import Controller, ann


def recent(controller: Controller, after: int = 0, request: int = 1) -> dict[str, Any]:
    """What is answered to the question."""
    controller.receive("ann", m.Recent(request, after))
    [answer] = controller.to("ann", m.Answer)
    assert answer.request == request
    body: dict[str, Any] = answer.body
    return body


def test_nothing_is_noted_before_somebody_watches(two: Controller) -> None:
    two.submit(0, engines=[0])
    two.result(0)
    assert recent(two) == {"count": 0, "ended": [], "now": 0.0}


def test_what_ends_is_told_with_its_engine_and_how_long_it_ran(two: Controller) -> None:
    recent(two)
    two.now = 3.0
    two.submit(0, work=m.Execute("import time\ntime.sleep(2)"), engines=[1])
    two.result(0, boot="b1", seconds=2.0)
    body = recent(two)
    assert body["ended"] == [m.Ended(1, ann(0), 1, "import time", 2.0, 3.0)]
    assert (body["count"], body["now"]) == (1, 3.0)


def test_who_asks_again_hears_only_what_is_new(two: Controller) -> None:
    recent(two)
    for number in range(3):
        two.submit(number, engines=[0])
        two.result(number)
    assert [ended.task for ended in recent(two, after=2)["ended"]] == [ann(2)]
    assert recent(two, after=3)["ended"] == []


def test_what_fails_without_a_result_is_told_too(two: Controller) -> None:
    recent(two)
    two.submit(0, engines=[0])
    two.submit(1, engines=[0])
    two.receive("ann", m.Cancel([1]))
    two.begun["b0"] = {(ann(0), 1)}
    two.ended("b0")
    told = {ended.task: (ended.engine, ended.failure) for ended in recent(two)["ended"]}
    assert told[ann(0)] == (0, "EngineLost")
    assert told[ann(1)][1] == "TaskCancelled"


def test_a_count_of_an_earlier_life_of_the_controller_hides_nothing(two: Controller) -> None:
    recent(two)
    two.submit(0, engines=[0])
    two.result(0)
    assert len(recent(two, after=70)["ended"]) == 1


def test_more_than_can_be_seen_is_only_counted() -> None:
    recent = Recent(lambda work: "1")
    recent.since(0, 0.0)
    task = Task(ann(0), m.Execute("1"), (), 0, None, 0)

    def end(tasks: int, now: float) -> None:
        for _ in range(tasks):
            recent.note(task, 0, 0.1, None)
            recent.settle(now)

    end(IN_A_MOMENT + 5, 1.0)
    count, ended = recent.since(0, 1.0)
    assert (count, len(ended)) == (IN_A_MOMENT + 5, IN_A_MOMENT)
    end(1, 1.0 + MOMENT)
    assert [one.number for one in recent.since(count, 1.0 + MOMENT)[1]] == [count + 1]
    for moment in range(2, 2 + KEPT // IN_A_MOMENT):
        end(IN_A_MOMENT, moment * 1.0)
    assert len(recent.since(0, 20.0)[1]) == KEPT


def test_as_much_at_once_as_can_be_seen_is_held() -> None:
    recent = Recent(lambda work: "1")
    recent.since(0, 0.0)
    for _ in range(2 * IN_A_MOMENT):
        recent.note(Task(ann(0), m.Execute("1"), (), 0, None, 0), 0, 0.1, None)
    assert len(recent.fresh) == IN_A_MOMENT


def test_all_is_forgotten_when_nobody_watches_any_more(two: Controller) -> None:
    recent(two)
    two.submit(0, engines=[0])
    two.result(0)
    two.receive("ann", m.Acknowledge([0]))
    assert two.core.sizes()["recent"] == 1
    two.wait(WATCHED)
    assert two.core.sizes()["recent"] == 0
    assert two.core.next_deadline() is None
    two.submit(1, engines=[0])
    two.result(1)
    assert recent(two) == {"count": 1, "ended": [], "now": WATCHED}
