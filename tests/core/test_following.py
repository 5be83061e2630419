"""Who follows what the others run and print."""

import pytest

from ipkernel_ext.core import following
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.client import ClientCore
from ipkernel_ext.core.effects import Overheard, Send
from tests.core.cluster import Controller, ann


@pytest.fixture
def followed():
    """Bob follows what Ann does."""
    controller = Controller()
    controller.engine("b0")
    controller.client("ann")
    controller.client("bob")
    controller.receive("bob", m.Follow(1, True))
    assert controller.to("bob") == [m.Answer(1, {"latest": 0})]
    return controller


def told(controller, peer="bob"):
    return [(event.kind, event.engines, event.text) for event in controller.to(peer, m.Followed)]


def test_a_follower_is_told_what_others_run_and_print(followed):
    followed.submit(1, engines=[0], work=m.Execute("x = 1\nx"))
    (event,) = followed.to("bob", m.Followed)
    assert event == m.Followed(1, "ann", "here", 1, "run", [0], "x = 1\nx")
    assert followed.to("ann", m.Followed) == []
    followed.receive("b0", m.Stream(ann(1), 0, 0, "stdout", "hello\n", 1))
    assert told(followed) == [("stdout", [0], "hello\n")]
    followed.receive("b0", m.Display(ann(1), 0, 1, {"text/plain": "1", "text/html": "<b>"}, {}, attempt=1))
    assert told(followed) == [("display", [0], "1")]
    followed.receive("b0", m.Display(ann(1), 0, 2, {"text/plain": "2"}, {}, attempt=1, id="a", update=True))
    assert told(followed) == []
    followed.result(1, failure=m.Failure("user", "ValueError", "no"))
    assert told(followed) == [("failed", [0], "ValueError: no")]


def test_a_follower_is_not_told_of_itself_and_values_are_not_told(followed):
    followed.submit(1, peer="bob", engines=[0])
    assert told(followed) == []
    followed.submit(2, engines=[0], work=m.Push(["secret"]))
    assert told(followed) == [("run", [0], "push secret")]
    followed.submit(3, work=m.Map("f", 0, name="work"))
    assert told(followed) == [("run", [], "work() from item 0 on")]
    followed.submit(4, work=m.Map("f", 64, name="work"))
    assert told(followed) == [], "of a map the first chunk is enough"


def test_what_is_replayed_is_told_once(followed):
    followed.submit(1, engines=[0])
    followed.receive("again", m.HelloClient("ann", m.PROTOCOL, "3", "here", 1, [1], 1))
    followed.submit(1, peer="again", engines=[0])
    assert told(followed) == []


def test_a_follower_that_was_away_is_told_what_it_missed(followed):
    followed.submit(1, engines=[0])
    followed.left("bob")
    followed.submit(2, engines=[0], work=m.Execute("missed"))
    followed.receive("again", m.HelloClient("bob", m.PROTOCOL, "3", "here", 1, [], 1))
    followed.receive("again", m.Follow(0, True, 1))
    assert told(followed, "again") == [("run", [0], "missed")]
    followed.submit(3, engines=[0])
    assert len(told(followed, "again")) == 1


def test_nobody_is_told_after_the_end(followed):
    followed.receive("bob", m.Follow(2, False))
    followed.submit(1, engines=[0])
    assert told(followed) == []
    followed.receive("bob", m.Follow(3, True, 0))
    assert told(followed) == [], "and nothing was kept"
    followed.receive("bob", m.Goodbye())
    followed.submit(2, engines=[0])
    assert not followed.core._following.active


def test_too_much_is_counted(followed, monkeypatch):
    monkeypatch.setattr(following, "RATE", 2)
    for number in range(1, 6):
        followed.submit(number, engines=[0])
    assert told(followed) == []
    followed.wait(1.0)
    followed.submit(6, engines=[0], work=m.Execute("y" * 5000))
    (event,) = followed.to("bob", m.Followed)
    assert event.left_out == 3
    assert len(event.text) == following.LONGEST + 1


def test_a_client_says_again_that_it_follows_and_what_it_knows():
    core = ClientCore("bob", python="3", host="here", pid=1)
    core.connect()
    core.receive(5, m.WelcomeClient([], 1, "here"), (), 0.0)
    core.ask(m.Follow(1, True))
    core.receive(5, m.Answer(1, {"latest": 4}), (), 0.0)
    core.connect()
    welcomed = core.receive(5, m.WelcomeClient([], 1, "here"), (), 0.0)
    assert Send("controller", m.Follow(0, True, 4)) in welcomed
    event = m.Followed(9, "ann", "here", 1, "run", [], "x")
    assert core.receive(5, event, (), 0.0) == [Overheard(event)]
    core.connect()
    assert Send("controller", m.Follow(0, True, 9)) in core.receive(5, m.WelcomeClient([], 1, "here"), (), 0.0)
    core.ask(m.Follow(2, False))
    core.connect()
    welcomed = core.receive(5, m.WelcomeClient([], 1, "here"), (), 0.0)
    assert [effect.message for effect in welcomed if isinstance(effect, Send)] == [m.Follow(2, False)]


def test_of_a_restarted_controller_a_follower_is_told_all_since_its_restart():
    core = ClientCore("bob", python="3", host="here", pid=1)
    core.connect()
    core.receive(5, m.WelcomeClient([], 1, "here"), (), 0.0)
    core.ask(m.Follow(1, True))
    core.receive(5, m.Answer(1, {"latest": 40}), (), 0.0)
    controller = Controller()
    controller.engine("b0")
    for name in ("ann", "carol"):
        controller.client(name)
    controller.receive("carol", m.Follow(1, True))
    controller.submit(1, engines=[0], work=m.Execute("since the restart"))
    controller.client("bob")
    core.connect()
    welcomed = core.receive(6, m.WelcomeClient([], 1, "here"), (), 0.0)
    (follow,) = [effect.message for effect in welcomed if isinstance(effect, Send)]
    controller.receive("bob", follow)
    assert told(controller) == [("run", [0], "since the restart")]
