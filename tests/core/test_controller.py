"""The controller by example: who may say what, what runs where, how tasks end."""

from __future__ import annotations

from typing import Any

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.effects import Enlist, Journal, Log, Send, Watch
from ipkernel_ext.core.lives import EXIT_REPORT
from ipkernel_ext.core.messages import Hint
from ipkernel_ext.core.wire import LARGE
from tests.core.cluster import CODE, NOTHING, Controller, ann


@pytest.fixture
def one() -> Controller:
    """One engine, one client."""
    controller = Controller()
    controller.engine()
    controller.client()
    return controller


# ---------------------------------------------------------------- hellos and roles


def test_an_engine_gets_an_id_that_is_written_down() -> None:
    controller = Controller()
    controller.engine("b0", tasks=False)
    assert controller.to("b0") == [m.WelcomeEngine(0)]
    assert Enlist(0, "b0") in controller.effects
    assert Watch("b0", 1) in controller.effects
    controller.engine("b1")
    assert controller.to("b1") == [m.WelcomeEngine(1)]


def test_an_engine_of_another_host_is_not_watched() -> None:
    controller = Controller()
    controller.engine(host="there", tasks=False)
    assert not any(isinstance(effect, Watch) for effect in controller.effects)


def test_a_client_is_told_who_is_here_and_who_comes(one: Controller) -> None:
    one.client("bob")
    [welcome] = one.to("bob")
    assert [engine.id for engine in welcome.engines] == [0]
    one.engine("b1")
    assert one.to("bob") == [m.EngineJoined(one.core.roster()[1])]


def test_who_is_unknown_begins_with_a_hello() -> None:
    controller = Controller()
    controller.submit(1)
    assert controller.to("ann") == [m.HelloWanted()]
    controller.receive("ann", m.Goodbye())
    assert controller.sent == []


@pytest.mark.parametrize(
    "message",
    [m.Submit([0], CODE), m.Cancel([0]), m.EndEngines(1, [0]), m.ShutDown(), m.ClearQueue(1, None), m.Ask(1, "status")],
)
def test_an_engine_may_not_speak_as_a_client(one: Controller, message: Any) -> None:
    one.receive("b0", message)
    [refused] = one.to("b0")
    assert refused.failure.kind == "ProtocolError"
    assert [to for to, _ in one.sent] == ["b0"]


def test_an_engine_may_not_become_a_client_or_an_agent(one: Controller) -> None:
    one.receive("b0", m.HelloClient("eve", m.PROTOCOL, "3", "h", 1, []))
    assert isinstance(one.sent[0][1], m.Refused)
    one.receive("b0", m.HelloAgent(m.PROTOCOL, "eve", "h", 1, 1))
    assert isinstance(one.sent[0][1], m.Refused)
    assert one.core.sizes()["clients"] == 1


@pytest.mark.parametrize("message", [m.Result(ann(0), 1, 0), m.GivenBack([]), m.EngineExited("b0", m.Exit(), False)])
def test_a_client_may_not_speak_as_an_engine_or_agent(one: Controller, message: Any) -> None:
    one.submit(0)
    one.receive("ann", message)
    assert [type(sent) for _, sent in one.sent] == [m.Refused]
    assert len(one.core.roster()) == 1


def test_a_connection_speaks_for_one_peer(two: Controller) -> None:
    two.agent("agent")
    hellos = [
        ("ann", m.HelloClient("eve", m.PROTOCOL, "3", "h", 1, [])),
        ("b0", m.HelloEngine(m.PROTOCOL, m.EngineRecord("b1", "h", 1, "3"), 9, NOTHING)),
        ("b0/tasks", m.HelloTasks("b1", 1)),
        ("agent", m.HelloAgent(m.PROTOCOL, "eve", "h", 1, 1)),
    ]
    before = two.core.sizes()
    for peer, hello in hellos:
        two.receive(peer, hello)
        [refused] = two.to(peer)
        assert "of another name" in refused.failure.message
    assert two.core.sizes() == before


def test_an_engine_that_says_it_replaces_itself_is_an_engine(one: Controller) -> None:
    one.engine("b9", replaces="b9")
    assert [record.boot for record in one.core.roster()] == ["b0", "b9"]


