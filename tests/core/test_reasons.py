"""Why something does not go on, in one sentence."""

from __future__ import annotations

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.answering import UNANSWERED
from ipkernel_ext.core.messages import TaskId
from ipkernel_ext.core.scheduling import WINDOW
from tests.core.cluster import Controller, ann

IDLE = m.Measured(None, 0.0, 0.0, 1)


def reason(
    controller: Controller,
    engine: int | None = None,
    tasks: list[TaskId] | None = None,
    running: dict[str, tuple[TaskId, float]] | None = None,
) -> str:
    """The answer; engines answer that they run what is said here, else nothing."""
    controller.receive("ann", m.Why(7, engine, tasks))
    for boot in [boot for boot, message in controller.sent if isinstance(message, m.Measure)]:
        doing = (running or {}).get(boot)
        measured = IDLE if doing is None else m.Measured((doing[0], 1), doing[1], 0.0, 1)
        controller.receive(boot, measured)
    [answer] = controller.to("ann", m.Answer)
    assert answer.request == 7
    text: str = answer.body["text"]
    return text


@pytest.fixture
def one() -> Controller:
    """One engine, one client."""
    controller = Controller()
    controller.engine("b0")
    controller.client()
    return controller


# ---------------------------------------------------------------- engines


def test_an_engine_with_nothing_to_do(one: Controller) -> None:
    assert reason(one, 0) == "engine 0 is ready and has nothing to do"


def test_a_busy_engine_says_with_what_and_for_how_long(one: Controller) -> None:
    one.submit(0, work=m.Execute("\nimport this\nthat()"), engines=[0])
    one.submit(1, engines=[0])
    text = reason(one, 0, running={"b0": (ann(0), 14.2)})
    assert text == "engine 0 has been running task ann:0 (import this) for 14 s; 1 task waits behind it"


def test_an_engine_that_does_not_answer(one: Controller) -> None:
    one.submit(0, work=m.Execute("f()"), engines=[0])
    one.begun["b0"] = {(ann(0), 1)}
    one.receive("ann", m.Why(7, 0))
    assert one.to("ann") == []
    one.wait(UNANSWERED)
    [answer] = one.to("ann", m.Answer)
    assert answer.body["text"] == (
        "engine 0 has not answered for 3.0 s: its process is stopped, or C code keeps Python's lock; "
        "it has been running task ann:0 (f()) for 3.0 s; kill() or restart() ends it"
    )
    assert reason(one, tasks=[ann(0)]) == (
        "task ann:0 (f()) has begun, but engine 0 has not answered for 3.0 s: its process is stopped, "
        "or C code keeps Python's lock; kill() or restart() ends it"
    )


def test_an_overrun_engine(one: Controller) -> None:
    one.submit(0, work=m.Execute("f()"), engines=[0])
    one.receive("b0", m.EngineState("overrun"))
    one.result(0, failure=m.Failure("TaskTimeout", "TaskTimeout", "too long"))
    one.receive("ann", m.Acknowledge([0]))
    text = reason(one, 0, running={"b0": (ann(0), 60.0)})
    assert text.startswith("engine 0 still runs task ann:0 (f()) for 60 s, which does not end though its time is up")


def test_an_engine_that_is_away(one: Controller) -> None:
    one.left("b0")
    one.wait(20.0)
    assert reason(one, 0) == ("engine 0 has been away for 20 s: its connection is gone; it is waited for 40 s more")


def test_a_dead_engine_and_its_successor() -> None:
    controller = Controller()
    controller.agent()
    controller.engine("b0", agent="agent")
    controller.client()
    controller.ended("b0")
    assert "its host has not said how yet" in reason(controller, 0)
    controller.receive("agent", m.EngineExited("b0", m.Exit(signal=9), True))
    assert reason(controller, 0) == "engine 0 ended: killed by signal 9; its successor is being started"
    controller.engine("b1", agent="agent", replaces="b0")
    text = reason(controller, 0)
    assert text == "engine 0 is ready and has nothing to do; the one before it ended: killed by signal 9"
    controller.receive("agent", m.EngineExited("b1", m.Exit(exit_code=3), False))
    controller.ended("b1")  # the kernel may say so after the agent has
    assert reason(controller, 0) == "engine 0 is dead: exited with code 3; nobody starts another one"


def test_an_engine_that_is_still_to_come() -> None:
    controller = Controller()
    controller.client()
    assert reason(controller, 0) == ""
    controller.agent(expected=2)
    assert reason(controller, 0) == "engine 0 is not here; 2 engines more are expected"
    controller.engine("b0", agent="agent")
    assert reason(controller, 1) == "engine 1 is not here; 1 engine more is expected"
    controller.engine("b1", agent="agent")
    assert reason(controller, 2) == ""
    controller.receive("agent", m.AgentTrouble("no module named numpy"))
    assert reason(controller, 2) == "engine 2 is not here: no module named numpy"


def test_an_engine_that_a_restarted_controller_waits_for(one: Controller) -> None:
    after = Controller(one)
    after.client()
    after.wait(4.0)
    assert reason(after, 0) == (
        "engine 0 has not come back after the controller was restarted; it is waited for 6.0 s more"
    )


# ---------------------------------------------------------------- tasks


