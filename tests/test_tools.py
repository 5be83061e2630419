"""The scripts that `make` calls, where they can be tried without changing the machine."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / "tools"
NEEDED = [
    "chromium",
    "ip",
    "munged",
    "nsenter",
    "ps",
    "qconf",
    "sbatch",
    "sendmail",
    "sge_execd",
    "sge_qmaster",
    "slurmctld",
    "slurmd",
    "ssh",
    "sshd",
    "tmux",
]


@pytest.fixture
def machine(tmp_path):
    """Run ``setup-debian`` as if only these commands were there; a function."""

    def run(commands, uid, apt="exit 0", python=""):
        log = tmp_path / "apt"
        stubs = {**dict.fromkeys(commands, "exit 0"), "id": f"echo {uid}", "apt-get": f'echo "$@" >> {log}; {apt}'}
        stubs["readlink"] = f"echo {python}"
        for name, text in stubs.items():
            (tmp_path / name).write_text(f"#!{shutil.which('bash')}\n{text}\n")
            (tmp_path / name).chmod(0o755)
        for name in ("chmod", "rm"):
            (tmp_path / name).symlink_to(shutil.which(name))
        script = (TOOLS / "setup-debian").read_text().replace("$PATH:/usr/sbin:/sbin", str(tmp_path))
        script = script.replace("/usr/sbin/policy-rc.d", str(tmp_path / "policy"))
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stderr, log.read_text() if log.exists() else ""

    return run


@pytest.mark.parametrize("uid", [0, 1000])
def test_nothing_is_done_where_nothing_is_missing(machine, uid):
    assert machine(NEEDED, uid) == ("", "")


def test_root_installs_what_is_missing(machine):
    _, asked = machine([command for command in NEEDED if command != "tmux"], 0)
    assert asked.splitlines()[-1].split()[-1] == "tmux"
    assert "iproute2" not in asked


def test_the_tests_of_debians_python_are_installed_where_they_are_not(machine):
    _, asked = machine(NEEDED, 0, python="python3.99")
    assert asked.splitlines()[-1].split()[-1] == "libpython3.99-testsuite"


def test_no_service_of_what_is_installed_is_started(machine, tmp_path):
    policy = tmp_path / "policy"
    asked = machine([], 0, apt=f'[ -x {policy} ] && echo "not started" >> {tmp_path / "apt"}')[1]
    assert asked.splitlines().count("not started") == 2, "while it is looked up, and while it is installed"
    assert not policy.exists()


def test_others_are_told_what_is_missing(machine):
    said, asked = machine([command for command in NEEDED if command not in ("ip", "nsenter", "tmux")], 1000)
    assert "apt-get install iproute2 util-linux tmux" in said
    assert not asked


def test_an_installation_that_fails_is_no_failure_of_the_tests(machine):
    said, _ = machine(["ip", "nsenter", "ps"], 0, apt="exit 100")
    assert "are skipped" in said


def test_a_python_that_is_not_here_is_said_in_the_summary():
    environment = {**os.environ, "VERSIONS": "3.0"}
    done = subprocess.run([TOOLS / "test-all"], env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode != 0
    assert done.stdout.strip() == "Python 3.0: is not here, skipped"