def test_refusals_are_counted_and_one_in_a_minute_is_logged(one: Controller) -> None:
    logged = []
    for seconds in (0, 0, 59, 2):
        one.wait(seconds)
        one.receive("b0", m.ShutDown())
        logged.append(any(isinstance(effect, Log) for effect in one.effects))
    assert logged == [True, False, False, True]
    assert one.core.refused == 4


def test_an_engine_may_not_forge_another_ones_result_or_output(two: Controller) -> None:
    two.submit(0, engines=[0])
    two.result(0, boot="b1")
    assert two.results() == {}
    two.receive("b1", m.Stream(ann(0), 1, 0, "stdout", "lie", 1))
    assert two.sent == []


@pytest.mark.fault("two sides speak different versions")
def test_another_protocol_is_refused() -> None:
    controller = Controller()
    controller.receive("ann", m.HelloClient("ann", m.PROTOCOL + 1, "3", "h", 1, []))
    assert controller.to("ann")[0].failure.kind == "VersionMismatch"
    assert controller.core.sizes()["peers"] == 0


def test_a_submission_whose_lists_do_not_match_is_refused(one: Controller) -> None:
    one.submit(1, 2, engines=[0])
    [refused] = one.to("ann")
    assert refused.numbers == [1, 2]
    assert one.core.sizes()["tasks"] == 0


def test_the_hello_of_a_given_up_connection_comes_too_late(one: Controller) -> None:
    one.receive("new", m.HelloClient("ann", m.PROTOCOL, "3", "h", 1, [], 2))
    one.submit(0, peer="new", engines=[0])
    one.receive("old", m.HelloClient("ann", m.PROTOCOL, "3", "h", 1, [], 1))
    assert one.sent == []
    one.result(0)
    assert one.results("new") == {0: None}


def test_the_late_hello_of_an_engine_changes_nothing(one: Controller) -> None:
    one.engine("b0", generation=3)
    one.receive("late", m.HelloEngine(m.PROTOCOL, m.EngineRecord("b0", "here", 1, "3"), 2, m.Inventory()))
    assert one.sent == []
    one.submit(0)
    assert one.tasks() == [(0, 1)]


# ---------------------------------------------------------------- handing out


def test_a_task_is_journaled_before_it_is_sent(one: Controller) -> None:
    one.submit(5)
    kinds = [type(effect) for effect in one.effects]
    assert kinds.index(Journal) < kinds.index(Send)
    assert one.journal == {ann(5): Hint(0, "b0", 1)}


def test_addressed_tasks_go_before_balanced_ones() -> None:
    controller = Controller()
    controller.engine(tasks=False)
    controller.client()
    controller.submit(0)
    controller.submit(1, engines=[0])
    controller.receive("b0/tasks", m.HelloTasks("b0", 1))
    assert controller.tasks()[0] == (1, 1)
    assert controller.to("b0/tasks", m.Task)[0].ahead


def test_balanced_tasks_go_to_idle_engines(two: Controller) -> None:
    two.submit(0)
    two.submit(1)
    assert two.tasks("b1") == [(1, 1)]
    two.submit(2)
    assert two.tasks("b0") == two.tasks("b1") == []
    two.result(0)
    assert two.tasks("b0") == [(2, 1)]


def test_a_function_travels_once(one: Controller) -> None:
    one.receive("ann", m.Function("f"), (b"code",))
    one.submit(0, work=m.Apply("f"), engines=[0])
    assert one.to("b0/tasks", m.Function) == [m.Function("f")]
    one.submit(1, work=m.Apply("f"), engines=[0])
    assert one.to("b0/tasks", m.Function) == []


def test_a_missing_function_is_asked_for_and_waited_for(one: Controller) -> None:
    one.submit(0, work=m.Apply("f"))
    assert one.to("ann") == [m.NeedFunction("f")]
    one.receive("ann", m.Function("f"), (b"code",))
    assert one.tasks() == [(0, 1)]


def test_each_client_is_asked_for_a_missing_function(one: Controller) -> None:
    one.client("bob")
    one.submit(0, work=m.Apply("f"))
    one.left("ann")
    one.submit(0, work=m.Apply("f"), peer="bob")
    assert one.to("bob") == [m.NeedFunction("f")]


