"""Two sides with different versions: what is said at once, and what is refused because it could crash an engine."""

import warnings

import msgspec
import pytest

from ipkernel_ext import payload, versions
from ipkernel_ext.errors import VersionMismatch
from ipkernel_ext.testing import InProcessCluster
from ipkernel_ext.versions import Versions, differences


def said(mine, theirs):
    return "\n".join(differences(Versions(*mine), Versions(*theirs)))


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (("3.11.7", "3.1.1", "2.1.0"), ("3.11.2", "3.1.3", "2.4.6")),
        (("3.11.7", "3.1.1", ""), ("3.11.7", "3.1.1", "1.26.0")),
        (("3.11.7", "3.1.1", "2.0.0"), ("", "", "")),
    ],
)
def test_what_works_together(mine, theirs):
    assert said(mine, theirs) == ""


def test_what_differs_is_said_with_what_to_do():
    python = said(("3.11.7", "3.1.1"), ("3.12.1", "3.1.1"))
    assert "Python 3.12.1 there, 3.11.7 here" in python
    assert "Use Python 3.11 on both sides" in python
    assert "may not get across" in said(("3.11.7", "3.1.1"), ("3.11.7", "3.0.0"))
    assert "pip install cloudpickle==3.1.1" in said(("3.11.7", "3.1.1"), ("3.11.7", "2.2.1"))
    assert "NumPy 2.0.0 there, 1.26.4 here" in said(("3.11.7", "3.1.1", "1.26.4"), ("3.11.7", "3.1.1", "2.0.0"))


def test_this_process_knows_its_own():
    found = versions.here(search=True)
    assert found.python.count(".") == 2
    assert found.cloudpickle
    assert list(differences(found, versions.HERE)) == []


def test_byte_code_of_another_python_is_not_rebuilt(monkeypatch):
    _, function = payload.dumps_function(lambda x: x)
    value = payload.dumps({"f": lambda x: x, "a": 1})
    kind = payload.dumps(type("A", (), {"f": lambda self: 1}))
    monkeypatch.setattr(payload, "_MAKER", "Python 3.99 with cloudpickle 3")
    for frames in (function, value, kind):
        with pytest.raises(VersionMismatch, match=r"<lambda>.* by value: .*3\.\d\d .*this is Python 3\.99"):
            payload.loads(frames)
    assert payload.loads(payload.dumps({"a": [1, 2.0]})) == {"a": [1, 2.0]}


def test_an_engine_refuses_it_and_lives_on(monkeypatch):
    rc = InProcessCluster(2).client()
    dumped = payload.dumps_function(lambda: 1)
    monkeypatch.setattr(payload, "dumps_function", lambda f: dumped)
    monkeypatch.setattr(payload, "_MAKER", "Python 3.99 with cloudpickle 3")
    with pytest.raises(VersionMismatch, match="on host"):
        rc[0].apply(len)
    with pytest.raises(VersionMismatch):
        rc.map(len, [1])
    rc.push({"a": 3})
    assert rc.pull("a") == [3, 3]


@pytest.fixture
def mixed():
    """A client that believes in three engines, two of them on a host with another Python."""
    rc = InProcessCluster(3).client()
    engines = rc._link.channel.core.engines
    for id, host, python in ((0, "near", versions.HERE.python), (1, "far", "3.99.1"), (2, "far", "3.99.1")):
        engines[id] = msgspec.structs.replace(engines[id], host=host, python=python)
    return rc


def test_a_difference_is_said_once_for_each_host(mixed):
    with pytest.warns(UserWarning, match=r"engine 1 of host far is not like this client:\nPython 3.99.1 there") as told:
        assert mixed.execute("1").values == [1, 1, 1]
    assert len(told) == 1
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mixed.apply(len, "ab") == [2, 2, 2]
