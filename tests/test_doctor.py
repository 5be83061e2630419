"""The checks, of facts that are handed in."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from ipkernel_ext import clean, doctor
from ipkernel_ext.config.place import SOCKET_PATH
from ipkernel_ext.config.templates import create
from ipkernel_ext.core.messages import EngineRecord

OURS = "#!/venv/bin/python3\nimport sys\nfrom ipkernel_ext.commands import ipcluster\n"
OTHERS = "#!/venv/bin/python3\nimport re\nimport sys\nfrom ipyparallel.cluster.app import main\n"
VENV = Path("/venv/bin")


def problems(findings: Iterable[doctor.Finding]) -> str:
    bad = [finding for finding in findings if not finding.ok]
    assert all(finding.advice for finding in bad), "a problem without anything to do about it"
    return "\n".join(map(str, bad))


def test_a_finding_is_one_line() -> None:
    assert str(doctor.Finding("x", True, "good")) == "ok       x: good"
    assert str(doctor.Finding("x", False, "bad", "do")) == "problem  x: bad; do"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (OURS, ""),
        (OTHERS, "belongs to ipyparallel"),
        ("#!/bin/sh\nexec true\n", "belongs to an unknown package"),
        (OURS.replace("/venv", "/other"), "runs /other/bin/python3, this is another Python"),
        (OURS.replace("#!/venv/bin/python3", "#!/bin/sh\n'''exec' /venv/bin/python3 \"$0\" \"$@\"\n' '''"), ""),
    ],
)
def test_whose_the_commands_are(text: str, says: str) -> None:
    found = problems(doctor.commands({"ipcluster": (VENV / "ipcluster", text)}, VENV, []))
    assert says in found if says else not found


def test_commands_that_are_not_on_the_path_and_another_package() -> None:
    findings = list(doctor.commands({}, VENV, ["ipyparallel"]))
    assert len(findings) == 4
    assert "ipyparallel is installed here" in problems(findings)


def test_stale_files_and_processes(tmp_path: Path) -> None:
    assert doctor.stale(clean.Found([], [(tmp_path, "waits")], [])).ok
    assert "`ipcluster clean`" in problems([doctor.stale(clean.Found([tmp_path] * 5, [], []))])
    orphan = clean.Process(7, "ipengine", None, True, True, 0.0)
    assert "gone: 7; `ipcluster clean --kill`" in problems([doctor.stale(clean.Found([tmp_path], [], [orphan]))])


def test_a_controller_that_does_not_answer(tmp_path: Path) -> None:
    assert "does not answer" in problems([doctor.connection_file(tmp_path, "x does not answer", None)])
    assert doctor.connection_file(tmp_path, None, None).ok
    assert "with 3 engines" in doctor.connection_file(tmp_path, None, 3).text


@pytest.mark.parametrize(
    ("owner", "mode", "never", "says"),
    [
        (1, 0o755, 0o022, ""),
        (1, 0o700, 0o077, ""),
        (2, 0o700, 0o077, "belongs to uid 2, you are 1"),
        (1, 0o775, 0o022, "can be changed by others; `chmod go-w"),
        (1, 0o604, 0o077, "can be used by others; `chmod go-rwx"),
    ],
)
def test_permissions(owner: int, mode: int, never: int, says: str) -> None:
    found = problems(doctor.permissions([doctor.Entry(Path("/x"), owner, mode, never)], 1))
    assert says in found if says else not found


def test_the_temporary_directory() -> None:
    long = Path("/" + "x" * SOCKET_PATH)
    assert doctor.temporary(Path("/tmp"), True, True).ok
    assert doctor.temporary(long, True, True).ok
    assert "too long" in problems([doctor.temporary(long, True, False)])
    assert "not writable" in problems([doctor.temporary(Path("/tmp"), False, False)])


def test_open_files() -> None:
    assert doctor.descriptors(1024, 4096, 100).ok
    assert doctor.descriptors(-1, -1, 10_000).ok
    assert "`ulimit -n 2064`" in problems([doctor.descriptors(1024, -1, 1000)])
    assert "ask for a higher hard limit" in problems([doctor.descriptors(1024, 1024, 1000)])


def test_space() -> None:
    found = list(doctor.space({"/dev/shm": 0, "/tmp": 2**40}))
    assert [finding.ok for finding in found] == [False, True]
    assert "/dev/shm has 0 MB free" in problems(found)


def test_versions() -> None:
    wanted = {"Python": "3.11", "pyzmq": "26", "msgspec": "0.18.5"}
    assert not problems(doctor.versions({"Python": "3.11.2", "pyzmq": "27.1.0", "msgspec": "0.18.5"}, wanted))
    found = problems(doctor.versions({"Python": "3.11.2", "pyzmq": "25.1.0"}, wanted))
    assert "pyzmq 25.1.0, and 26 or newer is needed" in found
    assert "msgspec is not there" in found


def test_skew() -> None:
    same = EngineRecord("a", "h", 1, "3.11.9", 0)
    assert not problems(doctor.skew([same], "3.11.2"))
    assert not list(doctor.skew([], "3.11.2"))
    other = EngineRecord("b", "far", 2, "3.12.1", 1)
    assert "engine 1 on far runs Python 3.12.1, this is 3.11.2" in problems(doctor.skew([same, other], "3.11.2"))


def test_config_files() -> None:
    path = Path("/p/ipengine_config.py")
    assert not problems(doctor.config_file(path, None, ["ParallelEngine", "IPEngine"]))
    assert "line 3" in problems(doctor.config_file(path, f"{path}, line 3: no", []))
    assert "move them to ipcluster_config.py" in problems(doctor.config_file(path, None, ["ParallelCluster"]))


def test_processors() -> None:
    assert doctor.processors(8, 8, 8).text == "8 engines by default: the machine has 8"
    found = doctor.processors(8, 4, 2).text
    assert "may use 4 of them" in found
    assert "quota allows the time of 2" in found


def test_facts_of_this_machine(ipython_dir: Path) -> None:
    """Whatever they are, they can be collected, and our own are as they should be."""
    list(create("default"))
    found = list(doctor.examine(None))
    checks = {finding.check for finding in found}
    assert checks >= {"commands", "versions", "configuration", "cores", "open files", "permissions", "connection"}
    versions = [finding for finding in found if finding.check == "versions"]
    assert not problems(versions)
    assert sys.version.split()[0] in versions[0].text
    assert not problems(finding for finding in found if finding.check in ("configuration", "connection"))