def test_a_task_that_waits_for_its_function_is_not_overtaken(one: Controller) -> None:
    one.client("bob")
    one.submit(0, work=m.Apply("f"), engines=[0])
    one.submit(1, engines=[0])
    assert one.tasks() == []
    one.submit(0, engines=[0], peer="bob")
    assert one.tasks() == [(0, 1)]  # bob's
    one.receive("ann", m.Function("f"), (b"code",))
    assert one.tasks() == [(0, 1), (1, 1)]


def test_cancelling_what_waits_for_a_function_frees_those_behind(one: Controller) -> None:
    one.submit(0, work=m.Apply("f"), engines=[0])
    one.submit(1, engines=[0])
    one.receive("ann", m.Cancel([0]))
    assert one.failure(0).kind == "TaskCancelled"
    assert one.tasks() == [(1, 1)]


def test_a_client_hears_where_its_longer_tasks_are(one: Controller) -> None:
    one.submit(0)
    one.wait(1.0)
    assert one.to("ann") == [m.Assigned([0], [Hint(0, "b0", 1)])]
    one.result(0)
    one.submit(1)
    one.result(1)
    assert one.core.sizes()["hints"] == 0


def test_unstarted_work_is_recalled_for_an_idle_engine() -> None:
    controller = Controller()
    controller.engine("b0")
    controller.client()
    for number in range(8):
        controller.submit(number)
        controller.result(number, seconds=1e-5)
    for number in range(10, 14):
        controller.submit(number)
    controller.engine("b1")
    controller.wait(0.05)
    [recall] = controller.to("b0", m.Recall)
    assert not recall.interrupt
    controller.receive("b0", m.GivenBack([(ann(n), 1) for n in (11, 12, 13)]))
    assert controller.tasks("b1")[0] == (11, 2)


# ---------------------------------------------------------------- results


def test_a_result_is_kept_until_it_is_acknowledged(one: Controller) -> None:
    one.submit(0)
    one.result(0)
    assert one.results() == {0: None}
    assert ann(0) in one.journal
    one.receive("ann", m.Acknowledge([0]))
    assert one.journal == {}
    one.wait(1.0)
    assert one.to("b0") == [m.Forget([(ann(0), 1)])]
    assert one.core.sizes()["tasks"] == 0


def test_a_client_that_was_away_gets_its_result_again(one: Controller) -> None:
    one.submit(0)
    one.left("ann")
    one.result(0)
    one.client(unresolved=[0], generation=1)
    one.submit(0)
    assert one.to("b0") == [m.SendAgain([ann(0)])]
    one.receive("b0", m.Result(ann(0), 1, 0))
    assert one.results() == {0: None}


def test_a_repeated_result_is_asked_for_again_when_the_engine_was_away_too(one: Controller) -> None:
    one.submit(0)
    one.left("ann")
    one.result(0)
    one.client(unresolved=[0], generation=1)
    one.submit(0)
    one.engine("b0", m.Inventory(finished=[(ann(0), 1)]), generation=2)
    assert one.to("b0", m.SendAgain) == [m.SendAgain([ann(0)])]


def test_output_that_may_be_lost_is_sent_again_with_the_result(one: Controller) -> None:
    one.submit(0)
    one.left("ann")
    one.receive("b0", m.Stream(ann(0), 0, 0, "stdout", "lost", 1))
    one.client(unresolved=[0], generation=1)
    one.submit(0)
    one.result(0, outputs=1)
    assert one.to("b0", m.SendAgain) == [m.SendAgain([ann(0)])]


def test_output_lost_with_the_engines_connection_is_sent_again(one: Controller) -> None:
    one.submit(0)
    one.result(0, outputs=3)
    one.engine("b0", m.Inventory(finished=[(ann(0), 1)]), generation=2)
    assert one.to("b0", m.SendAgain) == [m.SendAgain([ann(0)])]


def test_a_hello_acknowledges_what_it_does_not_name(one: Controller) -> None:
    one.submit(0)
    one.result(0)
    one.client(unresolved=[], generation=1)
    assert one.core.sizes()["tasks"] == 0


