"""Who waits for a result does the I/O thread's work meanwhile: beside others, and when it ends before its time."""

import os
import signal
import sys
import threading

import pytest

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.errors import NotConnected, TaskCancelled

SOON = 30.0  # seconds, on a busy machine


@pytest.fixture(scope="module")
def rc():
    with launch(n=2) as rc:
        yield rc


@pytest.fixture
def touched(rc, tmp_path):
    """A task that runs until a file is there, and what makes that."""

    def until_there(path):
        import os
        import time

        while not os.path.exists(path):
            time.sleep(0.001)
        return path

    def send(name):
        path = tmp_path / name
        return rc.submit(until_there, str(path)), path.touch

    return send


def test_several_threads_wait_each_for_its_own(rc, touched):
    results = [touched("one"), touched("two")]
    came = {}
    threads = [
        threading.Thread(target=lambda n=n, future=future: came.update({n: future.result(SOON)}))
        for n, (future, _) in enumerate(results)
    ]
    for thread in threads:
        thread.start()
    for _, touch in reversed(results):
        touch()
    for thread in threads:
        thread.join(SOON)
    assert {n: os.path.basename(path) for n, path in came.items()} == {0: "one", 1: "two"}


def test_others_send_while_somebody_waits(rc, touched):
    future, touch = touched("later")
    waited = threading.Thread(target=future.result, args=(SOON,))
    waited.start()
    assert [rc.submit(abs, -n).result(SOON) for n in range(20)] == list(range(20))
    assert rc.queue_status()
    touch()
    waited.join(SOON)
    assert future.done()


def test_a_callback_may_wait_while_its_caller_does(rc, touched):
    future, touch = touched("last")
    called = []
    rc.submit(abs, -1).add_done_callback(lambda _: (called.append(rc.submit(abs, -2).result(SOON)), touch()))
    assert future.result(SOON)
    assert called == [2]


def test_who_waits_hears_that_another_thread_closed_the_client(rc):
    other = RemoteController(connection_file=rc.cluster.launched.place.connection("client"))
    pending = other[0].apply(eval, "__import__('time').sleep(600)", block=False)
    closing = threading.Timer(0.05, other.close)
    closing.start()
    with pytest.raises(TaskCancelled, match="closed before the result came"):
        pending.result(SOON)
    closing.join()
    with pytest.raises(NotConnected):
        other.submit(abs, -1)
    rc.interrupt()


def test_time_that_is_up_is_told_in_time(rc, touched):
    future, touch = touched("too late")
    with pytest.raises(TimeoutError, match=r"0\.05 s"):
        future.result(0.05)
    touch()
    assert future.result(SOON)


class AlarmRang(Exception):
    pass


def test_a_handler_of_the_user_s_ends_the_wait(rc, touched):
    def ring(number, frame):
        raise AlarmRang

    future, touch = touched("after the alarm")
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(AlarmRang):
            future.result(SOON)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    touch()
    assert future.result(SOON) and rc.submit(abs, -1).result(SOON) == 1


def test_calls_work_at_whatever_depth_of_the_stack(rc):
    """A call may fail there for want of room, but nothing after it."""
    good, failed = [], []

    def go_down():
        try:
            good.append(rc.submit(abs, -1).result(SOON))
            go_down()
        except RecursionError:
            failed.append(True)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    try:
        go_down()
    finally:
        sys.setrecursionlimit(limit)
    assert len(good) > 20 and failed
    assert rc.submit(abs, -7).result(SOON) == 7


def test_a_fork_has_no_part_in_it(rc, touched):
    future, touch = touched("in the fork")
    waited = threading.Thread(target=future.result, args=(SOON,))
    waited.start()
    pid = os.fork()
    if not pid:
        try:
            rc.submit(abs, -1)
        except Exception:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    touch()
    waited.join(SOON)
    assert future.done() and rc.submit(abs, -1).result(SOON) == 1
