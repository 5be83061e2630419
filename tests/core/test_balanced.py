"""Where balanced tasks may run, what they come after, and who is started again."""

from __future__ import annotations

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.client import ClientCore, Submission
from ipkernel_ext.core.effects import Send
from ipkernel_ext.core.messages import Failure, TaskId
from tests.core.cluster import CODE, Controller, ann

BOOM = Failure("user", "ZeroDivisionError", "division by zero")


# ---------------------------------------------------------------- where


def test_a_task_goes_only_where_it_may(two: Controller) -> None:
    for number in range(3):
        two.submit(number, among=[1])
        assert two.tasks("b0") == []
    two.submit(3)
    assert two.tasks("b0") == [(3, 1)]


def test_sets_of_engines_take_turns(two: Controller) -> None:
    two.submit(0, among=[0])
    two.submit(1, among=[1])
    for number in range(2, 5):
        two.submit(number, among=[0])
    two.submit(5)
    two.submit(6)
    order = []
    for _ in range(5):
        [(number, _)] = two.tasks("b0") or [(0, 1)]
        order.append(number)
        two.result(number, boot="b0", seconds=1.0)
    assert order == [0, 5, 2, 6, 3]


def test_without_an_engine_that_may_run_it_a_task_fails_with_the_reason(two: Controller) -> None:
    two.submit(0, among=[1])
    two.submit(1, among=[1])
    two.begun["b1"] = set()
    two.ended("b1")
    assert {failure.kind for failure in two.results().values() if failure} == {"NoEngines"}
    two.submit(2, among=[1])
    assert two.failure(2).message == (
        "engine 1, where alone it may run, is not here, and not expected: engine 1 is dead: its process ended"
    )
    two.submit(3, among=[0, 1])
    assert two.tasks("b0") == [(3, 1)]


def test_an_id_that_is_to_be_taken_again_stays_eligible() -> None:
    controller = Controller()
    controller.agent(expected=1)
    controller.engine("b0", agent="agent")
    controller.client()
    controller.submit(0, among=[0])
    controller.begun["b0"] = set()
    controller.receive("agent", m.EngineExited("b0", m.Exit(1), True))
    assert controller.results() == {}
    controller.engine("b1", replaces="b0", agent="agent")
    assert controller.tasks("b1") == [(0, 2)]


def test_a_task_that_kills_its_engines_ends(two: Controller) -> None:
    two.submit(0, retries=9)
    for boot in ("b0", "b1"):
        two.begun[boot] = {(ann(0), attempt) for attempt in (1, 2)}
        two.ended(boot)
    assert two.failure(0).kind == "EngineLost"
    assert two.failure(0).started


# ---------------------------------------------------------------- when


def test_a_task_waits_for_those_it_comes_after(two: Controller) -> None:
    two.submit(0)
    two.submit(1)
    two.submit(2, after=[ann(0), ann(1)])
    two.submit(3, engines=[0], after=[ann(2)])
    two.result(0, boot="b0")
    assert two.tasks("b0") == []
    two.result(1, boot="b1")
    assert two.tasks("b0") == [(2, 1)]
    two.result(2, boot="b0")
    assert two.tasks("b0") == [(3, 1)]


def test_what_has_ended_already_is_not_waited_for(two: Controller) -> None:
    two.submit(0)
    two.result(0)
    two.submit(1, after=[ann(0)])
    assert two.tasks("b1") == [(1, 1)]


def test_a_failure_goes_on_to_all_that_come_after_without_their_running(two: Controller) -> None:
    two.submit(0)
    for number in range(1, 1200):  # more than calls may be nested
        two.submit(number, after=[ann(number - 1)])
    two.result(0, failure=BOOM)
    assert two.tasks("b0") == two.tasks("b1") == []
    assert two.failure(1).message.endswith(
        "task ann:0, which it was to come after, failed: ZeroDivisionError: " + BOOM.message
    )
    assert two.failure(1199).kind == "DependencyFailed"
    two.submit(1200, after=[ann(0)])
    assert two.failure(1200).kind == "DependencyFailed"