def test_an_engine_need_not_keep_a_large_result_any_longer_than_its_client_needs(one: Controller) -> None:
    one.submit(0, 1)
    one.result(0)
    one.receive("b0/tasks", m.Result(ann(1), 1, 0), (bytes(LARGE),))
    one.receive("ann", m.Acknowledge([0]))
    assert one.to("b0") == []
    one.receive("ann", m.Acknowledge([1]))
    assert one.to("b0") == [m.Forget([(ann(0), 1), (ann(1), 1)])]


def test_results_of_a_client_that_left_go_into_the_store(one: Controller) -> None:
    one.submit(0)
    one.receive("ann", m.Goodbye())
    one.result(0)
    one.settle()
    assert one.core.sizes()["tasks"] == one.core.sizes()["clients"] == 0
    assert one.store.tasks() == {ann(0): ""}
    one.engine("b0", m.Inventory(finished=[(ann(0), 1)]), generation=2)
    one.wait(1.0)
    assert one.to("b0", m.Forget)


def test_what_was_dropped_while_a_client_was_away_is_not_run_again() -> None:
    controller = Controller(result_ttl=10.0)
    controller.engine()
    controller.client()
    controller.submit(0)
    controller.left("ann")
    controller.result(0)
    controller.wait(11.0)
    assert controller.core.sizes()["clients"] == 0
    controller.client(unresolved=[0])
    controller.submit(0, hints=[Hint(0, "b0", 1)])
    assert controller.failure(0).kind == "ResultExpired"
    assert controller.tasks() == []


# ---------------------------------------------------------------- engines die


def test_what_an_engine_had_not_begun_goes_elsewhere(two: Controller) -> None:
    two.submit(0)
    two.begun["b0"] = set()
    two.ended("b0")
    assert two.tasks("b1") == [(0, 2)]


def test_what_an_engine_had_begun_is_lost(two: Controller) -> None:
    two.submit(0)
    two.begun["b0"] = {(ann(0), 1)}
    two.ended("b0")
    assert two.failure(0).kind == "EngineLost"
    assert two.failure(0).started is True


def test_where_nobody_knows_it_is_lost_too(two: Controller) -> None:
    two.submit(0)
    two.ended("b0")
    assert two.failure(0).started is None


def test_what_an_engine_had_finished_is_no_loss_though_it_could_not_say_so(two: Controller) -> None:
    for number in range(2):
        two.submit(number, engines=[0])
    two.begun["b0"] = {(ann(0), 1), (ann(1), 1)}
    output = m.Stream(ann(0), 0, 0, "stdout", "said", attempt=1)
    value = m.Result(ann(0), 1, 0, outputs=1)
    two.finished["b0"] = [
        (m.Result(ann(9), 1, 0), ()),
        (m.Result(ann(1), 7, 0), ()),
        (m.HelloTasks("b0", 1), ()),
        (output, ()),
        (value, (b"value",)),
    ]
    two.ended("b0")
    assert [message for _, message in two.sent if isinstance(message, m.Stream | m.Result)][:2] == [output, value]
    assert two.failure(1).kind == "EngineLost"
    two.core.check()


def test_what_has_arrived_is_not_said_again_after_its_engines_death(two: Controller) -> None:
    two.submit(0, engines=[0])
    two.result(0)
    two.finished["b0"] = [(m.Result(ann(0), 1, 0), (b"value",))]
    two.ended("b0")
    assert not [message for _, message in two.sent if isinstance(message, m.Result)]


def test_retries_are_used_up_by_engines_that_die_with_the_task_begun(two: Controller) -> None:
    two.submit(0, retries=1)
    two.begun["b0"] = {(ann(0), 1)}
    two.ended("b0")
    assert two.tasks("b1") == [(0, 2)]
    two.begun["b1"] = {(ann(0), 2)}
    two.ended("b1")
    assert two.failure(0).started is True


def test_addressed_tasks_are_lost_with_their_engine(two: Controller) -> None:
    two.submit(0, engines=[0], retries=3)
    two.begun["b0"] = set()
    two.ended("b0")
    assert two.failure(0).started is False
    assert two.tasks("b1") == []


