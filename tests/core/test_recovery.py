"""What a restarted controller makes of what the journal, the engines and the clients tell it."""

from __future__ import annotations

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.messages import Hint
from tests.core.cluster import Controller, ann


@pytest.fixture
def before() -> Controller:
    """A controller with one engine that has task 0 of one client."""
    controller = Controller()
    controller.engine("b0")
    controller.client()
    controller.submit(0)
    return controller


@pytest.fixture
def after(before: Controller) -> Controller:
    """Its next life; the client is back and has replayed its task."""
    controller = Controller(before)
    controller.client(unresolved=[0])
    controller.submit(0)
    return controller


def test_a_replayed_task_waits_for_its_engine(after: Controller) -> None:
    after.engine("b1")
    assert after.tasks("b1") == []
    after.engine("b0", m.Inventory(running=[(ann(0), 1)]))
    after.result(0)
    assert after.results() == {0: None}


def test_the_engine_may_come_before_the_client(before: Controller) -> None:
    controller = Controller(before)
    controller.engine("b0", m.Inventory(finished=[(ann(0), 1)]))
    assert controller.to("b0") == [m.WelcomeEngine(0)]
    controller.client(unresolved=[0])
    controller.submit(0)
    assert controller.to("b0") == [m.SendAgain([ann(0)])]


def test_a_task_that_never_reached_its_engine_is_handed_out_with_a_new_attempt(after: Controller) -> None:
    after.engine("b0")
    assert after.tasks("b0") == [(0, 2)]


def test_an_engine_keeps_its_id(before: Controller) -> None:
    before.engine("b1")
    controller = Controller(before)
    controller.engine("b1", tasks=False)
    assert controller.to("b1") == [m.WelcomeEngine(1)]


def test_after_the_window_the_task_is_lost(after: Controller) -> None:
    after.wait(11.0)
    assert (after.failure(0).kind, after.failure(0).started) == ("EngineLost", None)


def test_after_the_window_a_retry_goes_elsewhere(before: Controller) -> None:
    controller = Controller(before)
    controller.engine("b1")
    controller.client(unresolved=[0])
    controller.submit(0, retries=1)
    controller.wait(11.0)
    assert controller.tasks("b1") == [(0, 2)]


def test_a_client_that_comes_after_the_window_does_not_have_its_task_run_twice(before: Controller) -> None:
    controller = Controller(before)
    controller.engine("b1")
    controller.wait(11.0)
    controller.client(unresolved=[0])
    controller.submit(0)
    assert controller.failure(0).started is None
    assert controller.tasks("b1") == []


def test_an_engine_that_comes_after_the_window_is_taken_by_its_word(before: Controller) -> None:
    controller = Controller(before)
    controller.agent()
    controller.client(unresolved=[0])
    controller.submit(0, retries=1)
    controller.wait(11.0)
    assert controller.results() == {}
    controller.engine("b0", m.Inventory(finished=[(ann(0), 1)]))
    assert controller.to("b0", m.SendAgain) == [m.SendAgain([ann(0)])]
    assert controller.tasks("b0") == []


def test_a_dead_engine_is_not_waited_for(after: Controller) -> None:
    after.begun["b0"] = set()
    after.engine("b1")
    after.agent(exits=[m.EngineExited("b0", m.Exit(signal=9), False)])
    assert after.tasks("b1") == [(0, 2)]


def test_a_dead_engine_that_had_begun(after: Controller) -> None:
    after.begun["b0"] = {(ann(0), 1)}
    after.agent(exits=[m.EngineExited("b0", m.Exit(signal=9), False)])
    assert (after.failure(0).started, after.failure(0).signal) == (True, 9)


def test_a_successor_is_proof_of_an_engines_end(after: Controller) -> None:
    after.begun["b0"] = {(ann(0), 1)}
    after.engine("b1", replaces="b0", tasks=False)
    assert after.failure(0).started is True
    assert after.to("b1", m.WelcomeEngine) == [m.WelcomeEngine(0)]


def test_cancel_of_a_task_whose_engine_is_not_back_waits_for_the_engine(after: Controller) -> None:
    after.receive("ann", m.Cancel([0]))
    assert after.results() == {}
    after.engine("b0", m.Inventory(running=[(ann(0), 1)]))
    assert after.to("b0", m.Recall) == [m.Recall([(ann(0), 1)], interrupt=True)]


def test_a_cancelled_task_that_its_engine_does_not_have(after: Controller) -> None:
    after.receive("ann", m.Cancel([0]))
    after.engine("b0")
    assert after.failure(0).kind == "TaskCancelled"
    assert after.tasks("b0") == []