def test_those_after_a_task_that_was_cancelled_while_it_ran_say_so(two: Controller) -> None:
    two.submit(0)
    two.submit(1, after=[ann(0)])
    two.receive("ann", m.Cancel([0]))
    two.result(0, failure=m.Failure("TaskInterrupted", "KeyboardInterrupt", "interrupted"))
    assert two.failure(1).message.endswith("failed: TaskCancelled: the task was cancelled while it ran")
    two.submit(2, among=[0])
    two.submit(3, after=[ann(2)])
    two.result(2, failure=m.Failure("TaskInterrupted", "KeyboardInterrupt", "interrupted"))
    assert two.failure(3).message.endswith("failed: KeyboardInterrupt: interrupted")


def test_a_cancelled_or_lost_task_fails_those_after_it(two: Controller) -> None:
    two.submit(0, among=[0])
    two.submit(1, after=[ann(0)])
    two.submit(2, after=[ann(1)])
    two.receive("ann", m.Cancel([1]))
    assert "TaskCancelled" in two.failure(2).message
    two.submit(3, after=[ann(0)])
    two.begun["b0"] = {(ann(0), 1)}
    two.ended("b0")
    assert "EngineLost" in two.failure(3).message


@pytest.mark.parametrize("failed", [[], [(0, "ZeroDivisionError: x")]])
def test_a_result_that_only_its_client_has_counts_for_those_after_it(
    two: Controller, failed: list[tuple[int, str]]
) -> None:
    """It came from an earlier life of the controller; this one has handed the task out again, or has it queued."""
    two.submit(0)
    two.submit(1, engines=[1], after=[ann(0)])
    two.receive("ann", m.Acknowledge([0], failed))
    if failed:
        assert two.failure(1).message.endswith("failed: ZeroDivisionError: x")
    else:
        assert two.tasks("b1") == [(1, 1)]


@pytest.mark.parametrize("failed", [[], [(0, "ZeroDivisionError: x")]])
def test_a_hello_says_how_those_ended_that_others_come_after(failed: list[tuple[int, str]]) -> None:
    controller = Controller()
    controller.engine("b0", tasks=False)
    controller.client()
    controller.submit(0)
    controller.submit(1, after=[ann(0)])
    hello = m.HelloClient("ann", m.PROTOCOL, "3", "host", 1, [1], 1, failed)
    controller.receive("ann again", hello)
    if failed:
        assert controller.failure(1, "ann again").kind == "DependencyFailed"
    else:
        controller.engine("b0", generation=2)
        assert controller.tasks("b0") == [(1, 1)]


def test_clear_queue_takes_away_what_waits_for_others(two: Controller) -> None:
    two.submit(0)
    two.submit(1, after=[ann(0)])
    two.submit(2, engines=[1], after=[ann(0)])
    two.receive("ann", m.ClearQueue(1, [1]))
    assert two.results()[2] is not None
    assert 1 not in two.results()
    two.receive("ann", m.ClearQueue(2, None))
    assert 1 in two.results()


def test_what_waits_holds_nobody_back(two: Controller) -> None:
    two.submit(0, among=[0])
    two.submit(1, engines=[0], after=[ann(0)])
    two.submit(2, engines=[0])
    assert two.tasks("b0") == [(2, 1)]


def test_another_clients_task_can_be_waited_for(two: Controller) -> None:
    two.client("bob")
    two.submit(0, peer="bob")
    two.submit(0, after=[TaskId("bob", 0)])
    two.receive("bob", m.Goodbye())
    two.result(0, client="bob")
    assert two.tasks("b1") == [(0, 1)]


def test_what_nobody_knows_is_not_waited_for(two: Controller) -> None:
    two.submit(0, after=[TaskId("bob", 0)])
    assert "bob:0" in two.failure(0).message
    assert "never was" in two.failure(0).message


