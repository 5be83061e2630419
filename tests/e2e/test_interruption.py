"""Ctrl-C at each moment of a call before it waits, and while it waits."""

import concurrent.futures
import gc
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import ipkernel_ext
from ipkernel_ext import launch

PACKAGE = str(Path(ipkernel_ext.__file__).parent)
LOCKS = threading.__file__
FUTURES = str(Path(concurrent.futures.__file__).parent)
SETTLED = 30.0  # seconds an engine may need, on a busy machine, to obey and to answer

CALLS = {
    "apply": lambda rc: rc.apply(time.sleep, 600, targets=0),
    "execute": lambda rc: rc.execute("import time; time.sleep(600)"),
    "map": lambda rc: rc.map(time.sleep, [600, 600, 600]),
    "scatter": lambda rc: (rc.scatter("x", range(4)), rc.apply(time.sleep, 600)),
}


@pytest.fixture(scope="module")
def rc():
    with launch(n=1) as rc:
        yield rc


def use_executor(rc):
    with rc.executor() as executor:
        futures = [executor.submit(abs, n) for n in range(3)]
        return [future.result() for future in futures]


def call_back(rc):
    called = threading.Semaphore(0)
    rc.submit(abs, -1).add_done_callback(lambda _: called.release())
    rc.submit(abs, -1).result()


def take_as_completed(rc):
    return [future.result() for future in concurrent.futures.as_completed(rc.submit(abs, n) for n in range(3))]


ENDING = {
    "questions": lambda rc: (rc.queue_status(), rc.why()),
    "executor": use_executor,
    "imap": lambda rc: list(rc.imap(abs, range(4), chunksize=1)),
    "callback": call_back,
    "as_completed": take_as_completed,
}
"""Calls that end soon."""


class CtrlC:
    """SIGINT at the n-th moment at which the interpreter looks for signals in the package's code.

    That is where a function begins, and where a call of built-in code has ended.
    """

    def __init__(self, n, files=(PACKAGE,)):
        self.left = n
        self.where = ""
        self.files = files

    def __call__(self, frame, event, argument):
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(self.files):
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                self.where = f"{frame.f_code.co_name}, line {frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)


def ctrl_c_at_last(number, frame):
    sys.setprofile(None)
    raise KeyboardInterrupt


def interrupted_at(call, rc, n):
    """Where the call was when it was interrupted at its n-th moment; "" if it was while it waited."""
    moments = CtrlC(n)
    signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)
    sys.setprofile(moments)
    try:
        with pytest.raises(KeyboardInterrupt):
            call(rc)
    finally:
        sys.setprofile(None)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return moments.where


@pytest.mark.fault("Ctrl-C at any moment of a call")
@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_leaves_nothing_running(rc, name):
    before = signal.signal(signal.SIGALRM, ctrl_c_at_last)
    gc.collect()
    gc.disable()  # in what it calls an exception goes nowhere
    try:
        n = 1
        while where := interrupted_at(CALLS[name], rc, n):
            assert rc.apply(abs, -n, block=False).wait(SETTLED), f"something runs after Ctrl-C in {where}"
            n += 1
        assert rc.apply(abs, -n, block=False).wait(SETTLED), "something runs after Ctrl-C while it waited"
        assert n > 20, "it was interrupted at many moments"
    finally:
        gc.enable()
        signal.signal(signal.SIGALRM, before)


@pytest.mark.fault("Ctrl-C at any moment of a call")
@pytest.mark.parametrize("name", ENDING)
def test_ctrl_c_leaves_no_lock_taken(rc, name):
    gc.collect()
    gc.disable()
    try:
        n, where = 1, "nowhere"
        while where:
            moments = CtrlC(n, (PACKAGE, LOCKS, FUTURES))
            sys.setprofile(moments)
            try:
                ENDING[name](rc)
            except (KeyboardInterrupt, RuntimeError):  # the standard library gives back what it has not taken
                pass
            finally:
                sys.setprofile(None)
            where = moments.where
            assert rc.apply(abs, -n, block=False).wait(SETTLED), f"nothing arrives after Ctrl-C in {where}"
            n += 1
        assert n > 20, "it was interrupted at many moments"
    finally:
        gc.enable()
