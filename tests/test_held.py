"""Handlers of signals that wait for the end of a block."""

import gc
import os
import select
import signal
import sys
import threading
from pathlib import Path

import pytest

from ipkernel_ext import held
from ipkernel_ext.held import Held

FILE = str(Path(held.__file__))


class TimeIsUp(Exception):
    pass


def time_is_up(number, frame):
    raise TimeIsUp


@pytest.fixture(autouse=True)
def handlers():
    """Those of two signals, given back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGALRM, time_is_up)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def are_back():
    return (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler and signal.getsignal(signal.SIGALRM) is time_is_up
    )


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGALRM, TimeIsUp)], ids=["SIGINT", "SIGALRM"]
)
def test_what_comes_in_a_block_waits_for_its_end(number, error):
    done = []

    def block():
        with Held():
            os.kill(os.getpid(), number)
            done.append("the rest")

    with pytest.raises(error):
        block()
    assert done == ["the rest"] and are_back()


def test_what_waits_lets_them_through():
    reader, writer = os.pipe()
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), Held() as block:
        block.let(poll.poll)
    assert are_back()
    os.close(reader)
    os.close(writer)


def test_what_came_before_the_wait_is_not_waited_for():
    reader, writer = os.pipe()
    poll = select.poll()
    poll.register(reader, select.POLLIN)

    def block():
        with Held() as held:
            os.kill(os.getpid(), signal.SIGINT)
            held.let(poll.poll)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert are_back()
    os.close(reader)
    os.close(writer)


def test_the_second_of_a_storm_does_not_disturb_what_the_first_one_ends():
    cleaned = []

    def block():
        with Held() as held:
            try:
                held.let(signal.raise_signal, signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)
                cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert cleaned and are_back()


def test_a_wait_ends_before_a_handler_runs():
    seen = []
    signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))

    def wait():
        signal.raise_signal(signal.SIGALRM)
        return "waited"

    with Held() as block:
        assert block.let(wait) is None
        assert block.let(wait) is None  # until the block has ended
        assert not seen
    assert seen == [signal.SIGALRM]
    with Held() as block:
        assert block.let(abs, -1) == 1


def test_a_handler_finds_the_others_and_may_set_them():
    found = []

    def handler(number, frame):
        found.append(signal.getsignal(signal.SIGINT))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    signal.signal(signal.SIGALRM, handler)
    with Held() as block:
        block.let(signal.raise_signal, signal.SIGALRM)
    assert found == [signal.default_int_handler] and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_one_handler_that_raises_is_no_reason_not_to_call_the_others():
    def block():
        with Held():
            signal.raise_signal(signal.SIGALRM)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        block()
    assert isinstance(caught.value.__context__, TimeIsUp) and are_back()


def test_a_wakeup_descriptor_is_told_once():
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    signal.signal(signal.SIGALRM, lambda number, frame: None)
    before = signal.set_wakeup_fd(writer)
    try:
        with Held():
            signal.raise_signal(signal.SIGALRM)
    finally:
        signal.set_wakeup_fd(before)
    assert os.read(reader, 10) == bytes([signal.SIGALRM])
    os.close(reader)
    os.close(writer)


def test_a_fork_of_another_thread_has_the_handlers():
    codes = []

    def fork():
        pid = os.fork()
        if not pid:
            os._exit(0 if are_back() else 1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    thread = threading.Thread(target=fork)
    with Held():
        thread.start()
        thread.join()
    assert codes == [0] and are_back()


def test_handlers_that_are_not_python_s_are_left_alone():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Held():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_hold_nothing():
    seen = []

    def look():
        with Held():
            seen.append(are_back())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [True]


class Moments:
    """Raises a signal at the n-th moment at which the interpreter looks for signals in what is tested."""

    def __init__(self, number, n):
        self.number = number
        self.left = n

    @property
    def over(self):
        """Whether there were so many."""
        return self.left == 0

    def __call__(self, frame, event, argument):
        if event in ("call", "return", "c_call", "c_return") and frame.f_code.co_filename == FILE:
            self.left -= 1
            if self.over:
                sys.setprofile(None)
                signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGALRM], ids=["SIGINT", "SIGALRM"])
def test_handlers_are_back_whenever_it_comes(number):
    n, came = 1, True
    while came:
        came = False
        moments = Moments(number, n)
        sys.setprofile(moments)
        try:
            with Held() as block:
                block.let(abs, -1)
        except (KeyboardInterrupt, TimeIsUp):
            came = True
        finally:
            sys.setprofile(None)
        assert are_back(), f"after moment {n}"
        assert came is moments.over, f"what came at moment {n} is lost"
        n += 1
    assert n > 10


@pytest.mark.parametrize(
    ("number", "other"),
    [(signal.SIGINT, signal.SIGALRM), (signal.SIGALRM, signal.SIGINT)],
    ids=["SIGINT", "SIGALRM"],
)
def test_what_came_before_it_is_not_lost_whenever_it_comes(number, other):
    n, over = 1, True
    while over:
        seen = []

        def handler(number, frame):
            seen.append(number)  # noqa: B023 - called at once
            raise TimeIsUp

        signal.signal(number, handler)
        signal.signal(other, handler)
        begun = False
        moments = Moments(number, n)
        sys.setprofile(moments)
        try:
            with Held():
                begun = True
                signal.raise_signal(other)
        except TimeIsUp:
            pass
        finally:
            sys.setprofile(None)
        assert signal.getsignal(number) is signal.getsignal(other) is handler, f"after moment {n}"
        over = moments.over
        assert (number in seen or not over) and (other in seen or not begun), f"what came is lost at moment {n}"
        n += 1
    assert n > 10


def test_the_garbage_collector_waits_too_but_not_while_the_block_waits():
    with Held() as outer:
        assert not gc.isenabled()
        with Held():
            assert not gc.isenabled()
        assert not gc.isenabled()
        assert outer.let(gc.isenabled)
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_garbage_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with Held() as block:
            assert not block.let(gc.isenabled)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_fork_has_the_garbage_collector_on():
    inside, forked = threading.Event(), threading.Event()

    def hold():
        with Held():
            inside.set()
            forked.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    pid = os.fork()
    if not pid:
        os._exit(0 if gc.isenabled() else 1)
    forked.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
