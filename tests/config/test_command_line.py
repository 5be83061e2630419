"""Options of classes on a command line."""

from __future__ import annotations

import pytest
from traitlets import List, Unicode
from traitlets.config import Configurable

from ipkernel_ext.config import command_line, settings


class ParallelExample(Configurable):
    """Has what no class of ours has yet."""

    names = List(Unicode(), ["x"]).tag(config=True)


@pytest.mark.parametrize(
    ("arguments", "options", "rest"),
    [
        (["start", "--ParallelCluster.n=3", "-n", "2"], ["--ParallelCluster.n=3"], ["start", "-n", "2"]),
        (["--ParallelCluster.n", "3", "start"], ["--ParallelCluster.n=3"], ["start"]),
        (["--ParallelCluster.n", "-3"], ["--ParallelCluster.n=-3"], []),
        (["--ParallelCluster.n", "--daemonize"], ["--ParallelCluster.n"], ["--daemonize"]),
        (["--ParallelCluster.n"], ["--ParallelCluster.n"], []),
        (["--file=a.b", "--profile", "a.b", "x.y=z"], [], ["--file=a.b", "--profile", "a.b", "x.y=z"]),
        (["--", "--ParallelCluster.n=3"], [], ["--", "--ParallelCluster.n=3"]),
    ],
)
def test_parting(arguments: list[str], options: list[str], rest: list[str]) -> None:
    assert command_line.part(arguments) == (options, rest)


def test_values_are_converted_and_the_last_one_wins() -> None:
    config = command_line.read(["--ParallelCluster.n=3", "--ParallelCluster.n=4"], settings.CLASSES)
    assert settings.cluster_settings(config).n == 4


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["a,b"], ["a", "b"]),
        (["a"], ["a"]),
        ([""], []),
        (["['a', 'b']"], ["a", "b"]),
        (["a", "b"], ["a", "b"]),
        (["a,b", "c"], ["a,b", "c"]),
    ],
)
def test_lists(given: list[str], names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CLASSES", (*settings.CLASSES, ParallelExample))
    config = command_line.read([f"--ParallelExample.names={value}" for value in given], [ParallelExample])
    assert ParallelExample(config=config).names == names


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--ParallelCluster.restrat=never", "did you mean restart?"),
        ("--ParalelCluster.n=3", "did you mean ParallelCluster?"),
        ("--Cluster.n=3", "the classes are ParallelController"),
        ("--ParallelCluster.n", "needs a value: --ParallelCluster.n=VALUE"),
        ("--ParallelCluster.n=", "ParallelCluster.n cannot be ''; it takes an int, at least 0"),
        ("--ParallelCluster.restart=always", "it takes 'on-failure' or 'never'"),
        ("--ParallelEngine.max_output=3", "ParallelEngine is for ipengine, or for the profile's ipengine_config.py"),
        ("--ParallelMagics.n=3", "ParallelMagics is for ipython"),
    ],
)
def test_what_is_wrong_says_what_is_right(argument: str, says: str) -> None:
    with pytest.raises(ValueError, match=".") as raised:
        command_line.read([argument], [settings.ParallelCluster])
    assert says in str(raised.value)
