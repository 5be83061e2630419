"""Lines that tasks ask their users for: none is lost, and nobody waits for who is not there."""

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.asking import NOBODY
from ipkernel_ext.core.client import ClientCore, Submission
from ipkernel_ext.core.effects import AskUser, Begin, Send, Typed
from ipkernel_ext.core.engine import Channel, EngineCore
from ipkernel_ext.core.keeping import KEEP_AFTER
from tests.core.cluster import CODE, Controller, ann

WANTED = m.InputWanted(ann(1), 0, 1, "ipdb> ")
LINE = m.Input(ann(1), 1, "p x")
GONE = m.Input(ann(1), 1, None, NOBODY)


@pytest.fixture
def busy():
    controller = Controller()
    controller.engine("b0")
    controller.client()
    controller.submit(1, engines=[0])
    return controller


def test_a_line_goes_to_the_client_and_back(busy):
    busy.receive("b0", WANTED)
    assert busy.to("ann") == [WANTED]
    busy.receive("ann", LINE)
    assert busy.to("b0") == [LINE]
    busy.receive("ann", LINE)
    assert busy.sent == [], "it is not given twice"
    assert busy.core.sizes()["asked"] == 0


def test_a_stranger_and_an_old_line_are_not_met(busy):
    busy.client("bob")
    busy.receive("b0", WANTED)
    busy.receive("bob", LINE)
    assert busy.sent == []
    busy.receive("ann", m.Input(ann(1), 7, "p x"))
    assert busy.sent == []


def test_a_client_that_comes_back_is_asked_again(busy):
    busy.receive("b0", WANTED)
    busy.left("ann")
    busy.receive("again", m.HelloClient("ann", m.PROTOCOL, "3", "here", 1, [1], 1))
    assert busy.to("again", m.InputWanted) == [WANTED]
    busy.receive("again", LINE)
    assert busy.to("b0") == [LINE]


def test_where_the_client_stays_away_the_engine_is_told(busy):
    busy.receive("b0", WANTED)
    busy.left("ann")
    busy.wait(KEEP_AFTER - 0.1)
    assert busy.to("b0", m.Input) == []
    busy.wait(0.2)
    assert busy.to("b0", m.Input) == [GONE]
    busy.receive("b0", m.InputWanted(ann(1), 0, 2, "ipdb> "))
    assert busy.to("b0", m.Input) == [m.Input(ann(1), 2, None, NOBODY)], "at once from now on"


def test_where_the_client_has_left_the_engine_is_told_at_once(busy):
    busy.receive("b0", WANTED)
    busy.receive("ann", m.Goodbye())
    assert busy.to("b0", m.Input) == [GONE]


def test_a_task_that_ends_asks_nothing(busy):
    busy.receive("b0", WANTED)
    busy.result(1)
    assert busy.core.sizes()["asked"] == 0
    busy.receive("ann", LINE)
    assert busy.to("b0", m.Input) == []


def test_an_engine_that_dies_asks_nothing(busy):
    busy.receive("b0", WANTED)
    busy.ended("b0")
    assert busy.core.sizes()["asked"] == 0


def test_a_restarted_controller_is_told_again(busy):
    after = Controller(busy)
    after.engine("b0", m.Inventory(running=[(ann(1), 1)]))
    after.receive("b0", WANTED)
    after.client(unresolved=[1])
    assert after.to("ann", m.InputWanted) == [WANTED]
    after.receive("ann", LINE)
    assert after.to("b0") == [LINE]


# ---------------------------------------------------------------- the engine


@pytest.fixture
def engine():
    core = EngineCore(m.EngineRecord("b0", "here", 1, "3"))
    core.connect()
    core.receive(Channel.CONTROL, 1, 5, m.WelcomeEngine(0), ())
    core.connect_tasks()
    core.receive(Channel.TASKS, 1, 5, m.Task(ann(1), 1, CODE), ())
    _, effects = core.claim()
    assert Begin(ann(1), 1) in effects
    return core


def take(core, message):
    effects = core.receive(Channel.CONTROL, core.generation, 5, message, ())
    core.check()
    return effects


def test_the_engine_asks_until_it_is_met(engine):
    assert engine.ask("ipdb> ") == [Send(Channel.CONTROL, WANTED)]
    engine.connect()
    assert take(engine, m.WelcomeEngine(0)) == [Send(Channel.CONTROL, WANTED)]
    assert take(engine, m.Input(ann(1), 2, "of another question")) == []
    assert take(engine, LINE) == [Typed("p x", "")]
    assert take(engine, LINE) == []
    engine.connect()
    assert take(engine, m.WelcomeEngine(0)) == []


def test_the_engine_asks_no_more_when_it_has_waited_enough_or_the_task_ended(engine):
    engine.ask("ipdb> ")
    engine.ask_no_more()
    assert take(engine, LINE) == []
    engine.ask("ipdb> ")
    engine.finish((), 0, ())
    assert take(engine, m.Input(ann(1), 2, "p x")) == []


# ---------------------------------------------------------------- the client


@pytest.fixture
def client():
    core = ClientCore("ann", python="3", host="here", pid=1)
    core.connect()
    core.receive(5, m.WelcomeClient([], 1, "here"), (), 0.0)
    core.submit(Submission([1], CODE, (), [0]))
    return core


def test_the_client_gives_the_same_line_again(client):
    assert client.receive(5, WANTED, (), 0.0) == [AskUser(WANTED)]
    assert client.receive(5, WANTED, (), 0.0) == [AskUser(WANTED)]
    assert client.give(1, 1, "p x", "") == [Send("controller", LINE)]
    assert client.receive(5, WANTED, (), 0.0) == [Send("controller", LINE)]
    second = m.InputWanted(ann(1), 0, 2, "ipdb> ")
    assert client.receive(5, second, (), 0.0) == [AskUser(second)]


def test_a_line_that_is_typed_while_the_controller_is_away_is_given_later(client):
    client.receive(5, WANTED, (), 0.0)
    client.disconnected()
    assert client.give(1, 1, "p x", "") == []
    client.connect()
    client.receive(6, m.WelcomeClient([], 1, "here"), (), 0.0)
    assert client.receive(6, WANTED, (), 0.0) == [Send("controller", LINE)]


def test_a_cancelled_task_is_not_typed_for(client):
    client.cancel([1])
    assert client.receive(5, WANTED, (), 0.0) == [Send("controller", m.Input(ann(1), 1, None))]


def test_a_task_that_is_not_known_is_not_typed_for(client):
    assert client.receive(5, m.InputWanted(ann(9), 0, 1, ""), (), 0.0) == []
    assert client.give(9, 1, "x", "") == []
