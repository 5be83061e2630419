"""KeyboardInterrupt is raised in user code of the named task, once, and nowhere else."""

import signal
import threading

import pytest

from ipkernel_ext.execution.interrupt import Interrupter


@pytest.fixture
def interrupter():
    made = Interrupter()
    made.install()
    return made


def test_the_armed_task_is_interrupted_once(interrupter):
    interrupter.arm("a")
    with pytest.raises(KeyboardInterrupt):
        interrupter.interrupt("a")
    interrupter.interrupt("a")
    interrupter.disarm()


def test_another_task_is_not(interrupter):
    interrupter.arm("a")
    interrupter.interrupt("b")
    interrupter.disarm()
    interrupter.interrupt("a")
    interrupter.arm("b")
    interrupter.disarm()


def test_one_that_comes_early_takes_effect_at_once(interrupter):
    interrupter.interrupt("a")
    with pytest.raises(KeyboardInterrupt):
        interrupter.arm("a")
    interrupter.arm("a")
    interrupter.disarm()


def test_from_another_thread(interrupter):
    interrupter.arm("a")
    thread = threading.Thread(target=interrupter.interrupt, args=("a",))

    def wait():
        thread.start()
        while True:
            pass

    with pytest.raises(KeyboardInterrupt):
        wait()
    thread.join()


def test_a_signal_without_effect_is_sent_again(interrupter, monkeypatch):
    interrupter.arm("a")
    with monkeypatch.context() as lost:
        lost.setattr(signal, "pthread_kill", lambda *_: None)
        interrupter.interrupt("a")
    with pytest.raises(KeyboardInterrupt):
        interrupter.insist()
    assert not interrupter.insist()


def test_a_handler_of_user_code_gets_one_signal(interrupter):
    calls = []
    interrupter.arm("a")
    signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    interrupter.interrupt("a")
    assert not interrupter.insist()
    assert calls == [1]
    interrupter.disarm()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, lambda *_: None])
def test_a_handler_of_user_code_does_not_outlive_its_task(interrupter, handler):
    signal.signal(signal.SIGINT, handler)
    interrupter.arm("a")
    with pytest.raises(KeyboardInterrupt):
        interrupter.interrupt("a")


def test_a_signal_from_elsewhere_is_reported(interrupter):
    calls = []
    interrupter.otherwise = lambda: calls.append(1)
    interrupter.arm("a")
    signal.raise_signal(signal.SIGINT)
    interrupter.disarm()
    signal.raise_signal(signal.SIGINT)
    assert calls == [1, 1]


def test_arming_in_another_thread_touches_no_handler(interrupter):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    thread = threading.Thread(target=interrupter.arm, args=("a",))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
