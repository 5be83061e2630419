"""The engine by example: what it claims, gives back, keeps and says again."""

from __future__ import annotations

from typing import Any

import pytest

from ipkernel_ext.core import engine as module
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.effects import Begin, Claimable, Effect, RaiseInterrupt, Reconnect, Send, Stop
from ipkernel_ext.core.engine import Channel, EngineCore
from ipkernel_ext.core.messages import TaskId
from tests.core.cluster import CODE, ann

BOB = TaskId("bob", 0)


class Engine:
    """A core that is connected, in generation 1 of epoch 5."""

    def __init__(self) -> None:
        self.core = EngineCore(m.EngineRecord("b0", "here", 1, "3"))
        self.connect()

    def connect(self) -> list[Any]:
        """Both connections anew; what was said on the task connection."""
        self.core.connect()
        self.control(m.WelcomeEngine(3))
        return sent(self.core.connect_tasks(), Channel.TASKS)

    def control(self, message: Any, epoch: int = 5) -> list[Effect]:
        """A message on the control connection."""
        effects = self.core.receive(Channel.CONTROL, self.core.generation, epoch, message, ())
        self.core.check()
        return effects

    def task(self, id: TaskId, attempt: int = 1, work: m.Work = CODE, ahead: bool = True) -> list[Effect]:
        """A task arrives."""
        message = m.Task(id, attempt, work, ahead)
        effects = self.core.receive(Channel.TASKS, self.core.generation, 5, message, (b"frame",))
        self.core.check()
        return effects

    def claimed(self) -> TaskId | None:
        """The next claim's task."""
        claim, _ = self.core.claim()
        self.core.check()
        return None if claim is None else claim.task.id

    def run(self, *outputs: Any) -> list[Effect]:
        """Run the next task."""
        assert self.claimed() is not None
        return self.core.finish(outputs, len(outputs), (b"value",))


def sent(effects: list[Effect], channel: Channel | None = None) -> list[Any]:
    """The messages."""
    return [e.message for e in effects if isinstance(e, Send) and channel in (None, e.peer)]


def stream(sequence: int, id: TaskId | None = None) -> m.Stream:
    """A line."""
    return m.Stream(id or ann(0), 3, sequence, "stdout", f"{sequence}\n", 1)


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_hello_says_what_it_holds(engine: Engine) -> None:
    for number in range(3):
        engine.task(ann(number))
    engine.run()
    engine.claimed()
    [hello] = sent(engine.core.connect())
    assert hello.generation == 2
    assert hello.engine.id == 3
    assert hello.inventory == m.Inventory([(ann(2), 1)], [(ann(1), 1)], [(ann(0), 1)])


def test_user_code_is_announced_before_it_begins(engine: Engine) -> None:
    engine.task(ann(0), 2)
    claim, effects = engine.core.claim()
    assert claim is not None and claim.frames == (b"frame",)
    assert effects == [Begin(ann(0), 2)]


def test_addressed_tasks_go_first_in_order(engine: Engine) -> None:
    engine.task(ann(5), ahead=False)
    engine.task(ann(6))
    engine.task(ann(7))
    order = []
    while (id := engine.claimed()) is not None:
        order.append(id.number)
        engine.core.finish((), 0, ())
    assert order == [6, 7, 5]


def test_a_task_that_comes_twice_runs_once(engine: Engine) -> None:
    engine.task(ann(0))
    engine.task(ann(0))
    assert engine.claimed() == ann(0)
    engine.task(ann(0))
    engine.core.finish((), 0, ())
    assert sent(engine.task(ann(0))) == [m.Result(ann(0), 1, 3)]
    assert engine.claimed() is None


def test_recall_of_a_waiting_task(engine: Engine) -> None:
    engine.task(ann(0))
    assert sent(engine.control(m.Recall([(ann(0), 1)]))) == [m.GivenBack([(ann(0), 1)])]
    assert engine.claimed() is None
    assert engine.core.sizes()["tombstones"] == 0


def test_a_balanced_task_does_not_wait_for_another_ones_function(engine: Engine) -> None:
    engine.task(ann(0), work=m.Apply("f"), ahead=False)
    engine.task(ann(1), ahead=False)
    assert engine.claimed() == ann(1)


def test_recall_of_what_stood_in_the_way_of_others_says_so(engine: Engine) -> None:
    engine.task(ann(0), work=m.Apply("f"))
    engine.task(ann(1))
    assert engine.claimed() is None
    assert Claimable() in engine.control(m.Recall([(ann(0), 1)]))
    assert engine.claimed() == ann(1)


def test_recall_overtakes_the_task(engine: Engine) -> None:
    assert sent(engine.control(m.Recall([(ann(0), 1)]))) == [m.GivenBack([(ann(0), 1)])]
    engine.task(ann(0))
    assert engine.claimed() is None
    engine.task(ann(0), 2)
    assert engine.claimed() == ann(0)


def test_recall_of_an_earlier_attempt_leaves_the_later_one(engine: Engine) -> None:
    engine.task(ann(0), 2)
    engine.control(m.Recall([(ann(0), 1)]))
    assert engine.claimed() == ann(0)


def test_recall_of_the_running_task(engine: Engine) -> None:
    engine.task(ann(0))
    engine.claimed()
    assert engine.control(m.Recall([(ann(0), 1)])) == []
    assert engine.control(m.Recall([(ann(0), 1)], interrupt=True)) == [RaiseInterrupt(ann(0), 1)]


def test_recall_of_an_ended_task(engine: Engine) -> None:
    engine.task(ann(0))
    engine.run()
    assert engine.control(m.Recall([(ann(0), 1)], interrupt=True)) == []


