"""Which engines answer: asked when somebody wants to know, and while they have tasks with a time."""

from __future__ import annotations

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.answering import MARGIN, SWEEP, UNANSWERED
from ipkernel_ext.core.effects import TellUsage
from ipkernel_ext.core.engine import OVERRUN_AFTER, Channel, EngineCore
from tests.core.cluster import Controller, ann

BUSY = m.Measured((ann(0), 1), 2.0, 50.0, 1000)
IDLE = m.Measured(None, 0.0, 1.0, 2000)


def ask(controller: Controller, patience: float = 5.0, request: int = 1) -> None:
    """Ask for all engines."""
    controller.receive("ann", m.Ask(request, "engines", patience))


def rows(controller: Controller) -> list[m.EngineRecord]:
    """What was answered at the last stimulus."""
    [answer] = controller.to("ann", m.Answer)
    records: list[m.EngineRecord] = answer.body["engines"]
    return records


def states(controller: Controller) -> list[str]:
    """What clients were told of engines at the last stimulus."""
    return [joined.engine.state for joined in controller.to("ann", m.EngineJoined)]


def stop(controller: Controller, boot: str = "b0") -> None:
    """An engine is asked, and does not answer."""
    ask(controller)
    for other in {"b0", "b1"} - {boot}:
        controller.receive(other, IDLE)
    controller.wait(UNANSWERED)


def test_an_answer_waits_for_all_engines(two: Controller) -> None:
    two.submit(0, work=m.Apply("f", name="work"), engines=[0])
    two.receive("ann", m.Function("f"), (b"code",))
    ask(two)
    assert two.to("b0") == two.to("b1") == [m.Measure()]
    two.receive("b0", BUSY)
    assert two.to("ann") == []
    two.now += 1.0
    two.receive("b1", IDLE)
    first, second = rows(two)
    assert (first.cpu, first.rss, first.task, first.running, first.seconds) == (50.0, 1000, "ann:0", "work()", 3.0)
    assert (second.cpu, second.rss, second.task, second.running, second.seconds) == (1.0, 2000, "", "", 0.0)


def test_whoever_does_not_answer_in_time_is_shown_as_it_is_known(two: Controller) -> None:
    ask(two, 1.0)
    two.receive("b1", IDLE)
    two.wait(1.0)
    first, second = rows(two)
    assert (first.state, first.cpu, second.cpu) == ("ready", None, 1.0)


def test_no_question_is_asked_twice_at_once(two: Controller) -> None:
    ask(two)
    ask(two, request=2)
    assert two.to("b0") == []
    two.receive("b0", IDLE)
    two.receive("b1", IDLE)
    assert [answer.request for answer in two.to("ann", m.Answer)] == [1, 2]
    ask(two, request=3)
    assert two.to("b0") == [m.Measure()]


def test_an_engine_that_does_not_answer_is_unresponsive_until_it_does(two: Controller) -> None:
    ask(two)
    two.receive("b1", IDLE)
    two.wait(UNANSWERED - 0.1)
    assert two.sent == []
    two.wait(0.1)
    assert states(two) == ["unresponsive"]
    assert [record.state for record in rows(two)] == ["unresponsive", "ready"]
    ask(two, request=2)
    two.receive("b1", IDLE)
    assert rows(two)[0].state == "unresponsive", "it is not waited for again"
    two.receive("b0", IDLE)
    assert states(two) == ["ready"]


def test_nothing_is_asked_while_nobody_wants_to_know(two: Controller) -> None:
    two.submit(0)
    two.wait(1.0)  # clients hear where longer tasks are
    two.wait(10_000.0)
    assert two.sent == []
    assert two.core.next_deadline() is None


def test_an_unresponsive_engine_gets_nothing_new_and_others_get_its_work(two: Controller) -> None:
    for number in range(4):
        two.submit(number, among=[0])
        two.result(number, seconds=1e-6)
    two.submit(4, among=[0, 1])
    two.submit(5, among=[0])
    two.submit(6, among=[0, 1])
    two.result(4, boot="b0", seconds=1e-6)
    stop(two)
    [recall] = two.to("b0", m.Recall)
    assert not recall.interrupt
    two.submit(7, engines=[0])
    two.submit(8, among=[0])
    assert two.tasks("b0") == []
    two.receive("b0", m.GivenBack(recall.tasks))
    assert two.tasks("b0") == []
    two.receive("b0", IDLE)
    assert {number for number, _ in two.tasks("b0")} >= {7, 8}


