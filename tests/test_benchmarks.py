"""`make bench` in its quick form, and its arithmetic."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import ROWS
from benchmarks.data import CALLS
from benchmarks.table import MICROSECONDS, PER_SECOND, Row, in_turns, lines, spread

ROOT = Path(__file__).parent.parent


def test_a_quick_run_fills_every_row():
    command = [sys.executable, "-m", "benchmarks", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    _, *shown = done.stdout.splitlines()
    assert len(shown) == len(ROWS)
    for row, line in zip(ROWS, shown, strict=True):
        assert line.startswith(row.what)
        assert line.endswith(row.floor_is)


def test_a_quick_run_of_data_shows_each_call_and_one_copy_in_memory():
    command = [sys.executable, "-m", "benchmarks.data", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    _, *shown = done.stdout.split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in shown] == [*CALLS * 3, "memory"]


def test_contestants_take_turns():
    order = []
    figures = in_turns({"a": lambda: order.append("a") or 1.0, "b": lambda: order.append("b") or 2.0}, 2)
    assert order == ["a", "b", "a", "b"]
    assert figures == {"a": [1.0, 1.0], "b": [2.0, 2.0]}


def test_a_row_has_medians_and_their_ratio_in_its_unit():
    figures = {"ours": [2e-4, 3e-4, 9e-4], "floor": [1e-4]}
    _, time, rate = lines(
        [Row("time", MICROSECONDS, "ours", "floor", "x"), Row("rate", PER_SECOND, "ours", "floor", "x")], figures
    )
    assert time.split() == ["time", "300.0", "±58%", "100.0", "us", "3.00", "x"]
    assert rate.split()[1] == "3,333.3"
    assert rate.split()[-2] == "0.33"


def test_spread():
    assert spread([1.0]) == 0.0
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(1 / 3)
