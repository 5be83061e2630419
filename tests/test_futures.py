"""Futures of which there may be very many are futures like any other."""

import asyncio
import concurrent.futures
import os
import threading
import time

import pytest

from ipkernel_ext import futures
from ipkernel_ext.futures import ClientFuture


class Channel:
    """Calls back at once."""

    def call_back(self, callback, future):
        callback(future)


@pytest.fixture
def future():
    return ClientFuture(Channel())


def settled(future, error=None):
    """Settle it, in another thread, when somebody waits."""

    def run():
        while future._waited is None:
            time.sleep(0)
        future.settle(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_it_has_nothing_to_wait_with_before_somebody_waits(future):
    future.set_running_or_notify_cancel()
    assert not future.done() and future._waited is None
    future.settle(None)
    assert future.done() and future._waited is None and future.result() is None


def test_who_waits_is_told(future):
    thread = settled(future)
    assert future.result(10) is None
    thread.join()
    assert future._waited is None, "nobody waits any more"


def test_an_error_is_told_too(future):
    thread = settled(future, ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        future.result(10)
    thread.join()


def test_callbacks_are_called_whenever_they_were_added(future):
    called = []
    future.add_done_callback(lambda f: called.append(("before", f.done())))
    future.settle(None)
    future.add_done_callback(lambda f: called.append(("after", f.done())))
    assert called == [("before", True), ("after", True)]


def test_a_future_that_was_cancelled_does_not_run(future):
    assert future.cancel() and future.done() and future.cancelled()
    assert not future.set_running_or_notify_cancel()


def test_standard_waits_see_each_once():
    some = [ClientFuture(Channel()) for _ in range(50)]
    some[0].settle(None)
    waiting = concurrent.futures.as_completed(some, 10)
    thread = threading.Thread(target=lambda: [future.settle(None) for future in some[1:]])
    first = next(waiting)
    thread.start()
    assert sorted(map(id, [first, *waiting])) == sorted(map(id, some))
    thread.join()
    done, rest = concurrent.futures.wait(some, 10)
    assert (len(done), len(rest)) == (50, 0)


def test_a_coroutine_can_wait_for_it(future):
    async def wait():
        waiting = asyncio.ensure_future(asyncio.wrap_future(future))
        await asyncio.sleep(0)
        threading.Thread(target=future.settle, args=(None,)).start()
        return await asyncio.wait_for(waiting, 10)

    assert asyncio.run(wait()) is None


def test_a_forked_process_has_a_lock_of_its_own():
    held, let_go = threading.Event(), threading.Event()

    def hold():
        with futures.lock:
            held.set()
            let_go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if not child:
        os._exit(0 if futures.lock.acquire(timeout=10) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    let_go.set()
    thread.join()