def test_what_a_client_may_still_replay_is_waited_for_while_a_controller_recovers(two: Controller) -> None:
    two.submit(0)
    again = Controller(two)
    again.client(unresolved=[1])
    again.submit(1, after=[TaskId("bob", 0)])
    assert again.results() == {}
    again.client("bob", unresolved=[0])
    again.submit(0, peer="bob", after=[ann(1)])
    assert again.failure(0, "bob").kind == "DependencyFailed"
    assert again.failure(1).kind == "DependencyFailed"
    again.submit(2, after=[TaskId("eve", 0)])
    again.wait(11)
    assert "never was" in again.failure(2).message


def test_a_client_whose_function_never_comes_leaves_nobody_waiting(two: Controller) -> None:
    two.client("bob")
    two.submit(0, peer="bob", work=m.Apply("missing"))
    two.submit(0, after=[TaskId("bob", 0)])
    two.receive("bob", m.Goodbye())
    assert "has left" in two.failure(0).message


def test_a_client_names_what_is_pending_and_says_what_has_failed() -> None:
    core = ClientCore("ann", python="3", host="h", pid=1)
    core.receive(1, m.WelcomeClient([], 1, "h"), (), 0.0)
    for number in range(3):
        core.submit(Submission([number], CODE, ()))
    core.receive(1, m.Result(ann(0), 1, 0), (b"",), 0.0)
    core.receive(1, m.Result(ann(1), 1, 0, failure=BOOM), (b"",), 0.0)

    def sent(*after: TaskId, number: int) -> m.Submit:
        [effect] = core.submit(Submission([number], CODE, (), after=after))
        assert isinstance(effect, Send)
        submit: m.Submit = effect.message
        return submit

    bob = TaskId("bob", 7)
    assert sent(ann(0), ann(2), bob, number=3).after == [ann(2), bob]
    assert sent(ann(0), number=4).unmet is None
    unmet = sent(ann(0), ann(1), number=5).unmet
    assert unmet is not None
    assert "ann:1" in unmet.message
    never = sent(ann(99), number=6).unmet
    assert never is not None
    assert "ann:99" in never.message


def test_a_task_whose_client_saw_a_failure_is_not_run(two: Controller) -> None:
    unmet = Failure("DependencyFailed", "DependencyFailed", "because", started=False)
    two.submit(0, unmet=unmet)
    assert two.failure(0) == unmet
    two.submit(1)
    two.submit(2, after=[ann(1)])
    two.submit(2, unmet=unmet)
    assert two.failure(2) == unmet


# ---------------------------------------------------------------- again


def supervised() -> Controller:
    """One engine with an agent."""
    controller = Controller()
    controller.agent(expected=1)
    controller.engine("b0", agent="agent")
    controller.client()
    return controller


def test_an_addressed_task_may_be_started_again_on_the_successor() -> None:
    one = supervised()
    for number in range(3):
        one.submit(number, engines=[0], boots=["b0"], retries=1)
    one.begun["b0"] = {(ann(0), 1)}
    one.receive("agent", m.EngineExited("b0", m.Exit(1), True))
    assert one.results() == {}
    one.engine("b1", replaces="b0", agent="agent")
    assert one.tasks("b1") == [(0, 2), (1, 2), (2, 2)]
    one.begun["b1"] = {(ann(0), 2)}
    one.receive("agent", m.EngineExited("b1", m.Exit(1), True))
    assert list(one.results()) == [0]
    assert one.failure(0).kind == "EngineLost"


def test_an_addressed_task_without_a_successor_is_lost() -> None:
    one = supervised()
    one.submit(0, engines=[0], retries=1)
    one.begun["b0"] = {(ann(0), 1)}
    one.receive("agent", m.EngineExited("b0", m.Exit(1), False))
    assert one.failure(0).kind == "EngineLost"