def test_silence_is_no_proof_that_a_task_had_not_begun() -> None:
    controller = Controller(engine_grace=5.0)
    controller.begun["b0"] = set()
    controller.engine("b0")
    controller.client()
    controller.submit(0)
    controller.engine("b1")
    controller.left("b0")
    controller.wait(6.0)
    assert controller.failure(0).started is None
    assert controller.tasks("b1") == []
    controller.engine("b0", generation=2, tasks=False)
    assert controller.to("b0") == [m.StopEngine()]


def test_an_engine_that_is_back_in_time_goes_on(one: Controller) -> None:
    one.submit(0)
    one.left("b0")
    one.wait(5.0)
    one.engine("b0", m.Inventory(running=[(ann(0), 1)]), generation=2)
    assert one.tasks() == []
    one.result(0)
    assert one.results() == {0: None}


def test_what_the_task_connection_lost_is_handed_out_again_in_order(one: Controller) -> None:
    for number in range(3):
        one.submit(number, engines=[0])
    one.engine("b0", m.Inventory(running=[(ann(0), 1)]), generation=2)
    assert one.tasks() == [(1, 2), (2, 2)]


def test_an_agent_says_how_an_engine_ended() -> None:
    controller = Controller()
    controller.agent()
    controller.engine(agent="agent")
    controller.client()
    controller.submit(0)
    controller.ended("b0")
    assert controller.results() == {}
    controller.receive("agent", m.EngineExited("b0", m.Exit(signal=11), False))
    assert controller.failure(0).signal == 11


def test_an_agent_that_says_nothing_is_not_waited_for() -> None:
    controller = Controller()
    controller.agent()
    controller.engine(agent="agent")
    controller.client()
    controller.submit(0)
    controller.ended("b0")
    controller.wait(EXIT_REPORT)
    assert controller.failure(0).kind == "EngineLost"


def test_a_late_hello_of_a_dead_process_changes_nothing() -> None:
    controller = Controller()
    controller.agent()
    controller.engine(agent="agent")
    controller.ended("b0")
    controller.receive("late", m.HelloEngine(m.PROTOCOL, m.EngineRecord("b0", "here", 1, "3"), 2, m.Inventory()))
    controller.wait(EXIT_REPORT)
    assert controller.core.roster() == []


def test_a_restarted_engine_keeps_its_id() -> None:
    controller = Controller()
    controller.agent()
    controller.engine("b0", agent="agent")
    controller.engine("b1", agent="agent")
    controller.receive("agent", m.EngineExited("b0", m.Exit(signal=9), True))
    controller.engine("b2", agent="agent", replaces="b0", tasks=False)
    assert controller.to("b2") == [m.WelcomeEngine(0)]


def test_clients_hear_that_an_engine_is_restarted_and_that_it_is_not_when_its_agent_is_gone() -> None:
    controller = Controller()
    controller.agent()
    controller.client()
    controller.engine("b0", agent="agent")
    killed = m.Exit(signal=9)
    controller.receive("agent", m.EngineExited("b0", killed, True))
    assert controller.to("ann", m.EngineLeft) == [m.EngineLeft(0, "b0", killed, restarting=True)]
    controller.left("agent")
    assert controller.to("ann", m.EngineLeft) == [m.EngineLeft(0, "b0", killed)]


@pytest.mark.parametrize("news", ["after", "never"])
def test_a_restarted_engine_keeps_its_id_though_it_comes_before_the_news(news: str) -> None:
    controller = Controller()
    controller.agent()
    controller.engine("b0", agent="agent")
    controller.client()
    controller.engine("b1", agent="agent", replaces="b0", tasks=False)
    assert controller.to("b1") == [m.WelcomeEngine(0)]
    assert [left.boot for left in controller.to("ann", m.EngineLeft)] == ["b0"]
    if news == "after":
        controller.receive("agent", m.EngineExited("b0", m.Exit(), True))
    assert [engine.boot for engine in controller.core.roster()] == ["b1"]


def test_a_restart_after_a_goodbye_keeps_the_id() -> None:
    controller = Controller()
    controller.agent()
    controller.engine("b0", agent="agent")
    controller.receive("b0", m.Goodbye())
    controller.receive("agent", m.EngineExited("b0", m.Exit(), True))
    controller.engine("b1", agent="agent", replaces="b0", tasks=False)
    assert controller.to("b1") == [m.WelcomeEngine(0)]


