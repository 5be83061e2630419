"""Code that runs as on an engine takes SIGINT over; here it is pytest's again after each test."""

import signal

import pytest


@pytest.fixture(autouse=True)
def own_interrupts():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
