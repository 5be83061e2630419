"""Callbacks of results: they may do what everybody may, and hold nobody up."""

import asyncio
import logging
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue

import pytest

from ipkernel_ext import launch
from ipkernel_ext.testing import MemoryChannel

SOON = 20  # seconds in which a callback must have run


@pytest.fixture
def held(rc, tmp_path):
    """In its block nothing that is sent can end, so that callbacks are there before results are."""

    @contextmanager
    def held(rc=rc):
        if isinstance(rc._link.channel, MemoryChannel):  # where results are there at once
            yield
            return
        gate = tmp_path / "gate"
        gate.unlink(missing_ok=True)
        code = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.001)"
        waiting = rc.execute(code, block=False)
        yield
        gate.touch()
        waiting.get(SOON)

    return held


CALLS = {
    "submit": lambda rc: rc.submit(abs, -1),
    "apply": lambda rc: rc.apply(abs, -1, block=False),
    "execute": lambda rc: rc[1].execute("1", block=False),
    "map": lambda rc: rc.map(abs, [-1, -2], block=False),
    "executor": lambda rc: rc.executor().submit(abs, -1),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_callback_may_call_and_wait(rc, call, held):
    answers = SimpleQueue()

    def callback(future):
        assert future.done()
        value = rc.map(lambda x: x + 1, [1, 2])
        answers.put((future, value, rc[0].execute("6 * 7").value, list(rc.imap(abs, [-1]))))

    with held():
        future = CALLS[call](rc)
        future.add_done_callback(callback)
    assert answers.get(timeout=SOON) == (future, [2, 3], 42, [1])


def test_a_callback_may_add_another_of_the_same_result(rc, held):
    called = threading.Event()
    with held():
        rc.submit(abs, -1).add_done_callback(lambda f: f.add_done_callback(lambda f: called.set()))
    assert called.wait(SOON)


@pytest.mark.fault("a callback of a result raises")
def test_they_run_in_order_and_what_they_raise_is_logged(rc, held, caplog):
    order = SimpleQueue()

    def bad(future):
        order.put("bad")
        raise ValueError("mine")

    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        for value in (1, 3):
            with held():
                result = rc.apply(abs, -value, targets=0, block=False)
                for n in range(value):
                    result.add_done_callback(lambda f, n=n: order.put(n))
                result.add_done_callback(bad)
                result.add_done_callback(lambda f: order.put("last"))
            said = [order.get(timeout=SOON) for _ in range(value + 2)]
            assert said == [*range(value), "bad", "last"]
    assert [record.getMessage().split(" for")[0] for record in caplog.records] == ["exception calling callback"] * 2
    assert "ValueError: mine" in caplog.text


def test_one_of_a_result_that_is_done_runs_at_once(rc):
    result = rc.submit(abs, -1)
    result.get(SOON)
    threads = []
    result.add_done_callback(lambda f: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("rc", ["forked"], indirect=True)
def test_one_that_takes_long_holds_nothing_up_but_those_after_it(rc, held):
    begun, goes_on, last = threading.Event(), threading.Event(), Future()

    def long(future):
        begun.set()
        goes_on.wait(SOON)

    with held():
        rc[0].apply(abs, -1, block=False).add_done_callback(long)
        later = rc[0].apply(abs, -2, block=False)
        later.add_done_callback(last.set_result)
    assert begun.wait(SOON)
    assert later.get(SOON) == 2

    async def waits():
        return await asyncio.wait_for(rc.submit(abs, -3), SOON)

    assert asyncio.run(waits()) == 3
    assert not last.done()
    goes_on.set()
    assert last.result(SOON) is later


def test_at_the_end_those_of_what_is_given_up_have_run():
    ended = []
    with launch(n=1) as rc:
        endless = rc[0].execute("while True: pass", block=False)
        endless.add_done_callback(lambda f: ended.append(type(f.exception()).__name__))
        rc.close()
    assert ended == ["TaskCancelled"]
