"""Who waits for a result does the I/O thread's work meanwhile: beside others, and when it ends before its time."""

import gc
import os
import signal
import sys
import threading
import time

import pytest

from ipkernel_ext import RemoteController, futures, launch
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


@pytest.fixture
def on_alarm():
    """Have this run in the main thread soon, in a handler."""
    before = signal.getsignal(signal.SIGALRM)

    def set_it(handler):
        signal.signal(signal.SIGALRM, lambda number, frame: handler())
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    yield set_it
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_handler_may_call_and_wait_meanwhile(rc, touched, on_alarm):
    future, touch = touched("after the handler")
    came = []

    def handler():
        begun = time.monotonic()
        came.extend([rc.submit(abs, -1).result(SOON), len(rc.queue_status()), time.monotonic() - begun])
        touch()

    on_alarm(handler)
    assert future.result(SOON)
    assert came[:2] == [1, 3] and came[2] < 1.5, "nobody took what came for the handler"


def test_a_handler_that_takes_long_holds_nobody_up(rc, touched, on_alarm):
    future, touch = touched("after the long handler")
    running, came = threading.Event(), threading.Event()

    def call():
        running.wait(SOON)
        rc.submit(abs, -1).result(SOON)
        came.set()

    thread = threading.Thread(target=call)
    thread.start()
    in_time = []
    on_alarm(lambda: (running.set(), in_time.append(came.wait(1.5)), touch()))
    assert future.result(SOON)
    thread.join(SOON)
    assert in_time == [True]


def test_a_handler_that_the_handler_sets_stays(rc, touched, on_alarm):
    future, touch = touched("after the handler that sets one")
    on_alarm(lambda: (signal.signal(signal.SIGALRM, signal.SIG_IGN), touch()))
    assert future.result(SOON)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN


def test_who_has_the_lock_of_futures_may_wait(rc, touched):
    """As a handler does that runs where somebody looks at a future."""
    future, touch = touched("under the lock")
    done = threading.Event()

    def wait():
        with futures.lock:
            if future.result(SOON):
                done.set()

    def ask():
        while not done.wait(0.001):
            rc.queue_status()

    threads = [threading.Thread(target=each, daemon=True) for each in (wait, ask)]
    for thread in threads:
        thread.start()
    threading.Timer(0.1, touch).start()
    assert done.wait(SOON)
    for thread in threads:
        thread.join(SOON)


@pytest.fixture
def attended(rc, touched):
    """Somebody waits for a result all the time, and never looks up."""
    future, touch = touched("attended")
    channel = rc._link.channel
    thread = threading.Thread(target=channel.attend, args=(future.done, 2 * SOON))
    thread.start()
    assert soon(lambda: channel._attended and sleeps(channel))
    yield channel
    touch()
    thread.join(SOON)


def soon(so):
    until = time.monotonic() + SOON
    while not so() and time.monotonic() < until:
        time.sleep(0.005)
    return so()


def sleeps(channel):
    """Whether the I/O thread has nothing to do."""
    return channel._sleeps_until > 0


def test_what_the_kernel_does_not_take_at_once_leaves_while_somebody_waits(rc, attended, monkeypatch):
    monkeypatch.setattr(attended, "share", lambda frames: frames)
    result = rc.submit(len, bytes(20_000_000))
    assert soon(result.done)


def test_results_are_acknowledged_while_somebody_waits(attended, touched):
    result, touch = touched("acknowledged")
    assert soon(lambda: sleeps(attended))
    touch()
    assert soon(result.done)
    assert soon(lambda: not attended._core.sizes()["to acknowledge"])


def test_a_client_that_has_left_keeps_no_descriptors(rc):
    path = rc.cluster.launched.place.connection("client")
    before = len(os.listdir("/proc/self/fd"))
    gc.disable()
    try:
        for _ in range(5):
            other = RemoteController(connection_file=path)
            assert other.submit(abs, -1).result(SOON) == 1
            other.close()
        assert soon(lambda: len(os.listdir("/proc/self/fd")) <= before)
    finally:
        gc.enable()


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


def test_finalizers_may_wait_whenever_the_garbage_collector_runs(rc):
    class Proxy:
        def __init__(self):
            self.me = self

        def __del__(self):
            begun.append(True)
            try:
                good.append(rc.submit(abs, -2).result(SOON))
            except RuntimeError:  # in the I/O thread
                refused.append(True)

    def call():
        for n in range(200):
            Proxy()
            values.append(rc.submit(abs, -n).result(SOON))

    begun, good, refused, values = [], [], [], []
    thresholds = gc.get_threshold()
    gc.set_threshold(20)
    try:
        other = threading.Thread(target=call)
        other.start()
        call()
        other.join(SOON)
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()  # the rest, while the client is there
    assert sorted(values) == sorted([*range(200)] * 2)
    assert len(good) + len(refused) == len(begun)
    assert len(good) > 20
    assert gc.isenabled()
