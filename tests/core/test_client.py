"""The client by example: what it replays, acknowledges, shows and resolves."""

from __future__ import annotations

from typing import Any

import pytest

from ipkernel_ext.core import client as module
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.client import ClientCore, Submission
from ipkernel_ext.core.effects import Answered, Effect, Reconnect, Resolve, Send, Show
from ipkernel_ext.core.messages import Failure, Hint, TaskId
from ipkernel_ext.core.wire import LARGE
from ipkernel_ext.errors import NotAllowed
from tests.core.cluster import CODE, ann

LOST = Failure("EngineLost", "EngineLost", "engine 0 is lost", started=True)


class Client:
    """A core that is connected."""

    def __init__(self) -> None:
        self.core = ClientCore("ann", python="3", host="here", pid=1)
        self.core.connect()
        self.receive(m.WelcomeClient([m.EngineRecord("b0", "here", 1, "3", id=0)], 1, "here"))

    def receive(self, message: Any, epoch: int = 5, now: float = 0.0) -> list[Effect]:
        """A message arrives."""
        effects = self.core.receive(epoch, message, (b"value",), now)
        self.core.check()
        return effects

    def submit(self, *numbers: int, **fields: Any) -> list[Any]:
        """New tasks; what was sent."""
        return sent(self.core.submit(Submission(numbers, fields.pop("work", CODE), (b"frame",), **fields)))

    def reconnect(self) -> list[Any]:
        """A new connection; what was sent after the welcome."""
        self.core.disconnected()
        self.core.connect()
        return sent(self.receive(m.WelcomeClient([], 1, "here")))


def sent(effects: list[Effect]) -> list[Any]:
    """The messages."""
    return [effect.message for effect in effects if isinstance(effect, Send)]


def resolved(effects: list[Effect]) -> dict[int, Failure | None]:
    """How tasks ended."""
    return {e.result.task.number: e.result.failure for e in effects if isinstance(e, Resolve)}


def result(number: int, outputs: int = 0, failure: Failure | None = None, attempt: int = 1) -> m.Result:
    """A task's end."""
    return m.Result(ann(number), attempt, 0, outputs, failure)


def stream(sequence: int, attempt: int = 1) -> m.Stream:
    """A line of task 0."""
    return m.Stream(ann(0), 0, sequence, "stdout", f"{sequence}", attempt)


@pytest.fixture
def client() -> Client:
    return Client()


def test_a_large_result_is_acknowledged_at_once(client: Client) -> None:
    client.submit(0, 1)
    assert sent(client.receive(result(0))) == []
    effects = client.core.receive(5, result(1), (b"small", bytes(LARGE)), 0.0)
    assert sent(effects) == [m.Acknowledge([0, 1])]
    assert client.core.next_deadline() is None


def test_the_limits_of_a_submission_go_with_each_replay(client: Client) -> None:
    for [submit] in (client.submit(0, timeout=2.5, max_result=1000), client.reconnect()):
        assert (submit.timeout, submit.max_result) == (2.5, 1000)


def test_hello_names_what_is_unresolved(client: Client) -> None:
    client.submit(0)
    client.submit(1)
    client.receive(result(0))
    [hello] = sent(client.core.connect())
    assert hello.unresolved == [1]
    assert hello.generation == 2


def test_a_submission_is_replayed_with_what_was_heard_of_it(client: Client) -> None:
    client.submit(0, 1, 2, engines=[0, 1, 2], boots=["a", "b", "c"], retries=2)
    client.receive(m.Assigned([2, 9], [Hint(2, "c", 4, 1), Hint(0, "x", 1)]))
    client.receive(result(1))
    [replay] = client.reconnect()
    assert replay == m.Submit([0, 2], CODE, [0, 2], ["a", "c"], 2, [None, Hint(2, "c", 4, 1)])


def test_what_is_submitted_while_away_is_sent_at_the_welcome(client: Client) -> None:
    client.core.disconnected()
    assert client.submit(0) == []
    client.core.connect()
    assert sent(client.receive(m.WelcomeClient([], 1, "here"))) == [m.Submit([0], CODE)]


def test_cancels_and_questions_are_repeated(client: Client) -> None:
    client.submit(0)
    client.core.cancel([0, 7])
    client.core.ask(m.Ask(1, "status"))
    assert client.reconnect() == [m.Ask(1, "status"), m.Submit([0], CODE), m.Cancel([0])]
    assert client.receive(m.Answer(1, {"a": 1})) == [Answered(1, {"a": 1})]
    assert client.reconnect() == [m.Submit([0], CODE), m.Cancel([0])]


