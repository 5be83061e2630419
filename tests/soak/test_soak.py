"""A minute of random work and random deaths, or three where all tests run; `make soak` is longer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ipkernel_ext import launch
from tests.soak.soak import Soak
from tests.soak.worker import Worker, note


@pytest.mark.fault("everything at once, at random")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seconds", [60, pytest.param(180, marks=pytest.mark.slow)])
def test_everything_is_accounted_for_whatever_dies(tmp_path: Path, seconds: int) -> None:
    soak = Soak(random.SystemRandom().randrange(10**6), seconds, tmp_path)
    soak.run()
    assert not soak.problems, soak.story()
    assert soak.started > 1000
    assert sum(soak.deaths.values()) > 10
    assert soak.growth.keys() == {"client", "controller", "engine"}


@pytest.fixture
def checker(tmp_path: Path):
    """A worker and its cluster."""
    with launch(n=1) as rc:
        yield Worker(rc, tmp_path / "ledger", "w", 1, lambda line: None)


def test_what_is_wrong_is_noticed(checker: Worker) -> None:
    """A soak that finds nothing says little unless it can find something."""
    wrong = checker.rc.submit(note, checker._ledger, "w:1:0", 0.0, 5)
    checker._begin("submit", wrong, 11, ["w:1:0"])
    checker._collect(20)
    assert "gave 10, not 11" in checker.problems.pop()
    failing = checker.rc.submit(divmod, 1, 0)
    checker._begin("submit", failing, 1, ["w:2:0"])
    checker._collect(20)
    assert "ZeroDivisionError" in checker.problems.pop()
    checker._namespace()
    checker.rc[0].push({"kept_w": -1})
    checker._namespace()
    assert "holds -1" in checker.problems.pop()
    del checker.rc[0]["kept_w"]
    checker._namespace()
    assert "lost what it had" in checker.problems.pop()


def test_a_task_that_begins_twice_is_noticed(tmp_path: Path, checker: Worker) -> None:
    soak = Soak(1, 1, tmp_path)
    for id in ("a:1:0", "a:1:0", "a:2:1", "a:2:1"):
        note(str(soak._ledger), id, 0.0, 1)
    checker.completed.add("w:9:0")
    soak._check_ledger([checker])
    assert soak.problems == ["task a:1:0 began 2 times", "task w:9:0 gave a value and began 0 times"]
