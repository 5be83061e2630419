"""Waking a loop of another thread."""

import os
import threading

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


def test_a_deadline_is_never_met_early():
    assert until(None, 5.0) is None
    assert until(5.0, 6.0) == 0
    assert until(5.0004, 5.0) == 1