def test_a_call_to_the_earlier_life_is_not_run_by_the_new_one() -> None:
    controller = Controller()
    controller.agent()
    controller.engine("b0", agent="agent")
    controller.client()
    controller.receive("agent", m.EngineExited("b0", m.Exit(signal=9), True))
    controller.engine("b1", agent="agent", replaces="b0")
    controller.submit(0, engines=[0], boots=["b0"])
    failure = controller.failure(0)
    assert (failure.kind, failure.restarted, failure.started, failure.signal) == ("EngineLost", True, False, 9)
    assert controller.tasks("b1") == []
    controller.submit(1, engines=[0], boots=["b1"])
    assert controller.tasks("b1") == [(1, 1)]


def test_a_task_whose_repeated_result_dies_with_its_engine_is_lost(one: Controller) -> None:
    one.submit(0)
    one.left("ann")
    one.result(0)
    one.client(unresolved=[0], generation=1)
    one.submit(0)
    one.ended("b0")
    assert one.failure(0).started is True


def test_a_function_is_released_once_when_a_finished_task_is_lost(one: Controller) -> None:
    one.receive("ann", m.Function("f"), (b"code",))
    one.submit(0, work=m.Apply("f"))
    one.left("ann")
    one.result(0)
    one.ended("b0")
    one.client(unresolved=[0], generation=1)
    one.submit(0, work=m.Apply("f"))
    assert one.failure(0).started is True


# ---------------------------------------------------------------- nobody to run it


def test_no_engines_and_none_expected() -> None:
    controller = Controller()
    controller.client()
    controller.submit(0)
    assert controller.failure(0).kind == "NoEngines"
    controller.submit(1, engines=[3])
    assert controller.failure(1).kind == "NoSuchEngine"


def test_balanced_tasks_wait_while_engines_are_expected() -> None:
    controller = Controller()
    controller.agent(expected=1)
    controller.client()
    controller.submit(0)
    assert controller.results() == {}
    controller.receive("agent", m.AgentTrouble("no such file: python"))
    assert controller.failure(0).message == "no such file: python"


def test_an_agent_that_is_gone_for_good_is_not_waited_for() -> None:
    controller = Controller(engine_grace=5.0)
    controller.agent(expected=1)
    controller.client()
    controller.submit(0)
    controller.left("agent")
    controller.wait(1.0)
    assert controller.results() == {}
    controller.wait(5.0)
    assert controller.failure(0).kind == "NoEngines"


def test_an_exit_that_is_told_twice_counts_once() -> None:
    controller = Controller()
    controller.agent(expected=2)
    controller.client()
    controller.submit(0)
    for _ in range(2):
        controller.receive("agent", m.EngineExited("b7", m.Exit(exit_code=1), False))
    assert controller.results() == {}


# ---------------------------------------------------------------- cancel, clear


def test_cancel_of_a_queued_task() -> None:
    controller = Controller()
    controller.engine(tasks=False)
    controller.client()
    controller.submit(0)
    controller.receive("ann", m.Cancel([0]))
    assert (controller.failure(0).kind, controller.failure(0).started) == ("TaskCancelled", False)


def test_cancel_of_a_task_at_an_engine(one: Controller) -> None:
    one.submit(0)
    one.receive("ann", m.Cancel([0]))
    assert one.to("b0") == [m.Recall([(ann(0), 1)], interrupt=True)]
    assert one.results() == {}
    one.receive("b0", m.GivenBack([(ann(0), 1)]))
    assert one.failure(0).started is False


def test_cancel_of_a_task_that_ended(one: Controller) -> None:
    one.submit(0)
    one.result(0)
    one.receive("ann", m.Cancel([0, 99]))
    assert one.sent == []


def test_cancel_is_repeated_when_the_engine_was_away(one: Controller) -> None:
    one.submit(0)
    one.left("b0")
    one.receive("ann", m.Cancel([0]))
    assert one.sent == []
    one.engine("b0", m.Inventory(running=[(ann(0), 1)]), generation=2)
    assert one.to("b0", m.Recall) == [m.Recall([(ann(0), 1)], interrupt=True)]


