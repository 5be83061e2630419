"""What is said while a call takes long."""

from concurrent.futures import Future

from ipkernel_ext.core import messages as m
from ipkernel_ext.errors import NotConnected
from ipkernel_ext.waiting import Watch


class Channel:
    """Counts what is asked; the test answers."""

    ended = False

    def __init__(self):
        self.asked = []

    def ask(self, make):
        if self.ended:
            raise NotConnected("it has ended")
        self.asked.append((make(1), Future()))
        return self.asked[-1][1]


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def looks(watch, clock, seconds):
    """What it tells, each half second."""
    told = []
    for _ in range(int(2 * seconds)):
        clock.now += 0.5
        told.append(watch.look())
    return told


def test_a_short_wait_asks_nothing():
    channel, clock = Channel(), Clock()
    watch = Watch(channel, clock=clock)
    assert looks(watch, clock, 1.5) == [0.0] * 3
    assert not channel.asked
    assert watch.turn == 0.5


def test_a_controller_that_answers_is_asked_seldom():
    channel, clock = Channel(), Clock()
    watch = Watch(channel, clock=clock)
    looks(watch, clock, 2)
    [(question, answer)] = channel.asked
    assert question == m.Why(1, None, [])
    answer.set_result({"text": ""})
    assert looks(watch, clock, 10) == [0.0] * 20
    assert len(channel.asked) == 1
    assert watch.answer == {"text": ""}
    looks(watch, clock, 1)
    assert len(channel.asked) == 2


def test_silence_is_told_once_and_so_is_its_end(capsys):
    channel, clock = Channel(), Clock()
    watch = Watch(channel, clock=clock)
    told = looks(watch, clock, 7)
    assert told == [0.0] * 9 + [3.0, 3.5, 4.0, 4.5, 5.0]
    watch.say()
    watch.say()
    said = "the controller has not answered for 5 s: its process is stopped or away, or its host too busy\n"
    assert capsys.readouterr().err == said
    channel.asked[0][1].set_result({})
    watch.say()
    assert capsys.readouterr().err == "the controller answers again\n"
    assert len(channel.asked) == 1


def test_what_cannot_be_asked_is_not_asked_again():
    channel, clock = Channel(), Clock()
    channel.ended = True
    watch = Watch(channel, clock=clock)
    assert looks(watch, clock, 60) == [0.0] * 120
    channel = Channel()
    watch = Watch(channel, clock=clock)
    looks(watch, clock, 2)
    channel.asked[0][1].set_exception(NotConnected("it has ended"))
    assert looks(watch, clock, 5) == [0.0] * 10
    assert watch.answer == {}