def test_a_function_is_sent_once_a_connection(client: Client) -> None:
    assert client.submit(0, work=m.Apply("f"), function=(b"code",))[0] == m.Function("f")
    assert len(client.submit(1, work=m.Apply("f"), function=(b"code",))) == 1
    assert [type(message) for message in client.reconnect()] == [m.Function, m.Submit, m.Submit]


def test_a_function_is_sent_again_when_asked_for(client: Client) -> None:
    client.submit(0, work=m.Apply("f"), function=(b"code",))
    assert client.receive(m.NeedFunction("f")) == [Send("controller", m.Function("f"), (b"code",))]
    assert client.receive(m.NeedFunction("g")) == []


def test_results_are_acknowledged_in_company(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.submit(0, 1)
    assert resolved(client.receive(result(0))) == {0: None}
    assert client.core.next_deadline() == module.ACKNOWLEDGE_AFTER
    assert client.core.tick(0.01) == []
    assert sent(client.core.tick(1.0)) == [m.Acknowledge([0])]
    monkeypatch.setattr(module, "ACKNOWLEDGE_AT", 1)
    assert sent(client.receive(result(1))) == [m.Acknowledge([1])]
    assert not any(client.core.sizes().values())


def test_a_result_that_comes_twice_is_acknowledged_twice(client: Client) -> None:
    client.submit(0)
    client.receive(result(0))
    client.core.tick(1.0)
    assert resolved(client.receive(result(0), now=2.0)) == {}
    assert sent(client.core.tick(3.0)) == [m.Acknowledge([0])]


def test_output_is_shown_in_order(client: Client) -> None:
    client.submit(0)
    assert client.receive(stream(1)) == []
    assert client.receive(stream(0)) == [Show(stream(0)), Show(stream(1))]
    assert client.receive(stream(1)) == []


def test_a_result_waits_for_its_output(client: Client) -> None:
    client.submit(0)
    assert client.receive(result(0, outputs=2)) == []
    client.receive(stream(1))
    effects = client.receive(stream(0))
    assert [type(effect) for effect in effects[:3]] == [Show, Show, Resolve]
    assert client.receive(stream(0)) == []


def test_output_of_another_attempt_does_not_complete_a_result(client: Client) -> None:
    client.submit(0)
    client.receive(stream(0))
    client.receive(result(0, outputs=1, attempt=2))
    assert client.core.unresolved == 1
    assert resolved(client.receive(stream(0, attempt=2))) == {0: None}


def test_an_attempt_that_is_taken_up_again_begins_its_output_again(client: Client) -> None:
    client.submit(0)
    client.receive(stream(0, attempt=2))
    client.receive(stream(0, attempt=1))
    assert resolved(client.receive(result(0, outputs=1, attempt=1))) == {0: None}


@pytest.mark.parametrize("news", [m.EngineLeft(0, "b0", m.Exit()), result(0, failure=LOST)])
def test_a_result_does_not_wait_for_the_output_of_a_dead_engine(client: Client, news: Any) -> None:
    client.submit(0)
    client.receive(result(0, outputs=2))
    assert resolved(client.receive(news)) == {0: None}


def test_output_of_no_task(client: Client) -> None:
    stray = m.Stream(None, 0, 0, "stdout", "hello")
    assert client.receive(stray) == [Show(stray)]


def test_interrupted_because_it_was_cancelled_is_cancelled(client: Client) -> None:
    client.submit(0, 1)
    client.core.cancel([0])
    interrupted = Failure("TaskInterrupted", "KeyboardInterrupt", "")
    cancelled = resolved(client.receive(result(0, failure=interrupted)))[0]
    assert cancelled is not None
    assert (cancelled.kind, cancelled.started) == ("TaskCancelled", True)
    assert resolved(client.receive(result(1, failure=interrupted))) == {1: interrupted}


def test_an_earlier_life_of_the_controller_is_not_believed(client: Client) -> None:
    client.submit(0)
    client.receive(m.EngineTrouble("x"), epoch=6)
    assert client.receive(result(0), epoch=5) == []
    assert client.core.unresolved == 1


def test_the_roster(client: Client) -> None:
    client.receive(m.EngineJoined(m.EngineRecord("b1", "here", 2, "3", id=1)))
    client.receive(m.EngineLeft(0, "b0", m.Exit(signal=9)))
    client.receive(m.EngineLeft(1, "earlier", m.Exit()))
    assert list(client.core.engines) == [1]
    assert client.core.lost["b0"].signal == 9


def test_an_engine_that_is_restarted_stays_until_its_successor_joins_or_is_given_up(client: Client) -> None:
    client.receive(m.EngineJoined(m.EngineRecord("b1", "here", 2, "3", id=1)))
    client.receive(m.EngineLeft(1, "b1", m.Exit(signal=9), restarting=True))
    assert client.core.engines[1].state == "restarting"
    client.receive(m.EngineJoined(m.EngineRecord("b2", "here", 3, "3", id=1)))
    assert (client.core.engines[1].boot, client.core.engines[1].state) == ("b2", "ready")
    client.receive(m.EngineLeft(1, "b2", m.Exit(signal=9), restarting=True))
    client.receive(m.EngineLeft(1, "never here", m.Exit(exit_code=1)))
    assert 1 not in client.core.engines


def test_refused_tasks_fail(client: Client) -> None:
    client.submit(0, 1)
    failure = Failure("ProtocolError", "ProtocolError", "no")
    assert resolved(client.receive(m.Refused(failure, [0, 5]))) == {0: failure}
    assert client.core.unresolved == 1


def test_a_refused_question_is_answered_with_the_reason(client: Client) -> None:
    client.core.ask(m.Ask(1, "status"))
    failure = Failure("NotAllowed", "NotAllowed", "no")
    (answered,) = client.receive(m.Refused(failure, request=1))
    assert isinstance(answered, Answered)
    assert isinstance(answered.error, NotAllowed) and str(answered.error) == "no"
    assert client.receive(m.Refused(failure, request=1)) == []


def test_a_controller_of_another_version_ends_everything(client: Client) -> None:
    client.submit(0)
    client.core.ask(m.Ask(1, "status"))
    failure = Failure("VersionMismatch", "VersionMismatch", "old")
    effects = client.receive(m.Refused(failure))
    assert resolved(effects) == {0: failure}
    assert any(isinstance(effect, Answered) and effect.error is not None for effect in effects)


def test_the_cluster_ends(client: Client) -> None:
    client.submit(0)
    failure = resolved(client.receive(m.ClusterEnds("bye")))[0]
    assert failure is not None
    assert failure.kind == "TaskCancelled"
    assert client.core.unresolved == 0


def test_an_unknown_client_begins_again(client: Client) -> None:
    assert client.receive(m.HelloWanted()) == [Reconnect()]


def test_leaving_acknowledges_first(client: Client) -> None:
    client.submit(0)
    client.receive(result(0))
    assert sent(client.core.leave()) == [m.Acknowledge([0]), m.Goodbye()]


def test_anothers_result_is_none_of_ours(client: Client) -> None:
    client.submit(0)
    assert resolved(client.receive(m.Result(TaskId("bob", 0), 1, 0))) == {}
    assert client.core.unresolved == 1


def test_an_engine_that_a_restarted_controller_waits_for_is_away_not_forgotten() -> None:
    client = Client()
    client.receive(m.WelcomeClient([], 1, "here", [(0, "b0"), (3, "b3")]))
    states = {id: (engine.boot, engine.pid, engine.state) for id, engine in client.core.engines.items()}
    assert states == {0: ("b0", 1, "away"), 3: ("b3", 0, "away")}


def call(number: int, **fields: Any) -> Submission:
    """A balanced call."""
    return Submission([number], fields.pop("work", CODE), fields.pop("frames", (b"%d" % number,)), **fields)


def test_calls_that_differ_in_their_arguments_alone_leave_as_one_message(client: Client) -> None:
    effects = client.core.submit(call(0), call(1), call(2))
    client.core.check()
    [send] = [effect for effect in effects if isinstance(effect, Send)]
    assert (send.message.numbers, send.message.each) == ([0, 1, 2], 1)
    assert send.frames == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    "other",
    [
        call(1, retries=1),
        call(1, among=[0]),
        call(1, timeout=2.0),
        call(1, max_result=9),
        call(1, work=m.Keys()),
        call(1, frames=(b"1", b"more")),
        call(1, frames=()),
        call(1, after=[ann(0)]),
        Submission([1], CODE, (b"1",), [0], ["b0"]),
        Submission([1, 2], CODE, (b"1",)),
    ],
    ids=lambda other: "",
)
def test_other_calls_leave_as_messages_of_their_own(client: Client, other: Submission) -> None:
    first, second = sent(client.core.submit(call(0), other))
    assert first.numbers == [0]
    assert second.numbers == list(other.numbers)


def test_a_message_has_so_many_calls_at_most(client: Client) -> None:
    submits = sent(client.core.submit(*map(call, range(module.TOGETHER + 1))))
    assert [len(submit.numbers) for submit in submits] == [module.TOGETHER, 1]
