"""The result of a map unpickles what has arrived while the rest is under way, and says what is wrong in its turn."""

import threading
import time
import warnings

import pytest

from ipkernel_ext import payload
from ipkernel_ext.chunks import Pace
from ipkernel_ext.core import messages as m
from ipkernel_ext.errors import PayloadError
from ipkernel_ext.net.client_channel import Failures
from ipkernel_ext.results import UNSEEDED, MapResult


class Channel(Failures):
    """Over which nothing travels."""

    forked = turning = False

    def __init__(self):
        self.advised = set()
        self.roster = None

    def cancel(self, numbers):
        pass

    def attend(self, enough, timeout):
        return False


class Noted:
    """Tells when it is made again."""

    made = []
    event = threading.Event()

    def __init__(self, name, fails=False):
        self.name, self.fails = name, fails

    def __reduce__(self):
        return remake, (self.name, self.fails)


def remake(name, fails):
    Noted.made.append(name)
    Noted.event.set()
    if fails:
        raise ValueError(f"{name} is not to be made again")
    return name


@pytest.fixture
def result():
    Noted.made.clear()
    Noted.event.clear()
    made = MapResult(Channel(), {}, 4, 0, True, False, Pace())
    for _ in range(2):
        made.grow(2, 1)
    made.complete()
    return made


def come(result, number, values, **options):
    result.on_result(m.Result(m.TaskId("client", number), 1, 0, **options), payload.dumps(values))


def getting(result, **options):
    """Wait for its value in another thread."""
    got = []

    def get():
        try:
            got.append(result.get(10))
        except Exception as error:
            got.append(error)

    thread = threading.Thread(target=get)
    thread.start()
    return thread, got


def test_what_has_arrived_is_unpickled_while_the_rest_is_under_way(result):
    thread, got = getting(result)
    come(result, 1, [Noted("c"), "d"])
    assert Noted.event.wait(10) and not result.done()
    come(result, 0, ["a", "b"])
    thread.join()
    assert got == [["a", "b", "c", "d"]] and Noted.made == ["c"], "once"


def test_a_get_that_times_out_has_unpickled_what_there_was(result):
    come(result, 0, [Noted("a"), "b"])
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        result.get(0.05)
    assert Noted.made == ["a"] and time.monotonic() - begun < 5
    come(result, 1, ["c", "d"])
    assert result.get() == ["a", "b", "c", "d"] and Noted.made == ["a"]


def test_what_cannot_be_unpickled_is_said_when_all_is_there(result):
    thread, got = getting(result)
    come(result, 1, [Noted("c", fails=True), "d"])
    assert Noted.event.wait(10)
    thread.join(0.1)
    assert not got and thread.is_alive()
    come(result, 0, ["a", "b"])
    thread.join()
    assert isinstance(got[0], PayloadError) and "c is not to be made again" in str(got[0])
    assert got[0].__notes__ == ["in items 2 to 3 of the map"]


def test_the_first_failure_in_order_of_the_items_is_raised_all_the_same(result):
    come(result, 1, [Noted("c", fails=True), "d"])
    thread, got = getting(result)
    assert Noted.event.wait(10)
    come(result, 0, [], failure=m.Failure("user", "ZeroDivisionError", "by zero", item=0))
    thread.join()
    assert "by zero" in str(got[0])


def test_unseeded_random_numbers_are_still_told_of(result):
    come(result, 0, ["a", "b"], unseeded=True)
    come(result, 1, ["c", "d"])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert result.get() == ["a", "b", "c", "d"]
    assert [str(warning.message) for warning in told] == [UNSEEDED]
