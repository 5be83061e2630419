"""A Grid Engine of its own for the tests: its master and one node, on this machine, in a temporary directory.

Its daemons listen on every address there is, so they have a network of their own, in which there is loopback alone.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.slurm import free_ports, program_of

PROGRAMS = ("sge_qmaster", "sge_execd", "qconf", "qsub", "ip", "nsenter", "unshare")
COMMANDS = ("qconf", "qdel", "qhost", "qstat", "qsub")
HOME = Path("/var/lib/gridengine")
UTILITIES = Path("/usr/lib/gridengine")
RESOURCES = Path("/usr/share/gridengine/util/resources")
UP = 30  # seconds that it has to come up

BOOTSTRAP = """
admin_user none
default_domain none
ignore_fqdn true
spooling_method berkeleydb
spooling_lib libspoolb
spooling_params {directory}/spool
binary_path /usr/sbin
qmaster_spool_dir {directory}/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""

CONFIGURATION = {"min_uid": "0", "min_gid": "0", "load_report_time": "00:00:01"}

ENVIRONMENT = """
pe_name smp
slots 99
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule $pe_slots
control_slaves FALSE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
"""

QUEUE = {
    "qname": "all.q",
    "hostlist": "localhost",
    "pe_list": "smp",
    "slots": "4",
    "load_thresholds": "NONE",
    "shell": "/bin/sh",
}
"""What is not as the template has it."""


def why_not() -> str | None:
    """Why there can be no Grid Engine here."""
    if not sys.platform.startswith("linux") or os.getuid():
        return "needs to be root on Linux, to run a Grid Engine of its own"
    missing = [name for name in PROGRAMS if program_of(name) is None]
    if not missing and "gridengine" not in os.path.realpath(shutil.which("qsub") or ""):
        missing = ["qsub"]  # that of another batch system
    return f"needs Grid Engine's {', '.join(missing)}; tools/setup-debian installs them" if missing else None


class GridEngine:
    """It, running."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        master, node = free_ports(2)
        self.variables = {
            "SGE_ROOT": str(directory / "root"),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": str(master),
            "SGE_EXECD_PORT": str(node),
        }
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._network = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        assert self._network.stdout is not None and self._network.stdout.readline() == b"ready\n"
        commands = directory / "commands"
        commands.mkdir()
        for name in COMMANDS:
            command = commands / name
            command.write_text(f'#!/bin/sh\nexec {" ".join(self._inside(program_of(name) or name))} "$@"\n')
            command.chmod(0o755)
        self.variables["PATH"] = f"{commands}:{os.environ['PATH']}"

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self._network.pid}", "--net", *command]

    def start(self) -> None:
        """Start all; returns when the node is there."""
        directory = self.directory
        directory.chmod(0o755)
        common = directory / "root" / "default" / "common"
        for each in (common, directory / "qmaster" / "job_scripts", directory / "spool", directory / "execd"):
            each.mkdir(parents=True)
        for name in ("bin", "lib", "util", "utilbin"):
            (directory / "root" / name).symlink_to(HOME / name)
        (common / "bootstrap").write_text(BOOTSTRAP.format(directory=directory).lstrip())
        (common / "act_qmaster").write_text("localhost\n")
        (common / "host_aliases").write_text(f"localhost {socket.gethostname()}\n")
        given = {**CONFIGURATION, "execd_spool_dir": str(directory / "execd")}
        configuration = Path("/usr/share/gridengine/default-configuration").read_text()
        self._do(str(UTILITIES / "spoolinit"), "berkeleydb", "libspoolb", str(directory / "spool"), "init")
        self._spool("configuration", self._file("configuration", _changed(configuration, given)))
        self._spool("complexes", str(RESOURCES / "centry"))
        self._spool("usersets", str(RESOURCES / "usersets"))
        self._spool("managers", "root")
        self._run("sge_qmaster")
        up = "until qconf -ah localhost || qconf -sh; do sleep 0.2; done 2>&1"
        subprocess.run(["sh", "-c", up], check=True, timeout=UP, env=self.environment(), stdout=subprocess.DEVNULL)
        self("qconf", "-as", "localhost")
        self("qconf", "-Ap", self._file("environment", ENVIRONMENT.lstrip()))
        scheduler = {"schedule_interval": "0:0:1", "job_load_adjustments": "NONE"}
        self("qconf", "-Msconf", self._file("scheduler", _changed(self("qconf", "-ssconf"), scheduler)))
        self._run("sge_execd")
        self("qconf", "-Aq", self._file("queue", _changed(self("qconf", "-sq"), QUEUE)))
        up = "until qhost -h localhost | grep -q lx-; do sleep 0.2; done"
        subprocess.run(["sh", "-c", up], check=True, timeout=UP, env=self.environment(), stderr=subprocess.DEVNULL)

    def environment(self) -> dict[str, str]:
        """For its commands."""
        return dict(os.environ, **self.variables)

    def _file(self, name: str, content: str) -> str:
        path = self.directory / name
        path.write_text(content)
        return str(path)

    def _spool(self, what: str, value: str) -> None:
        self._do(str(UTILITIES / "spooldefaults"), what, value)

    def _do(self, *command: str) -> None:
        subprocess.run(self._inside(*command), check=True, capture_output=True, timeout=30, env=self.environment())

    def _run(self, name: str) -> None:
        program = program_of(name)
        assert program is not None
        with open(self.directory / f"{name}.out", "ab") as out:
            self._daemons.append(
                subprocess.Popen(
                    self._inside(program),
                    env={**self.environment(), "SGE_ND": "1"},
                    stdout=out,
                    stderr=out,
                    stdin=subprocess.DEVNULL,
                )
            )

    def __call__(self, *command: str) -> str:
        """What one of its commands says."""
        done = subprocess.run(
            self._inside(*command), capture_output=True, text=True, timeout=30, env=self.environment()
        )
        return done.stdout + done.stderr

    def end(self) -> None:
        """End all jobs, then all daemons."""
        self("qdel", "-u", "*")
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._network.kill()
        self._network.communicate()


def _changed(text: str, values: dict[str, str]) -> str:
    """A configuration with other values."""
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^{name}\s.*$", f"{name} {value}", text)
        assert count == 1, f"no {name} in {text}"
    return text


@pytest.fixture(scope="session")
def whole_sge(tmp_path_factory):
    """One for all tests."""
    if (why := why_not()) is not None:
        pytest.skip(why)
    sge = GridEngine(tmp_path_factory.mktemp("sge"))
    try:
        sge.start()
        yield sge
    finally:
        sge.end()


@pytest.fixture
def sge(whole_sge, monkeypatch):
    """It, found by our commands; without jobs before and after."""
    for name, value in whole_sge.variables.items():
        monkeypatch.setenv(name, value)
    assert whole_sge("qstat") == ""
    yield whole_sge
    gone = 'until [ -z "$(qstat)" ]; do sleep 0.2; done'
    subprocess.run(["sh", "-c", gone], check=True, timeout=30, env=whole_sge.environment())
