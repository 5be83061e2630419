"""Waking a loop of another thread."""

import os
import select
import threading

import pytest

from ipkernel_ext.net.sockets import Wake, until


def test_setting_it_often_costs_one_byte():
    wake = Wake()
    for _ in range(100):
        wake.set()
    assert os.read(wake.fileno(), 64) == b"!"
    wake.close()


def test_setting_it_while_and_after_it_is_closed_does_nothing():
    for _ in range(300):
        wake = Wake()
        setter = threading.Thread(target=wake.set)
        setter.start()
        wake.close()
        reader, writer = os.pipe()  # gets the numbers that were given back
        setter.join()
        wake.set()
        os.set_blocking(reader, False)
        try:
            assert os.read(reader, 1) == b""
        except BlockingIOError:
            pass
        os.close(reader)
        os.close(writer)


def test_the_loop_waits_for_nobody_who_sets_it():
    """A signal's handler that runs in the midst of that may wait for the loop."""
    wake = Wake()
    wake.set()
    with wake._lock:
        clearing = threading.Thread(target=wake.clear, daemon=True)
        clearing.start()
        clearing.join(10)
        assert not clearing.is_alive()
    assert select.select([wake.fileno()], [], [], 0)[0], "it is looked at again"
    wake.clear()
    assert not select.select([wake.fileno()], [], [], 0)[0]
    wake.close()


def test_a_deadline_is_never_met_early():
    assert until(None, 5.0) is None
    assert until(5.0, 6.0) == 0
    assert until(5.0004, 5.0) == 1


def test_an_interrupt_in_the_middle_of_setting_it_costs_no_later_wake(monkeypatch) -> None:
    wake = Wake()

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            wake.set()
    wake.set()
    assert os.read(wake.fileno(), 64)
    wake.close()


def test_it_is_cleared_when_the_loop_was_woken_by_it() -> None:
    wake = Wake()
    wake.set()
    wake.clear_if({})
    assert os.read(wake.fileno(), 64)
    wake.clear_if({wake.fileno(): 1})
    wake.set()
    assert os.read(wake.fileno(), 64)
    wake.close()


def test_one_that_is_closed_leaves_descriptors_alone_that_others_have_now():
    wake = Wake()
    reader = wake.fileno()
    wake.set()
    wake.close()
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(2)]
    assert reader in others, "the system gives the lowest number that is free"
    wake.clear_if({reader})
    wake.close()
    for descriptor in others:
        os.close(descriptor)
