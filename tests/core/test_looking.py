"""Looking into engines: whoever is asked answers, or is answered for."""

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.looking import SILENT
from tests.core.cluster import Controller

PEEK = m.Peek("a", 1000)


@pytest.fixture
def two():
    controller = Controller()
    controller.engine("b0")
    controller.engine("b1")
    controller.client()
    return controller


def look(controller, engines=(0, 1), request=1):
    controller.receive("ann", m.Inspect(request, list(engines), PEEK, 3.0))
    return {boot: controller.to(boot, m.Look)[0].number for boot in ("b0", "b1") if controller.to(boot, m.Look)}


def told(controller, peer="ann"):
    (answer,) = controller.to(peer, m.Answer)
    return dict(answer.body["engines"])


def test_each_engine_tells_and_the_answer_is_in_the_order_asked_for(two):
    asked = look(two, (1, 0))
    assert two.to("b0", m.Look) == [m.Look(asked["b0"], PEEK)]
    two.receive("b0", m.Looked(asked["b0"], {"value": [b"x"]}))
    assert two.to("ann") == []
    two.receive("b1", m.Looked(asked["b1"], {"value": [b"y"]}))
    assert list(told(two).items()) == [(1, {"value": [b"y"]}), (0, {"value": [b"x"]})]
    assert two.core.sizes()["looks"] == 0
    assert two.core.next_deadline() is None


def test_one_that_does_not_answer_is_answered_for_when_the_patience_is_up(two):
    asked = look(two)
    two.receive("b1", m.Looked(asked["b1"], {}))
    two.wait(2.9)
    assert two.to("ann") == []
    two.wait(0.1)
    assert "engine 0 has not answered within 3 s" in told(two)[0][SILENT]
    two.receive("b0", m.Looked(asked["b0"], {}))
    assert two.to("ann") == [], "too late"


def test_one_that_goes_and_one_that_never_was_are_answered_for(two):
    look(two, (0, 7))
    two.left("b0")
    said = told(two)
    assert said[0] == {SILENT: "engine 0 has gone before it answered"}
    assert said[7] == {SILENT: "engine 7 is not there any more"}
    look(two, (0,))
    assert told(two)[0] == {SILENT: "engine 0 has lost its connection to the controller"}


def test_one_that_connects_again_is_not_waited_for(two):
    look(two, (0,))
    two.receive("again", m.HelloEngine(m.PROTOCOL, m.EngineRecord("b0", "here", 1, "3"), 2, m.Inventory()))
    assert SILENT in told(two)[0]


def test_two_looks_at_once_do_not_mix(two):
    first, second = look(two, (0,), 1), look(two, (0,), 2)
    two.receive("b0", m.Looked(second["b0"], {"value": [b"2"]}))
    assert two.to("ann") == [m.Answer(2, {"engines": [(0, {"value": [b"2"]})]})]
    two.receive("b0", m.Looked(first["b0"], {"value": [b"1"]}))
    assert two.to("ann") == [m.Answer(1, {"engines": [(0, {"value": [b"1"]})]})]


def test_whoever_has_connected_again_asks_again(two):
    asked = look(two, (0,))
    two.receive("again", m.HelloClient("ann", m.PROTOCOL, "3", "here", 1, [], 1))
    two.receive("b0", m.Looked(asked["b0"], {}))
    assert two.to("again", m.Answer) == []


def test_an_answer_to_nothing_is_dropped(two):
    two.receive("b0", m.Looked(99, {}))
    assert two.sent == []
