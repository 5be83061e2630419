"""Versions of packages here and on engines, and who is asked for them."""

import socket

import numpy
import pytest

from ipkernel_ext.core.messages import EngineRecord
from ipkernel_ext.environments import Newcomers, compared, differences, told
from ipkernel_ext.execution.environment import imported, versions
from ipkernel_ext.testing import InProcessCluster


def test_versions_are_compared_by_host():
    mine = {"Python": "3.12.1", "numpy": "2.1.0", "pandas": "3.0.0"}
    other = {"Python": "3.12.1", "numpy": "1.26.0", "pandas": ""}
    assert differences(mine, mine) == []
    assert told(mine, {0: ("here", mine), 1: ("here", mine), 2: ("b", other), 3: ("b", other)}).splitlines() == [
        "engines 0-1 of host here: as here are Python 3.12.1 and 2 packages that are imported here",
        "engines 2-3 of host b: not as here are",
        "  numpy 1.26.0 there, 2.1.0 here",
        "  pandas not installed there, 3.0.0 here",
    ]


def test_versions_of_what_is_imported():
    mine = imported()
    assert mine["numpy"] == numpy.__version__
    assert mine["Python"] == versions([])["Python"]
    assert versions(["numpy", "no-such-package"]) == {**versions([]), "numpy": numpy.__version__, "no-such-package": ""}


class Answer:
    def __init__(self, value):
        self.value, self.ready = value, False

    def done(self):
        return self.ready

    def successful(self):
        return self.value is not None

    def get(self):
        return [self.value]


def test_one_engine_of_each_other_host_is_asked():
    asked, answers = [], []

    def call(f, args, engine):
        asked.append(engine)
        answers.append(Answer({**f(*args), "numpy": "0.1"} if engine == 2 else None if engine == 5 else f(*args)))
        return answers[-1]

    newcomers = Newcomers(call)
    hosts = [socket.gethostname(), socket.gethostname(), "far", "far", "alike", "dead"]
    engines = [EngineRecord(f"b{id}", host, 1, "", id) for id, host in enumerate(hosts)]
    newcomers.look(engines)
    newcomers.look(engines)
    assert asked == [2, 4, 5]
    assert newcomers.news() == []
    for answer in answers:
        answer.ready = True
    (text,) = newcomers.news()
    assert text.splitlines()[0] == "engine 2 of host far: not as here are"
    assert f"  numpy 0.1 there, {numpy.__version__} here" in text.splitlines()
    assert text.splitlines()[-1].startswith("`%engines --env`")
    assert newcomers.news() == []


@pytest.mark.filterwarnings("ignore:engine 0 of host memory")
def test_all_engines_are_compared_when_it_is_asked_for():
    text = compared(InProcessCluster(3).client())
    assert text.startswith("engines 0-2 of host memory: as here are Python 3.")
