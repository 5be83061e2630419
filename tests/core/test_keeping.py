"""Results of clients that are not here go into the store, and from there to whoever asks by id."""

from __future__ import annotations

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.keeping import KEEP_AFTER
from ipkernel_ext.core.messages import Failure, TaskId
from tests.core.cluster import CODE, Controller, ann

BOOM = Failure("user", "ZeroDivisionError", "division by zero")


def bob(number: int) -> TaskId:
    return TaskId("bob", number)


@pytest.fixture
def one() -> Controller:
    """A controller with an engine, and two clients."""
    controller = Controller()
    controller.engine()
    controller.client()
    controller.client("bob")
    return controller


def fetch(controller: Controller, number: int = 0, peer: str = "bob") -> None:
    """Bob asks for a task of Ann's, as his own task 7."""
    controller.receive(peer, m.Submit([7], m.Fetch(ann(number))))


def stream(number: int, sequence: int = 0) -> m.Stream:
    return m.Stream(ann(number), 0, sequence, "stdout", "text", 1)


def test_what_a_client_that_left_had_sent_is_found_by_id(one: Controller) -> None:
    one.submit(0)
    one.receive("ann", m.Goodbye())
    one.receive("b0", stream(0))
    one.result(0, outputs=1)
    one.settle()
    fetch(one)
    assert [(type(message).__name__, message.task) for message in one.to("bob")] == [
        ("Stream", bob(7)),
        ("Result", bob(7)),
    ]
    one.wait(1.0)
    assert one.to("b0", m.Forget) == [m.Forget([(ann(0), 1)])]


def test_output_from_before_it_left_is_asked_for_again(one: Controller) -> None:
    one.submit(0)
    one.receive("b0", stream(0))
    one.receive("ann", m.Goodbye())
    one.result(0, outputs=1)
    one.settle()
    assert one.store.tasks() == {}
    assert one.to("b0", m.SendAgain) == [m.SendAgain([ann(0)])]
    one.receive("b0", stream(0))
    one.result(0, outputs=1)
    one.settle()
    assert one.store.tasks() == {ann(0): ""}


def test_one_that_is_away_for_a_moment_gets_its_results_from_the_engine(one: Controller) -> None:
    one.submit(0)
    one.left("ann")
    one.result(0)
    one.settle()
    assert one.store.tasks() == {}
    one.wait(KEEP_AFTER)
    assert one.to("b0", m.SendAgain) == [m.SendAgain([ann(0)])]
    one.result(0)
    one.settle()
    assert one.store.tasks() == {ann(0): ""}
    assert one.journal == {}


def test_one_that_comes_again_gets_its_results_from_the_store_and_nothing_runs_again(one: Controller) -> None:
    one.submit(0, 1, engines=[0, 0])
    one.left("ann")
    one.wait(KEEP_AFTER)
    one.result(0, failure=BOOM)
    one.settle()
    one.client(unresolved=[0, 1], generation=1)
    one.submit(0, 1, engines=[0, 0])
    assert one.results() == {0: BOOM}
    one.receive("ann", m.Acknowledge([0]))
    assert one.store.tasks() == {}
    one.result(1)
    assert one.results() == {1: None}


def test_so_it_is_after_a_restart(one: Controller) -> None:
    one.submit(0)
    one.left("ann")
    one.wait(KEEP_AFTER)
    one.result(0)
    one.settle()
    after = Controller(one)
    after.engine("b0", m.Inventory(finished=[(ann(0), 1)]))
    after.wait(1.0)
    assert after.to("b0", m.Forget) == [m.Forget([(ann(0), 1)])]
    after.client(unresolved=[0])
    after.submit(0)
    assert after.results() == {0: None}
    after.receive("ann", m.Acknowledge([0]))
    assert after.store.tasks() == {}


def test_what_it_does_not_call_unresolved_is_discarded(one: Controller) -> None:
    one.submit(0)
    one.left("ann")
    one.wait(KEEP_AFTER)
    one.result(0)
    one.settle()
    one.client(unresolved=[], generation=1)
    assert one.store.tasks() == {}


@pytest.mark.parametrize("failure", [None, BOOM])
def test_those_to_come_after_one_in_the_store_know_how_it_ended(one: Controller, failure: Failure | None) -> None:
    one.submit(0)
    one.left("ann")
    one.wait(KEEP_AFTER)
    one.result(0, failure=failure)
    one.settle()
    one.submit(1, peer="bob", after=[ann(0)])
    if failure is None:
        assert one.tasks() == [(1, 1)]
    else:
        assert one.failure(1, "bob").kind == "DependencyFailed"


