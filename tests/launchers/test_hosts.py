"""Hosts as users write them, engines' numbers as words, and what is shipped."""

import io
import tarfile

import pytest

from ipkernel_ext.launchers import shipping
from ipkernel_ext.launchers.far import figures, missing
from ipkernel_ext.launchers.hosts import Host, hosts_of, shares
from ipkernel_ext.launchers.launcher import LaunchError, ranges, run
from ipkernel_ext.nursery.outpost import numbers_of


def test_hosts_have_numbers_of_engines():
    assert hosts_of(["a:4", " me@b:8", "c"]) == [Host("a", 4), Host("me@b", 8), Host("c", 1)]


@pytest.mark.parametrize("text", ["a:0", "a:-1", "a:x", ":4", "", "a b:3", "-x:1"])
def test_what_is_no_host_is_named(text):
    with pytest.raises(ValueError, match="write HOST:N, as in a:4,b:8"):
        hosts_of([text])


def test_a_host_is_written_once():
    with pytest.raises(ValueError, match="the host a is there twice"):
        hosts_of(["a:4", "a:4"])


@pytest.mark.parametrize(
    ("have", "more", "given"),
    [
        ([0, 0], 12, [4, 8]),
        ([0, 0], 3, [3, 0]),
        ([4, 8], 3, [1, 2]),
        ([4, 0], 4, [0, 4]),
        ([2, 8], 3, [3, 0]),
        ([4, 8], 0, [0, 0]),
    ],
)
def test_hosts_get_what_they_lack_and_then_their_shares(have, more, given):
    assert shares([Host("a", 4), Host("b", 8)], have, more) == given


@pytest.mark.parametrize(
    ("numbers", "text"), [([0], "0"), ([0, 1, 2, 3, 7], "0-3,7"), ([2, 4], "2,4"), ([9, 8, 3], "3,8-9")]
)
def test_numbers_are_words_and_back(numbers, text):
    assert ranges(numbers) == text
    assert numbers_of(text) == sorted(numbers)


def test_the_package_is_shipped_whole_and_by_what_is_in_it():
    archive = shipping.own()
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as unpacked:
        names = unpacked.getnames()
    assert {"ipkernel_ext/__init__.py", "ipkernel_ext/nursery/outpost.py"} <= set(names)
    assert any(name.endswith(".dist-info/METADATA") for name in names)
    assert not any("__pycache__" in name for name in names)
    assert archive.name == shipping.own().name


def test_what_is_shipped_brings_what_it_needs():
    assert shipping.requirements()["pyzmq"] == "26"
    archive = shipping.dependencies(frozenset(["tqdm", "traitlets"]), shipping.HERE)
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as unpacked:
        tops = {name.split("/")[0] for name in unpacked.getnames()}
    assert {"tqdm", "traitlets"} <= tops
    assert not {name for name in tops if name.startswith("IPython")}
    other = shipping.dependencies(frozenset(["tqdm", "traitlets"]), shipping.HERE._replace(version="3.99"))
    assert other.name != archive.name, "of another Python"


@pytest.mark.slow
def test_for_another_python_its_wheels_are_had():
    version = "3.12" if shipping.HERE.version != "3.12" else "3.13"
    kind = shipping.Kind(version, shipping.HERE.platform, "other")
    archive = shipping.dependencies(frozenset(["msgspec"]), kind)
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as unpacked:
        assert any(f"cpython-{version.replace('.', '')}" in name for name in unpacked.getnames())


@pytest.mark.slow
def test_what_cannot_be_had_for_a_python_is_said():
    archive = shipping.dependencies(frozenset(["msgspec"]), shipping.Kind("3.11", "linux-vax", "other"))
    with pytest.raises(LaunchError, match="Python 3.11 there lacks msgspec, and no wheels for it can be had here"):
        archive.content  # packed when it is asked for


def test_what_is_missing_there_is_found_out():
    assert missing({"traitlets": "5.10", "msgspec": "999", "no-such-package": ""}) == ["msgspec", "no-such-package"]
    assert figures("5.10.1rc1") == [5, 10, 1]
    assert figures("") == []


def test_commands_that_fail_speak_for_themselves():
    assert run(["printf", "%s", "x"], 5) == "x"
    with pytest.raises(LaunchError, match="sh: it is forbidden"):
        run(["sh", "-c", "echo it is forbidden >&2; exit 3"], 5)
    with pytest.raises(LaunchError, match="there is no command no-such-command here"):
        run(["no-such-command"], 5)