def test_a_cancelled_task_that_dies_with_its_engine(one: Controller) -> None:
    one.submit(0, retries=3)
    one.receive("ann", m.Cancel([0]))
    one.begun["b0"] = {(ann(0), 1)}
    one.ended("b0")
    assert (one.failure(0).kind, one.failure(0).started) == ("TaskCancelled", True)


def test_a_second_recall_of_the_same_attempt_only_interrupts(one: Controller) -> None:
    one.submit(0, engines=[0])
    one.receive("ann", m.ClearQueue(1, [0]))
    assert one.to("b0") == [m.Recall([(ann(0), 1)])]
    one.receive("ann", m.Cancel([0]))
    assert one.to("b0") == [m.Recall([(ann(0), 1)], interrupt=True, again=True)]


def test_clear_queue_takes_away_what_has_not_begun(one: Controller) -> None:
    for number in range(3):
        one.submit(number, engines=[0])
    one.submit(3)
    one.receive("ann", m.ClearQueue(7, None))
    assert one.failure(3).kind == "TaskCancelled"
    [answer] = one.to("ann", m.Answer)
    assert (answer.request, answer.body) == (7, {"cleared": 3})
    one.receive("b0", m.GivenBack([(ann(1), 1), (ann(2), 1)]))
    assert set(one.results()) == {1, 2}
    one.result(0)
    assert one.results() == {0: None}


def test_clear_queue_does_not_interrupt_what_runs(one: Controller) -> None:
    one.submit(0, engines=[0])
    one.receive("ann", m.ClearQueue(1, None))
    one.engine("b0", m.Inventory(running=[(ann(0), 1)]), generation=2)
    assert one.to("b0", m.Recall) == [m.Recall([(ann(0), 1)])]
    one.begun["b0"] = {(ann(0), 1)}
    one.ended("b0")
    assert one.failure(0).kind == "EngineLost"


def test_interrupt_reaches_what_runs(two: Controller) -> None:
    two.receive("ann", m.Interrupt([1, 9]))
    assert two.sent == [("b1", m.InterruptRunning())]


# ---------------------------------------------------------------- questions, ends


def test_queue_status(one: Controller) -> None:
    for number in range(3):
        one.submit(number, engines=[0])
    one.submit(3)
    one.receive("ann", m.Ask(1, "queue_status"))
    assert one.to("ann") == [m.Answer(1, {"engines": [[0, 2, 1, 0]], "unassigned": 1, "heads": [(0, "ann:0", "1")]})]


def test_status(one: Controller) -> None:
    one.receive("ann", m.Ask(2, "status"))
    body = one.to("ann")[0].body
    assert body["controller"]["pid"] == 1
    assert [client["id"] for client in body["clients"]] == ["ann"]
    assert [engine.boot for engine in body["engines"]] == ["b0"]


def test_engines_are_ended_by_their_agent_or_by_themselves() -> None:
    controller = Controller()
    controller.agent()
    controller.engine("b0", agent="agent")
    controller.engine("b1")
    controller.client()
    controller.receive("ann", m.EndEngines(1, [0, 1]))
    assert controller.to("agent") == [m.EndEngine("b0", False)]
    assert controller.to("b1") == [m.StopEngine()]
    controller.receive("ann", m.EndEngines(2, [0, 1], restart=True))
    assert controller.to("ann") == [m.Answer(2, {"unsupervised": [1]})]


def test_shut_down(one: Controller) -> None:
    one.agent()
    one.receive("ann", m.ShutDown())
    assert [type(message) for _, message in one.sent] == [m.ClusterEnds, m.StopEngine, m.StopAgent]


def test_a_story_is_told_of_a_task(one: Controller) -> None:
    one.submit(0)
    one.result(0)
    assert [line.split()[1] for line in one.core.story(ann(0))] == ["handed", "done"]


def test_scaling_is_an_agents_business() -> None:
    controller = Controller()
    controller.client()
    controller.receive("ann", m.Scale(1, 3))
    assert controller.to("ann") == [m.Answer(1, {"agents": 0, "fixed": ""})]
    controller.agent(expected=0)
    controller.receive("ann", m.Scale(2, 3))
    assert controller.to("ann") == [m.Answer(2, {"agents": 1, "fixed": ""})]
    assert controller.to("agent") == [m.ScaleAgent(3)]
    controller.submit(0)
    assert controller.results() == {}, "it waits for the engines that were asked for"