def test_what_an_engine_uses_that_does_not_answer_its_agent_says() -> None:
    controller = Controller()
    controller.agent()
    controller.engine("b0", agent="agent")
    controller.client()
    ask(controller)
    controller.wait(UNANSWERED)
    assert controller.to("agent") == [m.MeasureEngine("b0")]
    assert rows(controller)[0].cpu is None
    controller.receive("agent", m.EngineMeasured("b0", None, 10))
    ask(controller)
    assert controller.to("ann") == []
    controller.receive("agent", m.EngineMeasured("b0", 99.5, 20))
    assert [(record.state, record.cpu, record.rss) for record in rows(controller)] == [("unresponsive", 99.5, 20)]
    ask(controller)
    controller.receive("b0", IDLE)
    assert [(record.cpu, record.rss) for record in rows(controller)] == [(1.0, 2000)]
    controller.receive("agent", m.EngineMeasured("b0", 99.5, 20))
    ask(controller)
    controller.receive("b0", IDLE)
    assert rows(controller)[0].cpu == 1.0


def test_an_agent_that_does_not_answer_either_is_waited_for_as_long_as_an_engine() -> None:
    controller = Controller()
    controller.agent()
    controller.engine("b0", agent="agent")
    controller.client()
    ask(controller, 0.0)
    controller.wait(UNANSWERED)
    ask(controller, 1.0)
    controller.wait(0.9)
    assert controller.to("ann", m.Answer) == []
    controller.wait(0.1)
    assert rows(controller)[0].state == "unresponsive"


def test_an_engine_that_connects_again_answers_again(two: Controller) -> None:
    stop(two)
    two.left("b0")
    assert states(two) == ["away"]
    two.engine("b0", generation=2)
    assert states(two)[-1:] == ["ready"]
    two.submit(0, among=[0])
    assert two.tasks("b0") == [(0, 1)]


def test_one_that_goes_is_not_waited_for(two: Controller) -> None:
    ask(two)
    two.receive("b1", IDLE)
    two.left("b0")
    assert [record.state for record in rows(two)] == ["away", "ready"]


def test_whoever_has_connected_again_asks_again(two: Controller) -> None:
    ask(two)
    two.receive("again", m.HelloClient("ann", m.PROTOCOL, "3", "here", 1, [], 1))
    two.receive("b0", IDLE)
    two.receive("b1", IDLE)
    assert two.to("again", m.Answer) == []


# ---------------------------------------------------------------- a clock for those whose own stands still


def patience(timeout: float) -> float:
    """Seconds after an unanswered question, in which a task with a time ends."""
    return timeout + OVERRUN_AFTER + MARGIN


def wait_for_sweep(controller: Controller) -> None:
    """The engines with timed tasks are asked."""
    controller.wait(SWEEP)
    assert controller.to("b0", m.Measure) == [m.Measure()]


def test_a_task_with_a_time_ends_though_its_engine_does_not_answer(two: Controller) -> None:
    two.submit(0, among=[0], timeout=1.0)
    two.begun["b0"] = {(ann(0), 1)}
    wait_for_sweep(two)
    two.wait(patience(1.0) - 0.1)
    assert two.results() == {}
    two.wait(0.1)
    failure = two.failure(0)
    assert (failure.kind, failure.started) == ("TaskTimeout", True)
    assert "engine 0 has not answered for 8 s" in failure.message
    assert two.to("b0", m.Recall)[-1].interrupt
    two.submit(1, among=[0, 1])
    assert two.tasks("b1") == [(1, 1)]
    two.wait(10_000.0)
    assert two.core.next_deadline() is None, "nothing is asked again while the question stands"


def test_a_controller_that_was_stopped_itself_blames_nobody(two: Controller) -> None:
    two.submit(0, among=[0], timeout=1.0)
    wait_for_sweep(two)
    two.now += 100.0
    two.take(two.core.tick(two.now))
    assert states(two) == [] and two.results() == {}
    two.wait(UNANSWERED)
    assert states(two) == ["unresponsive"]
    two.wait(patience(1.0) - UNANSWERED)
    assert two.failure(0).kind == "TaskTimeout"


@pytest.mark.parametrize("acknowledged", [False, True])
def test_its_late_result_is_dropped_and_it_runs_nowhere_else(two: Controller, acknowledged: bool) -> None:
    two.submit(0, among=[0], timeout=1.0, retries=3)
    two.wait(SWEEP + patience(1.0))
    assert two.failure(0).kind == "TaskTimeout"
    if acknowledged:
        two.receive("ann", m.Acknowledge([0]))
    two.receive("b0", IDLE)
    two.receive("b0", m.Stream(ann(0), 0, 0, "stdout", "late", 1))
    two.result(0)
    assert two.to("ann") == []
    two.wait(1.0)
    assert two.to("b0", m.Forget) == [m.Forget([(ann(0), 1)])]
    two.submit(1, among=[0])
    assert two.tasks("b0") == [(1, 1)]
    two.left("b0")
    two.ended("b0")
    assert two.tasks("b1") == []