def test_a_task_that_runs_and_those_behind_it(two: Controller) -> None:
    two.submit(0, work=m.Apply("f", name="work"), engines=[0])
    two.receive("ann", m.Function("f"), (b"code",))
    for number in (1, 2):
        two.submit(number, engines=[0])
    doing = {"b0": (ann(0), 3.0)}
    assert reason(two, tasks=[ann(0)], running=doing) == "task ann:0 (work()) has been running on engine 0 for 3.0 s"
    behind = "engine 0 has been running task ann:0 (work()) for 3.0 s; 2 tasks wait behind it"
    assert reason(two, tasks=[ann(2)], running=doing) == f"task ann:2 (1) has not begun: {behind}"
    assert reason(two, running=doing).endswith("for 3.0 s (2 other tasks wait too)")
    two.receive("ann", m.Cancel([0]))
    assert reason(two, tasks=[ann(0)], running=doing).endswith("for 3.0 s, and was told to end")


def test_a_task_in_a_full_engines_queue(one: Controller) -> None:
    for number in range(WINDOW + 6):
        one.submit(number, engines=[0])
    place = WINDOW + 2
    text = reason(one, tasks=[ann(place)], running={"b0": (ann(0), 3.0)})
    assert text.startswith(
        f"task ann:{place} (1) waits behind {place} tasks of engine 0: engine 0 has been running task ann:0"
    )


def test_a_balanced_task_in_the_queue(two: Controller) -> None:
    for number in range(4):
        two.submit(number)
    text = reason(two, tasks=[ann(3)], running={"b0": (ann(0), 3.0), "b1": (ann(1), 4.0)})
    assert text == (
        "task ann:3 (1) is number 2 in the queue for an engine; none of 2 is free: "
        "engine 1 has been running task ann:1 (1) for 4.0 s"
    )
    two.submit(4, among=[0])
    text = reason(two, tasks=[ann(4)], running={"b0": (ann(0), 3.0)})
    assert text.startswith(
        "task ann:4 (1) is number 1 in the queue for engine 0, where alone it may run; it is not free"
    )


def test_a_balanced_task_without_engines() -> None:
    controller = Controller()
    controller.client()
    controller.agent(expected=4)
    controller.submit(0)
    assert reason(controller) == "task ann:0 (1) waits for an engine: none is here yet; 4 engines are expected"


def test_a_task_that_comes_after_others(two: Controller) -> None:
    two.submit(0)
    two.submit(1, after=[ann(0)])
    two.submit(2, after=[ann(1)])
    text = reason(two, tasks=[ann(2)], running={"b0": (ann(0), 3.0)})
    assert text == ("task ann:2 (1) is to come after task ann:1: task ann:0 (1) has been running on engine 0 for 3.0 s")


def test_a_task_whose_function_is_missing(one: Controller) -> None:
    one.submit(0, work=m.Apply("f"))
    assert reason(one) == "task ann:0 (a function()) waits for its function, which client ann has been asked for"
    one.submit(1, work=m.Apply("g"), engines=[0])
    assert "waits for its function, or one before it" in reason(one, tasks=[ann(1)])


def test_a_task_whose_engine_is_replaced() -> None:
    controller = Controller()
    controller.agent()
    controller.engine("b0", agent="agent")
    controller.client()
    controller.receive("agent", m.EngineExited("b0", m.Exit(signal=11), True))
    controller.submit(0, engines=[0])
    assert reason(controller) == (
        "task ann:0 (1) waits for engine 0, which ended (killed by signal 11), to be replaced"
    )


def test_a_task_whose_engine_is_not_back_after_a_restart(one: Controller) -> None:
    one.submit(0, engines=[0])
    after = Controller(one)
    after.client(unresolved=[0])
    after.submit(0, engines=[0])
    assert reason(after) == "task ann:0 (1) waits for engine 0, which is not back yet"


def test_what_has_ended_and_what_never_was(one: Controller) -> None:
    assert reason(one) == ""
    assert reason(one, tasks=[TaskId("bob", 3)]) == ""
    one.submit(0)
    one.result(0, failure=m.Failure("user", "ValueError", "no"))
    assert reason(one) == ""
    assert reason(one, tasks=[ann(0)]) == "task ann:0 (1) has ended: ValueError: no"
    one.submit(1)
    one.result(1)
    assert "has ended, and its client has yet to confirm" in reason(one, tasks=[ann(1)])
    assert reason(one) == ""


def test_what_a_client_that_is_not_here_has_left(one: Controller) -> None:
    one.client("bob")
    one.submit(0, peer="bob")
    one.receive("ann", m.Submit([9], m.Fetch(TaskId("bob", 0))))
    running = {"b0": (TaskId("bob", 0), 3.0)}
    assert reason(one, tasks=[ann(9)], running=running) == reason(one, running=running)
    assert reason(one, running=running) == "task bob:0 (1) has been running on engine 0 for 3.0 s"
    one.receive("bob", m.Goodbye())
    one.result(0, client="bob", failure=m.Failure("user", "ValueError", "no"))
    one.settle()
    text = reason(one, tasks=[TaskId("bob", 0)])
    assert text == "task bob:0 has ended (ValueError: no), and its result is kept: get_result('bob:0')"


def test_the_worst_news_come_first(two: Controller) -> None:
    two.submit(0, engines=[0])
    two.submit(1, engines=[1])
    two.begun["b1"] = set()
    two.left("b1")
    text = reason(two, running={"b0": (ann(0), 3.0)})
    assert text.startswith("task ann:1 (1) has not begun: engine 1 has been away for 0.0 s")
    assert text.endswith("(1 other task waits too)")
