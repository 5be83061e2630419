"""What this process uses."""

import os

import psutil

from ipkernel_ext.execution import usage
from ipkernel_ext.execution.usage import LEAST, Usage


def test_cpu_is_percent_of_one_core_since_it_was_asked_for_last():
    wall = iter([10.0, 12.0, 12.0 + LEAST / 2, 13.0, 14.0])
    cpu = iter([1.0, 2.0, 2.04, 4.5, 4.5])
    measured = Usage(lambda: next(wall), lambda: next(cpu))
    assert [measured.cpu() for _ in range(4)] == [50.0, 50.0, 250.0, 0.0]


def test_memory_is_what_the_system_says():
    kept = b"x" * 2**26
    system = psutil.Process().memory_info().rss
    assert abs(Usage.rss() - system) < 2**24
    assert Usage.rss() > len(kept)


def test_without_proc_it_is_measured_otherwise_or_unknown(monkeypatch):
    monkeypatch.setattr(usage, "Path", lambda path: os.fspath(path) and _Missing())
    assert Usage.rss() > 2**20

    def denied(self):
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "memory_info", denied)
    assert Usage.rss() is None


class _Missing:
    def read_bytes(self):
        raise FileNotFoundError