def test_where_engines_are_started_elsewhere_the_controller_ends_those_with_the_highest_ids() -> None:
    controller = Controller()
    controller.client()
    controller.agent("head", expected=0, scales="none")
    controller.agent("launcher", expected=3, scales="elsewhere")
    for boot in ("b0", "b1", "b2"):
        controller.engine(boot)
    controller.receive("ann", m.Scale(1, 2))
    assert controller.to("launcher") == [m.ScaleAgent(2, [0, 1])]
    assert controller.to("b2") == [m.StopEngine()]
    assert not controller.to("head")


def test_an_agent_whose_engines_keep_their_number_says_why() -> None:
    controller = Controller()
    controller.client()
    controller.agent(scales="none", fixed="a job has its size")
    controller.receive("ann", m.Scale(1, 2))
    assert controller.to("ann") == [m.Answer(1, {"agents": 0, "fixed": "a job has its size"})]


def test_why_engines_are_not_here_yet_is_told_and_forgotten() -> None:
    controller = Controller()
    controller.client()
    controller.agent(expected=2, scales="elsewhere")
    controller.receive("agent", m.AgentTrouble("job 7 is pending", 2))
    assert controller.to("ann") == [m.EngineTrouble("job 7 is pending", False)]
    controller.client("bob")
    assert controller.to("bob", m.EngineTrouble) == [m.EngineTrouble("job 7 is pending", False)]
    controller.submit(0)
    assert controller.results() == {}, "it waits"
    controller.receive("ann", m.Why(1, 1))
    (answer,) = controller.to("ann")
    assert answer.body["text"] == "engine 1 is not here; 2 engines more are expected: job 7 is pending"
    controller.receive("agent", m.AgentTrouble("job 7 was cancelled"))
    assert controller.results()[0].message.endswith("job 7 was cancelled")


def test_draining_engines_end_what_they_run_and_what_is_theirs_and_leave_the_rest_to_others() -> None:
    controller = Controller()
    controller.client()
    controller.agent()
    controller.engine("b0", agent="agent")
    controller.submit(0)
    controller.submit(1, engines=[0])
    assert controller.tasks() == [(1, 1)]
    controller.receive("agent", m.AgentDrains("its time is nearly up"))
    assert controller.to("b0") == [m.Recall([(ann(0), 1)])]
    assert controller.to("ann", m.EngineJoined)[0].engine.state == "draining"
    controller.receive("b0", m.GivenBack([]))
    controller.submit(2)
    assert not controller.tasks(), "nothing new"
    controller.result(0)
    assert not controller.to("b0")
    controller.result(1)
    assert controller.to("b0") == [m.StopEngine()]
    controller.engine("b1", agent="other")
    assert controller.tasks("b1") == [(2, 1)]


def test_an_idle_engine_that_is_to_drain_ends_at_once() -> None:
    controller = Controller()
    controller.agent()
    controller.engine("b0", agent="agent")
    controller.receive("agent", m.AgentDrains("its time is nearly up"))
    assert controller.to("b0") == [m.StopEngine()]


def test_tasks_of_one_message_may_have_frames_of_their_own(one: Controller) -> None:
    def handed_out() -> dict[int, list[Any]]:
        sends = [effect for effect in one.effects if isinstance(effect, Send) and isinstance(effect.message, m.Task)]
        return {send.message.id.number: list(send.frames) for send in sends}

    one.receive("ann", m.Submit([0, 1], CODE, each=2), (b"a", b"b", b"c", b"d"))
    assert handed_out() == {0: [b"a", b"b"]}
    one.result(0)
    assert handed_out() == {1: [b"c", b"d"]}


def test_tasks_of_one_message_with_another_number_of_frames_are_refused(one: Controller) -> None:
    one.receive("ann", m.Submit([0, 1], CODE, each=2), (b"a", b"b", b"c"))
    [refused] = one.to("ann", m.Refused)
    assert refused.numbers == [0, 1]
