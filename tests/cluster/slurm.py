"""A Slurm of its own for the tests: munged, slurmctld and two nodes, all on this machine, in a temporary directory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "srun")
UP = 30  # seconds that the nodes have to come up

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={directory}/munge.sock
CredType=cred/munge
ProctrackType=proctrack/linuxproc
ReturnToService=2
SlurmUser=root
SlurmdUser=root
SlurmdSpoolDir={directory}/spool-%n
StateSaveLocation={directory}/state
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SwitchType=switch/none
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=5
KillWait=5
SlurmctldPort={ports[0]}
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=8000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=8000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=n1,n2 MaxTime=1 State=UP
PartitionName=closed Nodes=n1,n2 MaxTime=INFINITE State=INACTIVE
"""


def why_not() -> str | None:
    """Why there can be no Slurm here."""
    if not sys.platform.startswith("linux") or os.getuid():
        return "needs to be root on Linux, to run a Slurm of its own"
    missing = [name for name in PROGRAMS if program_of(name) is None]
    return f"needs Slurm's {', '.join(missing)}; tools/setup-debian installs them" if missing else None


def program_of(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class Slurm:
    """It, running."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "slurm.conf"
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start all; returns when both nodes are there."""
        directory = self.directory
        directory.chmod(0o755)
        for name in ("state", "spool-n1", "spool-n2"):
            (directory / name).mkdir()
        host = socket.gethostname().partition(".")[0]
        self.config.write_text(CONFIG.format(host=host, directory=directory, ports=free_ports(3)))
        key = directory / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={directory}/munge.{name}" for option, name in files.items()]
        self._run("munged", "--foreground", "--force", *options)
        self._run("slurmctld", "-D")
        for node in ("n1", "n2"):
            self._run("slurmd", "-D", "-N", node)
        up = 'until [ "$(sinfo -h -p main -t idle -o %D)" = 2 ]; do sleep 0.2; done'
        subprocess.run(["sh", "-c", up], check=True, timeout=UP, env=self.environment(), stderr=subprocess.DEVNULL)

    def environment(self) -> dict[str, str]:
        """For its commands."""
        return dict(os.environ, SLURM_CONF=str(self.config))

    def _run(self, name: str, *arguments: str) -> None:
        program = program_of(name)
        assert program is not None
        with open(self.directory / f"{name}.out", "ab") as out:
            self._daemons.append(
                subprocess.Popen(
                    [program, *arguments], env=self.environment(), stdout=out, stderr=out, stdin=subprocess.DEVNULL
                )
            )

    def __call__(self, *command: str) -> str:
        """What one of its commands says."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=self.environment())
        return done.stdout + done.stderr

    def end(self) -> None:
        """End all jobs, then all daemons."""
        self("scancel", "--user=root")
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="session")
def whole_slurm(tmp_path_factory):
    """One for all tests."""
    if (why := why_not()) is not None:
        pytest.skip(why)
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.end()


@pytest.fixture
def slurm(whole_slurm, monkeypatch):
    """It, found by our commands; without jobs before and after."""
    monkeypatch.setenv("SLURM_CONF", str(whole_slurm.config))
    assert whole_slurm("squeue", "-h") == ""
    yield whole_slurm
    left = whole_slurm("squeue", "-h", "-o", "%i %T")
    assert [line for line in left.splitlines() if "COMPLETING" not in line] == []
