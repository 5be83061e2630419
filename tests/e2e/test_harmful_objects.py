"""Objects that do harm at each moment of their journey: as they are pickled, rebuilt, used, and let go of."""

import contextlib
import ctypes
import os
import time

import pytest

from ipkernel_ext import launch
from ipkernel_ext.errors import EngineLost, PayloadError, RemoteError, RemoteExit, TaskCancelled
from tests.e2e.test_life_and_death import begun


@pytest.fixture(scope="module")
def rc():
    with launch(n=2, restart_limit=1000) as rc:
        rc[1]["kept"] = 1
        yield rc


def harm(what):
    if what == "raise":
        raise ValueError("harm")
    if what == "exit":
        raise SystemExit(3)
    if what == "end":
        os._exit(3)
    if what == "crash":
        ctypes.string_at(0)
    if what == "hang":
        print("begun", flush=True)
        while True:
            time.sleep(0.01)
    if what == "recurse":
        harm(what)
    if what == "fill memory":
        bytearray(2**60)


class Rebuilt:
    def __init__(self, what):
        self.what = what

    def __reduce__(self):
        return harm, (self.what,)


class Pickled:
    def __init__(self, what):
        self.what = what

    def __reduce__(self):
        harm(self.what)


class PickledError(Exception):
    def __init__(self, what):
        super().__init__("e")
        self.what = what

    def __reduce__(self):
        harm(self.what)


class RebuiltError(PickledError):
    def __reduce__(self):
        return harm, (self.what,)


class LetGo:
    def __init__(self, what):
        self.what = what

    def __del__(self):
        harm(self.what)


def take(_):
    return 1


def give(kind, what):
    return kind(what)


def fail(kind, what):
    raise kind(what)


def let_go(what):
    LetGo(what)
    return 1


LOST = {"end": EngineLost, "crash": EngineLost}
NOT_PICKLED = dict.fromkeys(["raise", "exit", "recurse", "fill memory"], PayloadError)
ON_THE_ENGINE = {
    "the argument is rebuilt": (take, lambda what: [Rebuilt(what)], {**LOST, **NOT_PICKLED, "hang": TaskCancelled}),
    "it is used": (
        harm,
        lambda what: [what],
        {
            **LOST,
            "raise": ValueError,
            "exit": RemoteExit,
            "recurse": RecursionError,
            "fill memory": MemoryError,
            "hang": TaskCancelled,
        },
    ),
    "the result is pickled": (give, lambda what: [Pickled, what], {**LOST, **NOT_PICKLED, "hang": TaskCancelled}),
    "the error is pickled": (
        fail,
        lambda what: [PickledError, what],
        {**LOST, **dict.fromkeys(["raise", "exit", "recurse", "fill memory", "hang"], RemoteError)},
    ),
    "it is let go of": (
        let_go,
        lambda what: [what],
        {**LOST, **dict.fromkeys(["raise", "exit", "recurse", "fill memory", "hang"])},
    ),
}
ON_THE_CLIENT = {
    "the argument is pickled": (take, lambda what: [Pickled(what)], PayloadError),
    "the result is rebuilt": (give, lambda what: [Rebuilt, what], PayloadError),
    "the error is rebuilt": (fail, lambda what: [RebuiltError, what], RemoteError),
}


def neighbours_are_well(rc):
    """The other engine has what it had, and the next call to this one runs."""
    rc.wait_for_engines(2, 20)
    with contextlib.suppress(EngineLost):  # said once, where it was restarted
        rc[0].apply(int)
    assert rc[0].apply(int) == 0
    assert rc[1]["kept"] == 1


@pytest.mark.fault("an object does harm as it is pickled, rebuilt, used or let go of")
@pytest.mark.parametrize("what", ["raise", "exit", "end", "crash", "hang", "recurse", "fill memory"])
@pytest.mark.parametrize("moment", ON_THE_ENGINE)
def test_harm_on_an_engine(rc, moment, what):
    function, arguments, outcomes = ON_THE_ENGINE[moment]
    result = rc[0].apply(function, *arguments(what), block=False)
    if what == "hang":
        begun(result)
        result.cancel()
    expected = outcomes[what]
    if expected is None:
        assert result.get(10) == 1
    else:
        with pytest.raises(expected):
            result.get(10)
    neighbours_are_well(rc)


@pytest.mark.fault("an object does harm as it is pickled, rebuilt, used or let go of")
@pytest.mark.parametrize("what", ["raise", "exit", "recurse", "fill memory"])
@pytest.mark.parametrize("moment", ON_THE_CLIENT)
def test_harm_on_the_client(rc, moment, what):
    function, arguments, expected = ON_THE_CLIENT[moment]
    with pytest.raises(expected):
        rc[0].apply(function, *arguments(what))
    neighbours_are_well(rc)