def test_another_client_may_wait_for_what_is_under_way(one: Controller) -> None:
    one.submit(0)
    one.receive("b0", stream(0))
    fetch(one)
    one.result(0, outputs=1)
    assert one.results() == {0: None}
    assert one.to("b0", m.SendAgain) == [m.SendAgain([ann(0)])]
    one.receive("ann", m.Acknowledge([0]))
    one.receive("b0", stream(0))
    one.result(0, outputs=1)
    one.settle()
    assert one.results("bob") == {7: None}
    assert one.core.sizes()["results wanted"] == one.core.sizes()["tasks"] == 0


def test_what_was_collected_is_said_to_be_so(one: Controller) -> None:
    one.submit(0)
    one.result(0)
    one.receive("ann", m.Acknowledge([0]))
    fetch(one)
    one.wait(0)
    assert one.failure(7, "bob").kind == "ResultExpired"
    assert "ann:0" in one.failure(7, "bob").message


def test_what_its_client_had_sent_before_may_be_read_later(one: Controller) -> None:
    fetch(one)
    one.take(one.core.tick(one.now))
    assert one.to("bob") == [], "connections may have been read before the question came"
    one.submit(0)
    one.wait(0)
    one.result(0)
    one.settle()
    assert one.results("bob") == {7: None}
    assert one.core.sizes()["results wanted"] == 0


def test_a_task_that_fails_without_an_engine_is_told_to_all(one: Controller) -> None:
    one.submit(0)
    fetch(one)
    one.ended("b0")
    one.settle()
    assert one.failure(7, "bob").kind == "EngineLost"


def test_who_waits_for_a_result_that_died_with_its_engine_is_told_so(one: Controller) -> None:
    one.submit(0)
    one.receive("b0", stream(0))
    fetch(one)
    one.result(0, outputs=1)
    one.receive("ann", m.Acknowledge([0]))
    one.ended("b0")
    assert one.failure(7, "bob").kind == "ResultExpired"


def test_waiting_can_be_cancelled(one: Controller) -> None:
    one.submit(0)
    fetch(one)
    one.receive("bob", m.Cancel([7]))
    assert one.failure(7, "bob").kind == "TaskCancelled"
    one.result(0)
    one.settle()
    assert one.results("bob") == {}


def test_one_that_waits_and_reconnects_asks_again(one: Controller) -> None:
    one.submit(0)
    fetch(one)
    one.left("bob")
    one.client("bob", unresolved=[7], generation=1)
    fetch(one)
    one.result(0)
    one.settle()
    assert one.results("bob") == {7: None}


def test_what_is_too_large_stays_with_its_engine_and_is_given_to_who_asks(one: Controller) -> None:
    one.submit(0)
    one.receive("ann", m.Goodbye())
    large = [b"x" * 2**21]
    one.receive("b0/tasks", m.Result(ann(0), 1, 0), large)
    one.settle()
    assert one.store.tasks() == {}
    fetch(one)
    assert one.to("b0", m.SendAgain) == [m.SendAgain([ann(0)])]
    one.receive("b0", m.Result(ann(0), 1, 0), large)
    one.settle()
    assert one.results("bob") == {7: None}


def test_what_the_store_had_to_drop_is_not_run_again(one: Controller) -> None:
    one.submit(0)
    one.left("ann")
    one.wait(KEEP_AFTER)
    one.result(0)
    one.settle()
    one.take(one.core.dropped([ann(0)]))
    one.client(unresolved=[0], generation=1)
    one.submit(0)
    assert one.failure(0).kind == "ResultExpired"


def test_results_of_a_client_that_left_are_given_up_in_the_end() -> None:
    controller = Controller(result_ttl=100.0)
    controller.engine()
    controller.client()
    controller.submit(0)
    controller.receive("ann", m.Goodbye())
    controller.receive("b0/tasks", m.Result(ann(0), 1, 0), [b"x" * 2**21])
    controller.settle()
    controller.wait(101.0)
    assert controller.core.sizes()["tasks"] == controller.core.sizes()["clients"] == 0


def test_work_of_a_client_that_left_still_runs(one: Controller) -> None:
    one.submit(0, work=CODE, engines=[0])
    one.submit(1, after=[ann(0)])
    one.receive("ann", m.Goodbye())
    one.result(0)
    assert one.tasks() == [(1, 1)]