def test_a_repeated_recall_leaves_no_tombstone(engine: Engine) -> None:
    engine.task(ann(0))
    engine.control(m.Recall([(ann(0), 1)]))
    assert engine.control(m.Recall([(ann(0), 1)], interrupt=True, again=True)) == []
    assert engine.core.sizes()["tombstones"] == 0


def test_tombstones_end_with_their_connection(engine: Engine) -> None:
    engine.control(m.Recall([(ann(0), 1)]))
    engine.connect()
    assert engine.core.sizes()["tombstones"] == 0


def test_interrupt_reaches_what_runs(engine: Engine) -> None:
    assert engine.control(m.InterruptRunning()) == []
    engine.task(ann(0))
    engine.claimed()
    assert engine.control(m.InterruptRunning()) == [RaiseInterrupt(ann(0), 1)]


def test_output_and_result(engine: Engine) -> None:
    engine.task(ann(0))
    engine.claimed()
    assert sent(engine.core.output([stream(0)]), Channel.CONTROL) == [stream(0)]
    effects = engine.core.finish([stream(1)], 2, (b"value",), seconds=0.5)
    assert sent(effects, Channel.TASKS) == [stream(1), m.Result(ann(0), 1, 3, 2, seconds=0.5)]
    again = sent(engine.control(m.SendAgain([ann(0)])), Channel.CONTROL)
    assert again == [stream(0), stream(1), m.Result(ann(0), 1, 3, 2, seconds=0.5)]


def test_a_result_is_kept_until_it_is_forgotten(engine: Engine) -> None:
    engine.task(ann(0))
    engine.run()
    engine.control(m.Forget([(ann(0), 9), (ann(5), 1)]))
    assert engine.core.sizes()["results"] == 1
    engine.control(m.Forget([(ann(0), 1)]))
    assert engine.control(m.SendAgain([ann(0)])) == []
    assert not any(engine.core.sizes().values())


def test_what_ends_without_a_task_connection_is_said_when_there_is_one(engine: Engine) -> None:
    engine.task(ann(0))
    engine.claimed()
    engine.core.connect()
    assert engine.core.finish([stream(0)], 1, (b"value",)) == []
    engine.control(m.WelcomeEngine(3))
    hello, *rest = sent(engine.core.connect_tasks(), Channel.TASKS)
    assert hello == m.HelloTasks("b0", 2)
    assert rest == [stream(0), m.Result(ann(0), 1, 3, 1)]


def test_output_of_an_earlier_generation_is_said_again_with_the_result(engine: Engine) -> None:
    engine.task(ann(0))
    engine.claimed()
    engine.core.output([stream(0)])
    engine.connect()
    effects = engine.core.finish([stream(1)], 2, ())
    assert sent(effects) == [stream(0), stream(1), m.Result(ann(0), 1, 3, 2)]


def test_no_task_connection_before_the_welcome(engine: Engine) -> None:
    engine.core.connect()
    assert engine.core.connect_tasks() == []


def test_messages_of_an_earlier_generation_are_ignored(engine: Engine) -> None:
    engine.connect()
    engine.core.receive(Channel.TASKS, 1, 5, m.Task(ann(0), 1, CODE), ())
    assert engine.claimed() is None


def test_messages_of_an_earlier_life_of_the_controller_are_ignored(engine: Engine) -> None:
    engine.control(m.InterruptRunning(), epoch=6)
    assert engine.control(m.StopEngine(), epoch=5) == []
    assert not engine.core.stopping


def test_a_missing_function_is_asked_for_once_and_waited_for(engine: Engine) -> None:
    assert sent(engine.task(ann(0), work=m.Apply("f"))) == [m.NeedFunction("f")]
    assert sent(engine.task(ann(1), work=m.Apply("f"))) == []
    assert engine.claimed() is None
    engine.core.receive(Channel.TASKS, 1, 5, m.Function("f"), (b"code",))
    claim, _ = engine.core.claim()
    assert claim is not None and claim.function == (b"code",)


def test_waiting_for_a_function_holds_back_only_the_same_client(engine: Engine) -> None:
    engine.task(ann(0), work=m.Apply("f"))
    engine.task(ann(1))
    engine.task(BOB)
    assert engine.claimed() == BOB


def test_a_function_is_asked_for_anew_on_a_new_connection(engine: Engine) -> None:
    engine.task(ann(0), work=m.Apply("f"))
    engine.core.connect()
    engine.core.claim()  # asks into the void: there is no task connection
    engine.control(m.WelcomeEngine(3))
    engine.core.connect_tasks()
    _, effects = engine.core.claim()
    assert sent(effects) == [m.NeedFunction("f")]


def test_only_the_latest_functions_are_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FUNCTIONS", 2)
    for digest in "fgh":
        engine.control(m.Function(digest))
    assert sent(engine.task(ann(0), work=m.Apply("f"))) == [m.NeedFunction("f")]
    assert sent(engine.task(ann(1), work=m.Apply("h"))) == []


def test_stop(engine: Engine) -> None:
    engine.task(ann(0))
    assert engine.control(m.StopEngine()) == [Stop("asked to")]
    assert engine.claimed() is None
    assert engine.control(m.ClusterEnds("over")) == [Stop("over")]


def test_refusals(engine: Engine) -> None:
    assert engine.control(m.Refused(m.Failure("ProtocolError", "", "what?"))) == []
    assert engine.control(m.Refused(m.Failure("VersionMismatch", "", "old"))) == [Stop("old")]


def test_an_unknown_engine_begins_again(engine: Engine) -> None:
    assert engine.control(m.HelloWanted()) == [Reconnect()]
