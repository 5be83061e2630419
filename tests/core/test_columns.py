"""Messages that speak of many tasks: the same as many messages, for each of the three cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.client import ClientCore, Submission
from ipkernel_ext.core.columns import are_whole, joined, parted
from ipkernel_ext.core.effects import Journal, Resolve, Send
from ipkernel_ext.core.engine import Channel, EngineCore
from ipkernel_ext.core.messages import Failure, TaskId
from ipkernel_ext.core.wire import INLINE, Entry
from tests.core.cluster import Controller, ann

FAILED = Failure("user", "ValueError", "no")
MANY = 6


def result(number: int, attempt: int = 1, **fields: object) -> Entry:
    """The end of a task, and its value."""
    return m.Result(ann(number), attempt, 0, seconds=0.5, cpu=0.25, **fields), (b"%d" % number,)  # type: ignore[arg-type]


# ---------------------------------------------------------------- joining and parting


def test_plain_results_in_a_row_are_one_message() -> None:
    [(results, frames)] = joined([result(1), result(2, attempt=3)])
    assert results == m.Results("ann", [1, 2], [1, 3], 0, [0.5, 0.5], [0.25, 0.25])
    assert list(frames) == [b"1", b"2"]
    assert list(parted(results, frames)) == [result(1), result(2, attempt=3)]


@pytest.mark.parametrize(
    "other",
    [
        result(2, failure=FAILED),
        result(2, outputs=1),
        result(2, execution=4),
        result(2, unseeded=True),
        (result(2)[0], ()),
        (result(2)[0], (b"", b"")),
        (result(2)[0], (bytes(INLINE + 1),)),
        (m.Stream(ann(3), 0, 0, "stdout", "words"), ()),
        (m.Result(TaskId("bob", 2), 1, 0), (b"value",)),
    ],
)
def test_what_says_more_stays_as_it_is_and_where_it_is(other: Entry) -> None:
    entries = [result(0), result(1), other, result(4), result(5)]
    together = joined(entries)
    assert [type(message) for message, _ in together] == [
        m.Results,
        type(other[0]) if other[0].task.client == "ann" else m.Results,
        m.Results,
    ]
    apart: list[Entry] = []
    for message, frames in together:
        apart.extend(parted(message, frames) if isinstance(message, m.Results) else [(message, frames)])
    assert apart == entries


# ---------------------------------------------------------------- the controller


@pytest.fixture
def one() -> Controller:
    """An engine that has shown that its tasks are small, and a client."""
    controller = Controller()
    controller.engine()
    controller.client()
    submit(controller, [100])
    controller.receive("b0/tasks", m.Result(ann(100), 1, 0, seconds=1e-6), (b"value",))
    controller.receive("ann", m.Acknowledge([100]))
    return controller


def submit(controller: Controller, numbers: Sequence[int], peer: str = "ann") -> None:
    """Calls of one function, in one message."""
    controller.receive(peer, m.Function("digest"), (b"function",))
    controller.receive(peer, m.Submit(list(numbers), m.Apply("digest"), each=1), [b"x%d" % n for n in numbers])


def test_calls_that_go_to_an_engine_together_are_one_message_after_their_journal_and_function(one: Controller) -> None:
    controller = Controller()
    controller.engine()
    controller.client()
    submit(controller, [0])
    controller.receive("b0/tasks", m.Result(ann(0), 1, 0, seconds=1e-6), (b"value",))
    submit(controller, range(1, MANY))
    sends = [effect for effect in controller.effects if isinstance(effect, Send)]
    assert [effect.message for effect in sends] == [
        m.Tasks("ann", list(range(1, MANY)), [1] * (MANY - 1), m.Apply("digest"))
    ]
    assert list(sends[0].frames) == [b"x%d" % n for n in range(1, MANY)]
    kinds = [type(effect) for effect in controller.effects]
    assert kinds == [Journal] * (MANY - 1) + [Send]


def test_calls_of_different_functions_or_clients_are_different_messages(one: Controller) -> None:
    one.receive("bob", m.HelloClient("bob", m.PROTOCOL, "3", "here", 1, []))
    one.left("b0/tasks")
    submit(one, [0, 1])
    submit(one, [2])
    submit(one, [0, 1], peer="bob")
    one.receive("ann", m.Submit([3, 4], m.Apply("digest"), each=1, max_result=9), [b"x3", b"x4"])
    one.engine("b0", generation=2)
    handed = [
        (message.client, message.numbers, message.max_result)
        if isinstance(message, m.Tasks)
        else (message.id.client, [message.id.number], message.max_result)
        for message in one.to("b0/tasks")
        if isinstance(message, m.Task | m.Tasks)
    ]
    assert handed == [("ann", [0, 1], 0), ("ann", [2], 0), ("bob", [0, 1], 0), ("ann", [3, 4], 9)]


def test_the_client_is_told_of_results_in_one_message(one: Controller) -> None:
    submit(one, range(MANY))
    [(results, frames)] = joined([result(n) for n in range(MANY)])
    one.receive("b0/tasks", results, frames)
    assert one.to("ann") == [results]
    one.receive("ann", m.Acknowledge(list(range(MANY))))
    assert one.journal == {}
    assert one.core.sizes()["tasks"] == 0


Prepare = Callable[[Controller], None]


def _nothing(one: Controller) -> None:
    pass


def _is_away(one: Controller) -> None:
    one.left("ann")


def _has_left(one: Controller) -> None:
    one.receive("ann", m.Goodbye())


def _is_followed(one: Controller) -> None:
    one.receive("bob", m.HelloClient("bob", m.PROTOCOL, "3", "here", 1, []))
    one.receive("bob", m.Follow(1, True))


def _is_wanted(one: Controller) -> None:
    one.receive("bob", m.HelloClient("bob", m.PROTOCOL, "3", "here", 1, []))
    one.receive("bob", m.Submit([0], m.Fetch(ann(2))))


def _is_acknowledged(one: Controller) -> None:
    one.receive("ann", m.Acknowledge([2]))


def _is_cancelled(one: Controller) -> None:
    one.receive("ann", m.Cancel([2]))


def _is_replayed(one: Controller) -> None:
    one.left("ann")
    one.client(unresolved=range(MANY), generation=1)
    submit(one, range(MANY))


def _is_waited_for(one: Controller) -> None:
    one.receive("ann", m.Submit([MANY], m.Execute("1"), after=[ann(1), ann(2)]))


@pytest.mark.parametrize(
    "prepare",
    [
        _nothing,
        _is_away,
        _has_left,
        _is_followed,
        _is_wanted,
        _is_acknowledged,
        _is_cancelled,
        _is_replayed,
        _is_waited_for,
    ],
)
@pytest.mark.parametrize(
    "entries",
    [
        [result(n) for n in range(MANY)],
        [result(0), result(1), result(1), result(2)],
        [result(0), result(1, attempt=7), result(2)],
        [result(0), result(77), result(2)],
    ],
    ids=["each", "twice", "of another attempt", "unknown"],
)
def test_results_together_do_what_they_do_one_by_one(prepare: Prepare, entries: list[Entry]) -> None:
    outcomes = []
    for batch in (entries, joined(entries)):
        controller = Controller()
        controller.engine()
        controller.client()
        submit(controller, [100])
        controller.receive("b0/tasks", m.Result(ann(100), 1, 0, seconds=1e-6), (b"value",))
        submit(controller, range(MANY))
        prepare(controller)
        told = []
        for message, frames in batch:
            controller.receive("b0/tasks", message, frames)
            for effect in controller.effects:
                if isinstance(effect, Send) and effect.peer == "ann":
                    told += joined_numbers(effect.message)
        controller.settle()
        controller.wait(60.0)
        outcomes.append((told, controller.journal, controller.store.tasks(), controller.core.sizes()))
    assert outcomes[0] == outcomes[1]


def joined_numbers(message: object) -> list[int]:
    """Of whose end a client is told."""
    if isinstance(message, m.Results):
        return message.numbers
    return [message.task.number] if isinstance(message, m.Result) else []


@pytest.mark.parametrize(
    "results",
    [
        m.Results("ann", [0, 1], [1], 0, [0.0, 0.0], [0.0, 0.0]),
        m.Results("ann", [0, 1], [1, 1], 0, [0.0], [0.0, 0.0]),
        m.Results("ann", [0, 1], [1, 1], 0, [0.0, 0.0], []),
        m.Results("ann", [0, 1, 2], [1, 1, 1], 0, [0.0] * 3, [0.0] * 3),
    ],
)
def test_results_whose_columns_do_not_match_are_refused(one: Controller, results: m.Results) -> None:
    submit(one, [0, 1, 2])
    assert not are_whole(results, (b"0", b"1"))
    one.receive("b0/tasks", results, (b"0", b"1"))
    assert [type(message) for message in one.to("b0/tasks")] == [m.Refused]
    assert one.to("ann") == []
    assert one.core.refused == 1


# ---------------------------------------------------------------- the client


def test_a_client_resolves_and_acknowledges_each() -> None:
    core = ClientCore("ann", python="3", host="here", pid=1)
    core.connect()
    core.receive(5, m.WelcomeClient([], 1, "here"), (), 0.0)
    core.submit(Submission(range(100), m.Apply("digest"), (b"x",), function=(b"f",)))
    output = m.Stream(ann(3), 0, 0, "stdout", "words", 1)
    core.receive(5, output, (), 0.0)
    [(results, frames)] = joined([result(n) for n in (0, 3, 5, 100)])
    effects = core.receive(5, results, frames, 0.0)
    core.check()
    assert [e.result.task.number for e in effects if isinstance(e, Resolve)] == [0, 3, 5]
    assert core.unresolved == 97
    [acknowledge] = core.tick(10.0)
    assert isinstance(acknowledge, Send)
    assert sorted(acknowledge.message.numbers) == [0, 3, 5, 100]


def test_a_client_does_not_take_the_results_of_another() -> None:
    core = ClientCore("bob", python="3", host="here", pid=1)
    core.connect()
    core.receive(5, m.WelcomeClient([], 1, "here"), (), 0.0)
    core.submit(Submission([0], m.Apply("digest"), (b"x",), function=(b"f",)))
    [(results, frames)] = joined([result(0)])
    assert core.receive(5, results, frames, 0.0) == []
    assert core.unresolved == 1


# ---------------------------------------------------------------- an engine


def test_an_engine_takes_each_as_a_task_of_its_own() -> None:
    core = EngineCore(m.EngineRecord("b0", "here", 1, "3"))
    core.connect()
    core.receive(Channel.CONTROL, 1, 5, m.WelcomeEngine(0), ())
    core.connect_tasks()
    core.receive(Channel.TASKS, 1, 5, m.Function("digest"), (b"f",))
    core.receive(Channel.CONTROL, 1, 5, m.Recall([(ann(1), 1), (ann(9), 1)]), ())
    tasks = m.Tasks("ann", [0, 1, 2], [1, 1, 2], m.Apply("digest"), 7)
    core.receive(Channel.TASKS, 1, 5, tasks, (b"x0", b"x1", b"x2"))
    assert core.inventory().queued == [(ann(0), 1), (ann(2), 2)]
    claim, _ = core.claim()
    assert claim is not None
    assert claim.task == m.Task(ann(0), 1, m.Apply("digest"), max_result=7)
    assert list(claim.frames) == [b"x0"]
    core.check()
