"""What this process uses."""

import os

import psutil
import pytest

from ipkernel_ext.execution import usage
from ipkernel_ext.execution.usage import FRESH, LEAST, Processor, Usage


def test_cpu_is_percent_of_one_core_since_it_was_asked_for_last():
    wall = iter([10.0, 12.0, 12.0 + LEAST / 2, 13.0, 14.0])
    cpu = iter([1.0, 2.0, 2.04, 4.5, 4.5])
    measured = Usage(lambda: next(wall), lambda: next(cpu))
    assert [measured.cpu() for _ in range(4)] == [50.0, 50.0, 250.0, 0.0]


def test_short_differences_of_processor_time_cost_few_readings():
    readings = iter([1.0, 1.5])
    processor = Processor(lambda: next(readings))
    assert processor.at(10.0) == pytest.approx(1.0)
    assert processor.at(10.0 + FRESH / 2) == pytest.approx(1.0 + FRESH / 2), "busy, as far as is known"
    assert processor.at(12.0) == pytest.approx(1.5)


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