def test_an_engine_that_answers_keeps_the_time_itself(two: Controller) -> None:
    two.submit(0, among=[0], timeout=1.0)
    two.begun["b0"] = {(ann(0), 1)}
    for _ in range(20):
        wait_for_sweep(two)
        two.receive("b0", BUSY)
    assert two.results() == {}
    two.result(0)
    two.wait(100.0)
    assert two.to("b0", m.Measure) == []
    assert two.core.sizes()["timed"] == 0


def test_each_result_begins_the_time_anew(two: Controller) -> None:
    two.submit(3, engines=[0], timeout=1.0)
    two.submit(4, engines=[0], timeout=1.0)
    two.wait(SWEEP + patience(1.0) - 1.0)
    two.result(3)
    two.wait(patience(1.0) - 0.1)
    assert two.results() == {}
    two.wait(0.1)
    assert two.failure(4).kind == "TaskTimeout"


def test_a_balanced_task_with_a_time_has_its_engine_for_itself(two: Controller) -> None:
    for number in range(3):
        two.submit(number, among=[0])
        two.result(number, seconds=1e-6)
    two.submit(3, among=[0])
    two.submit(4, among=[0], timeout=1.0)
    assert two.tasks("b0") == [], "it waits for an idle engine"
    two.submit(5, among=[0])
    two.result(3)
    assert two.tasks("b0") == [(4, 1)], "nothing waits behind it"
    two.wait(SWEEP + patience(1.0))
    assert set(two.results()) == {4}, "the time of those that have not begun has not either"


def test_what_an_unanswering_engine_has_not_begun_ends_too_and_is_called_back(two: Controller) -> None:
    two.submit(3, engines=[0], timeout=1.0)
    two.submit(4, engines=[0], timeout=9.0)
    two.begun["b0"] = {(ann(3), 1)}
    two.wait(SWEEP + patience(1.0))
    assert set(two.results()) == {3}
    two.wait(8.0)
    assert two.failure(4).started is None
    assert "not known" in two.failure(4).message
    two.receive("b0", m.GivenBack([(ann(4), 1)]))
    two.receive("b0", IDLE)
    two.submit(5, engines=[0])
    assert two.tasks("b0") == [(5, 1)]


def test_behind_a_task_without_a_time_they_wait_as_in_every_queue(two: Controller) -> None:
    for number in range(3):
        two.submit(number, among=[0])
        two.result(number, seconds=1e-6)
    two.submit(3, engines=[0])
    two.submit(4, among=[0], timeout=1.0)
    two.begun["b0"] = {(ann(3), 1)}
    two.wait(100.0)
    assert two.results() == {}
    two.result(3)
    two.begun["b0"] = {(ann(3), 1), (ann(4), 1)}
    two.wait(SWEEP + patience(1.0))
    assert two.failure(4).kind == "TaskTimeout"


def test_what_a_restarted_controller_finds_has_its_time_too(two: Controller) -> None:
    two.submit(0, among=[0], timeout=1.0)
    after = Controller(two)
    after.engine("b0", m.Inventory(running=[(ann(0), 1)]))
    after.client(unresolved=[0])
    after.submit(0, among=[0], timeout=1.0)
    after.wait(SWEEP + patience(1.0))
    assert after.failure(0).kind == "TaskTimeout"


def test_a_cancelled_task_of_an_engine_that_does_not_answer_ends_as_cancelled(two: Controller) -> None:
    two.submit(0, among=[0], timeout=1.0)
    two.begun["b0"] = {(ann(0), 1)}
    two.receive("ann", m.Cancel([0]))
    two.wait(SWEEP + patience(1.0))
    assert (two.failure(0).kind, two.failure(0).started) == ("TaskCancelled", True)


@pytest.mark.parametrize("finished", [False, True])
def test_a_later_life_of_the_controller_does_not_run_it_again(two: Controller, finished: bool) -> None:
    two.submit(0, among=[0], timeout=1.0)
    two.left("ann")
    two.wait(SWEEP + patience(1.0))
    if finished:
        two.result(0)
    after = Controller(two)
    after.engine("b0")
    after.client(unresolved=[0])
    after.submit(0, among=[0], timeout=1.0)
    assert after.tasks("b0") == []
    assert after.failure(0).kind == "TaskTimeout"
    assert "has not answered for long" in after.failure(0).message


def test_those_that_come_after_it_are_told_why(two: Controller) -> None:
    two.submit(0, among=[0], timeout=1.0)
    two.submit(1, after=[ann(0)])
    two.wait(SWEEP + patience(1.0))
    assert "TaskTimeout" in two.failure(1).message


def test_what_an_engine_answers() -> None:
    core = EngineCore(m.EngineRecord("b0", "here", 1, "3"))
    core.connect()
    assert core.receive(Channel.CONTROL, 1, 5, m.Measure(), ()) == [TellUsage()]
    assert core.measured(3.0, 50.0, 1000) == m.Measured(None, 0.0, 50.0, 1000)
