"""Tasks with a time: interrupt, then TaskTimeout while the engine shows that it is overrun."""

from __future__ import annotations

from typing import Any

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.effects import RaiseInterrupt
from ipkernel_ext.core.engine import OVERRUN_AFTER, Channel, EngineCore
from ipkernel_ext.core.messages import Failure
from tests.core.cluster import CODE, Controller, ann
from tests.core.test_engine import sent, stream

INTERRUPTED = Failure("TaskInterrupted", "KeyboardInterrupt", "interrupted", "trace", 3)


@pytest.fixture
def core() -> EngineCore:
    """An engine that runs a task with a second for each item, begun at 10."""
    core = EngineCore(m.EngineRecord("b0", "here", 1, "3"))
    core.connect()
    core.receive(Channel.CONTROL, 1, 5, m.WelcomeEngine(3), ())
    core.connect_tasks()
    core.receive(Channel.TASKS, 1, 5, m.Task(ann(0), 1, CODE, timeout=1.0), ())
    core.claim()
    assert not core.begin_item(10.0)
    return core


def test_an_item_is_interrupted_when_its_time_is_up(core: EngineCore) -> None:
    assert core.next_deadline() == 11.0
    assert core.tick(10.9) == []
    assert core.tick(11.0) == [RaiseInterrupt(ann(0), 1)]
    assert core.expired
    [result] = sent(core.finish((), 0, (), INTERRUPTED))
    assert (result.failure.kind, result.failure.item, result.failure.traceback) == ("TaskTimeout", 3, "trace")
    assert core.next_deadline() is None
    core.check()


def test_each_item_has_its_own_time(core: EngineCore) -> None:
    assert not core.begin_item(10.9)
    assert core.tick(11.0) == []
    assert core.next_deadline() == 11.9
    core.tick(11.9)
    assert core.begin_item(12.0)
    assert not core.expired
    [result] = sent(core.finish((), 0, (), INTERRUPTED))
    assert result.failure.kind == "TaskInterrupted"


def test_what_ends_well_in_spite_of_the_interrupt_has_its_value(core: EngineCore) -> None:
    core.tick(11.0)
    [result] = sent(core.finish((), 0, (b"value",)))
    assert result.failure is None


def test_what_does_not_obey_fails_and_leaves_the_engine_overrun(core: EngineCore) -> None:
    core.tick(11.0)
    core.output([stream(0)])
    assert core.tick(11.0 + OVERRUN_AFTER - 0.1) == []
    state, result = sent(core.tick(11.0 + OVERRUN_AFTER), Channel.CONTROL)
    assert state == m.EngineState("overrun")
    assert (result.failure.kind, result.outputs) == ("TaskTimeout", 1)
    core.check()
    assert core.next_deadline() is None
    assert core.output([stream(1)]) == []
    assert core.inventory() == m.Inventory([], [], [(ann(0), 1)])
    assert core.receive(Channel.CONTROL, 1, 5, m.InterruptRunning(), ()) == [RaiseInterrupt(ann(0), 1)]
    assert sent(core.finish((), 1, (b"too late",)), Channel.CONTROL) == [m.EngineState("ready")]
    core.check()


def test_an_overrun_engine_says_so_at_its_next_hello(core: EngineCore) -> None:
    core.tick(11.0)
    core.tick(99.0)
    [hello] = sent(core.connect())
    assert hello.engine.state == "overrun"
    assert hello.inventory.finished == [(ann(0), 1)]


# ---------------------------------------------------------------- the controller


def states(records: list[Any]) -> list[str]:
    """Of engines that joined or changed."""
    return [record.engine.state for record in records]


def test_the_limits_travel_with_the_task(two: Controller) -> None:
    two.submit(0, timeout=2.5, max_result=1000)
    [task] = two.to("b0/tasks", m.Task)
    assert task.timeout == 2.5
    assert task.max_result == 1000


def test_an_overrun_engine_is_given_nothing_and_its_work_goes_to_others(two: Controller) -> None:
    two.submit(3, timeout=1.0, among=[0])
    two.submit(4, among=[0, 1])
    two.submit(5, among=[0, 1])
    assert two.tasks("b0") == []
    two.receive("b0", m.EngineState("overrun"))
    assert states(two.to("ann", m.EngineJoined)) == ["overrun"]
    two.result(3, boot="b0", failure=Failure("TaskTimeout", "TaskTimeout", "too long"))
    assert two.tasks("b0") == []
    two.result(4, boot="b1")
    assert two.tasks("b1") == [(5, 1)]
    two.submit(6, engines=[0])
    two.submit(7, among=[0])
    assert two.tasks("b0") == []
    two.receive("b0", m.EngineState("ready"))
    assert two.tasks("b0") == [(6, 1), (7, 1)]
    assert states(two.to("ann", m.EngineJoined)) == ["ready"]


def test_an_engine_may_come_overrun() -> None:
    controller = Controller()
    controller.client()
    controller.engine("b0", state="overrun")
    assert states(controller.to("ann", m.EngineJoined)) == ["overrun"]
    controller.submit(0)
    assert controller.tasks("b0") == []
    controller.receive("b0", m.EngineState("ready"))
    assert controller.tasks("b0") == [(0, 1)]