def test_a_cleared_task_stays_so_though_its_client_never_heard() -> None:
    before = Controller()
    before.engine(tasks=False)
    before.client()
    before.submit(0, engines=[0])
    before.receive("ann", m.ClearQueue(1, None))
    assert before.failure(0).kind == "TaskCancelled"
    controller = Controller(before)
    controller.engine()
    controller.client(unresolved=[0])
    controller.submit(0, engines=[0])
    assert controller.failure(0).kind == "TaskCancelled"
    controller.receive("ann", m.Acknowledge([0]))
    assert controller.journal == {}


def test_a_task_that_was_lost_before_it_was_handed_out_stays_so_though_its_client_never_heard() -> None:
    before = Controller()
    before.engine("b0", tasks=False)
    before.client()
    before.submit(0, engines=[0])
    before.ended("b0")
    assert before.failure(0).kind == "EngineLost"
    controller = Controller(before)
    controller.engine("b1", id=0)
    controller.client(unresolved=[0])
    controller.submit(0, engines=[0])
    assert controller.tasks("b1") == []
    assert controller.failure(0).kind == "EngineLost"
    assert controller.failure(0).started is False


def test_a_lost_task_stays_so_though_its_client_never_heard(after: Controller) -> None:
    after.wait(11.0)
    assert after.failure(0).kind == "EngineLost"
    after.engine("b0", m.Inventory(finished=[(ann(0), 1)]))
    controller = Controller(after)
    controller.engine("b0")
    controller.client(unresolved=[0])
    controller.submit(0)
    assert (controller.failure(0).kind, controller.failure(0).started) == ("EngineLost", None)
    assert controller.tasks("b0") == []


def test_addressed_tasks_wait_for_their_engine_too(before: Controller) -> None:
    controller = Controller(before)
    controller.client()
    controller.submit(5, engines=[0], boots=["b0"])
    controller.submit(6, engines=[0])
    assert controller.results() == {}
    controller.engine("b0", m.Inventory(running=[(ann(0), 1)]))
    assert controller.tasks("b0") == [(5, 1), (6, 1)]


def test_addressed_tasks_whose_engine_does_not_come_back_had_not_begun(before: Controller) -> None:
    controller = Controller(before)
    controller.client()
    controller.submit(5, engines=[0], boots=["b0"])
    controller.wait(11.0)
    assert controller.failure(5).started is False


def test_an_attempt_is_never_used_twice(before: Controller) -> None:
    before.receive("ann", m.ClearQueue(1, []))
    before.engine("b0", generation=2, tasks=False)  # it never got the task
    controller = Controller(before)
    controller.client(unresolved=[0])
    controller.submit(0, hints=[Hint(0, "b0", 1)])
    controller.engine("b0")
    assert controller.tasks("b0") == [(0, 2)]


def test_a_later_attempt_wins_over_an_earlier_one() -> None:
    before = Controller()
    before.engine("b0")
    before.client()
    before.submit(0, retries=1)
    before.engine("b1")
    before.begun["b0"] = {(ann(0), 1)}
    before.left("b0")
    before.wait(61.0)
    assert before.tasks("b1") == [(0, 2)]
    controller = Controller(before)
    controller.engine("b0", m.Inventory(running=[(ann(0), 1)]))
    controller.client(unresolved=[0])
    controller.submit(0, retries=1)
    assert controller.to("b0") == [m.Recall([(ann(0), 1)])]
    controller.engine("b1", m.Inventory(finished=[(ann(0), 2)]))
    assert controller.to("b1", m.SendAgain) == [m.SendAgain([ann(0)])]


def test_a_result_nobody_wants_is_forgotten(before: Controller) -> None:
    controller = Controller(before)
    controller.engine("b0", m.Inventory(finished=[(ann(0), 1)]))
    controller.client()
    controller.wait(1.0)
    assert controller.to("b0") == [m.Forget([(ann(0), 1)])]
    assert controller.journal == {}


def test_a_result_is_not_dropped_while_its_replay_is_on_the_way(before: Controller) -> None:
    controller = Controller(before)
    controller.wait(11.0)
    controller.client(unresolved=[0])
    controller.engine("b0", m.Inventory(finished=[(ann(0), 1)]))
    controller.submit(0)
    assert controller.to("b0") == [m.SendAgain([ann(0)])]


