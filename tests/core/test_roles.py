"""A key makes its holder what it is for, and nothing else."""

from __future__ import annotations

import logging

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.controller import GRUMBLE, ControllerCore
from ipkernel_ext.core.effects import Log, Send

CLIENT = m.HelloClient("c1", m.PROTOCOL, "3.11", "h", 1, [], 1)
RECORD = m.EngineRecord("b1", "h", 2, "3.11")
ENGINE = m.HelloEngine(m.PROTOCOL, RECORD, 1, m.Inventory([], [], []))
TASKS = m.HelloTasks("b1", 1)
AGENT = m.HelloAgent(m.PROTOCOL, "a1", "h", 3, 0, [], 1)


def new_core() -> ControllerCore:
    return ControllerCore(1, pid=1, host="h", now=0.0, begun=lambda boot: None)


def answers(effects):
    return [effect.message for effect in effects if isinstance(effect, Send)]


@pytest.mark.parametrize(
    ("role", "hello", "file"),
    [
        ("engine", CLIENT, "client.json"),
        ("client", ENGINE, "engine.json"),
        ("client", TASKS, "engine.json"),
        ("client", AGENT, "engine.json"),
        ("", CLIENT, "client.json"),
        ("", ENGINE, "engine.json"),
        ("something new", AGENT, "engine.json"),
    ],
)
def test_a_hello_that_the_key_is_not_for_changes_nothing(role, hello, file) -> None:
    core = new_core()
    before = core.sizes()
    (refused,) = answers(core.receive("peer", hello, (), 0.0, role))
    assert isinstance(refused, m.Refused)
    assert refused.failure.kind == "AuthenticationError"
    assert file in refused.failure.message
    assert core.refused == 1
    assert core.sizes() == before
    assert core.roster() == []
    core.check()


@pytest.mark.parametrize(
    ("role", "hello", "welcome"),
    [
        ("client", CLIENT, m.WelcomeClient),
        ("engine", ENGINE, m.WelcomeEngine),
        ("engine", AGENT, m.WelcomeAgent),
        (None, CLIENT, m.WelcomeClient),
        (None, ENGINE, m.WelcomeEngine),
        (None, AGENT, m.WelcomeAgent),
    ],
)
def test_the_right_key_is_welcome_and_none_is_needed_on_a_unix_socket(role, hello, welcome) -> None:
    core = new_core()
    assert isinstance(answers(core.receive("peer", hello, (), 0.0, role))[0], welcome)


@pytest.mark.parametrize("role", ["client", "engine", "", None])
def test_what_is_said_before_any_hello_is_not_done(role) -> None:
    core = new_core()
    for message in (m.ShutDown(), m.Submit([0], m.Execute("1")), m.Ask(1, "status")):
        assert answers(core.receive("peer", message, (), 0.0, role)) == [m.HelloWanted()]
    assert not core.stopping


def test_an_engine_cannot_say_what_clients_say() -> None:
    core = new_core()
    core.receive("peer", ENGINE, (), 0.0, "engine")
    for message in (m.ShutDown(), m.Submit([0], m.Execute("1")), m.EndEngines(1, [0], False), CLIENT):
        assert isinstance(answers(core.receive("peer", message, (), 0.0, "engine"))[0], m.Refused)
    assert not core.stopping


def test_the_log_has_one_line_a_minute() -> None:
    core = new_core()

    def lines(now: float):
        effects = core.receive("peer", CLIENT, (), now, "engine")
        return [effect for effect in effects if isinstance(effect, Log)]

    (line,) = lines(0.0)
    assert line.level == logging.WARNING
    assert "engine" in line.text
    assert lines(1.0) == lines(GRUMBLE - 1) == []
    assert len(lines(GRUMBLE)) == 1


READER = m.HelloClient("~r1", m.PROTOCOL, "3.11", "h", 1, [], 1)
TO_THE_CLUSTER = [m.EndEngines(1, [0]), m.Scale(2, 0), m.ClearQueue(3, None), m.ShutDown()]
TO_WORK = [
    m.Submit([0], m.Execute("1")),
    m.Submit([1], m.Fetch(m.TaskId("c1", 0))),
    m.Function("f"),
    m.Cancel([0]),
    m.Interrupt([0]),
    m.Acknowledge([0]),
    m.Inspect(4, [0], m.Sample("p", 0.01, 1.0), 3.0),
    m.Inspect(5, [0], m.Completions("p x", 2, 3), 3.0),
    m.Input(m.TaskId("c1", 0), 1, "x"),
]
TO_SEE = [
    m.Ask(6, "status"),
    m.Why(7),
    m.Follow(8, True),
    m.Inspect(9, [0], m.Peek("a", 10), 3.0),
    m.Inspect(10, [0], m.Stacks(), 3.0),
]


def refused(core, message) -> bool:
    before = core.refused
    core.receive("peer", message, (), 0.0, "whatever it is for")
    core.check()
    return core.refused > before


def test_who_may_run_may_not_end_engines_or_the_cluster() -> None:
    core = new_core()
    core.receive("peer", CLIENT, (), 0.0, "run")
    assert all(refused(core, message) for message in TO_THE_CLUSTER)
    assert not any(refused(core, message) for message in (*TO_WORK, *TO_SEE))
    assert not core.stopping


def test_who_may_read_changes_nothing() -> None:
    core = new_core()
    core.receive("peer", READER, (), 0.0, "read")
    assert all(refused(core, message) for message in (*TO_THE_CLUSTER, *TO_WORK))
    assert not any(refused(core, message) for message in TO_SEE)
    assert not core.stopping
    assert core.sizes()["tasks"] == 0


def test_whoever_waits_for_an_answer_or_a_result_is_told() -> None:
    core = new_core()
    core.receive("peer", READER, (), 0.0, "read")
    (answer,) = answers(core.receive("peer", m.Scale(2, 0), (), 0.0, "read"))
    assert answer.request == 2 and "may not start or end engines" in answer.failure.message
    (denied,) = answers(core.receive("peer", m.Submit([3], m.Execute("1")), (), 0.0, "read"))
    assert denied.numbers == [3] and denied.failure.kind == "NotAllowed"


def test_a_reader_cannot_take_the_name_of_another_client() -> None:
    core = new_core()
    (refused,) = answers(core.receive("peer", CLIENT, (), 0.0, "read"))
    assert isinstance(refused, m.Refused)
    for role in ("client", "run"):
        assert isinstance(answers(core.receive(role, READER, (), 0.0, role))[0], m.Refused)
    assert core.sizes()["clients"] == 0