def test_orphans_of_a_client_that_never_comes_are_dropped(before: Controller) -> None:
    controller = Controller(before, result_ttl=20.0)
    controller.engine("b0", m.Inventory(queued=[(ann(1), 1)], finished=[(ann(0), 1)]))
    controller.wait(22.0)
    assert [type(message) for message in controller.to("b0")] == [m.Recall, m.Forget]
    assert controller.journal == {}
    assert controller.core.sizes()["orphans"] == 0
    controller.client(unresolved=[0])
    controller.submit(0)
    assert controller.failure(0).kind == "ResultExpired"


def test_an_adopted_task_without_its_function_can_be_handed_out_again(before: Controller) -> None:
    controller = Controller(before)
    controller.engine("b0", m.Inventory(queued=[(ann(0), 1)]))
    controller.client(unresolved=[0])
    controller.submit(0, work=m.Apply("f"))
    controller.engine("b0", generation=2)
    assert controller.to("ann", m.NeedFunction) == [m.NeedFunction("f")]
    controller.receive("ann", m.Function("f"), (b"code",))
    assert controller.tasks("b0") == [(0, 2)]


def test_a_held_task_of_a_client_that_left_does_not_wait_for_its_function(before: Controller) -> None:
    controller = Controller(before)
    controller.client(unresolved=[0])
    controller.submit(0, work=m.Apply("f"))
    controller.receive("ann", m.Goodbye())
    controller.engine("b0")
    assert controller.core.sizes()["clients"] == controller.core.sizes()["tasks"] == 0


def test_a_successor_of_a_successor_that_never_came_keeps_the_id(before: Controller) -> None:
    controller = Controller(before)
    controller.agent()
    controller.receive("agent", m.EngineExited("b0", m.Exit(), True))
    controller.receive("agent", m.EngineExited("b1", m.Exit(), True, replaces="b0"))
    controller.engine("b2", replaces="b1", tasks=False)
    assert controller.to("b2") == [m.WelcomeEngine(0)]


def test_clients_are_told_of_engines_that_are_awaited(before: Controller) -> None:
    controller = Controller(before)
    controller.client()
    (welcome,) = controller.to("ann", m.WelcomeClient)
    assert (welcome.engines, welcome.awaited) == ([], [(0, "b0")])


def test_an_awaited_engine_that_does_not_come_has_left(after: Controller) -> None:
    after.wait(10)
    assert [(left.engine, left.boot) for left in after.to("ann", m.EngineLeft)] == [(0, "b0")]


def test_an_awaited_engine_that_is_restarted_has_left(after: Controller) -> None:
    after.agent()
    after.receive("agent", m.EngineExited("b0", m.Exit(signal=9), True))
    assert [(left.engine, left.boot) for left in after.to("ann", m.EngineLeft)] == [(0, "b0")]


def test_an_addressed_task_that_may_run_again_does_so_in_the_next_life_also_after_a_restart_in_between() -> None:
    first = Controller()
    first.agent()
    first.engine("b0", agent="agent")
    first.client()
    first.submit(0, engines=[0], boots=["b0"], retries=1)
    first.begun["b0"] = {(ann(0), 1)}
    first.receive("agent", m.EngineExited("b0", m.Exit(signal=9), True))
    assert first.results() == {}
    second = Controller(first)
    second.agent()
    second.engine("b1", agent="agent", replaces="b0")
    second.client(unresolved=[0])
    second.submit(0, engines=[0], boots=["b0"], retries=1)
    assert second.results() == {}, "it had begun, so it cannot be told that nothing was run"
    assert second.tasks("b1") == [(0, 2)]


def test_what_was_dropped_while_its_client_was_away_is_not_run_again_by_a_later_life() -> None:
    first = Controller(result_ttl=5.0)
    first.engine("b0")
    first.client()
    first.submit(0)
    first.left("ann")
    first.result(0)
    first.wait(6.0)
    second = Controller(first)
    second.engine("b0")
    second.client(unresolved=[0])
    second.submit(0)
    assert second.tasks("b0") == []
    assert second.failure(0).kind == "ResultExpired"


@pytest.mark.parametrize(("dropped", "runs_again"), [(-1, False), (0, True)])
def test_a_result_is_kept_for_a_client_of_which_only_earlier_tasks_were_dropped(
    before: Controller, dropped: int, runs_again: bool
) -> None:
    before.expired = {"ann": dropped}
    controller = Controller(before)
    controller.engine("b0", m.Inventory(finished=[(ann(0), 1)]))
    controller.client(unresolved=[0])
    controller.submit(0)
    assert bool(controller.to("b0", m.SendAgain)) is not runs_again
