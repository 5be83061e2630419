"""Engines as the ranks of an MPI job that ``mpiexec`` starts here; its options say where ranks run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipkernel_ext.launchers.launcher import Launcher, LaunchError, LaunchOrder, State

GRACE = 4.0  # seconds that a job has to end
LINES = 15  # of what mpiexec said, that are told


class MPI:
    """One job.

    Parameters
    ----------
    command : list of str
        mpiexec and its arguments.
    engine : list of str
        What a rank is.
    log : Path
        File for what mpiexec says.
    """

    fixed = "an MPI job keeps its size; `ipcluster stop`, and start it with another one"
    pause = 0.2

    def __init__(self, command: Sequence[str], engine: Sequence[str], log: Path) -> None:
        self._command = list(command)
        self._engine = list(engine)
        self._log = log
        self._job: subprocess.Popen[bytes] | None = None
        self._size = 0

    def start(self, numbers: Sequence[int]) -> None:
        """Start the job."""
        if not numbers:
            return
        command = [*self._command, "-n", str(len(numbers)), *self._engine]
        try:
            with open(self._log, "wb") as log:
                self._job = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, process_group=0
                )
        except FileNotFoundError:
            raise LaunchError(
                f"there is no command {self._command[0]!r} here: install MPI (pip install mpich), or name its mpiexec "
                "in ParallelMPI.mpiexec"
            ) from None
        self._size = len(numbers)

    def state(self) -> State:
        """Whether the job runs."""
        if self._job is None or self._job.poll() is None:
            return State(self._size)
        code, self._job, self._size = self._job.returncode, None, 0
        if code == 0:
            return State(0, ended="the MPI job has ended")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return State(0, ended=f"the MPI job has ended, {how}; mpiexec said\n{_said(self._log)}")

    def keep(self, ids: Sequence[int], pending: int) -> None:
        """Ranks come and go together."""

    def stop(self) -> None:
        """End the job: its ranks, when they have taken leave of MPI, or else by force."""
        if self._job is None:
            return
        self._job.send_signal(signal.SIGTERM)
        try:
            self._job.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(self._job.pid, signal.SIGKILL)
            self._job.wait()


def _said(log: Path) -> str:
    """What mpiexec said, without frames and empty lines."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line.strip(" =\t") for line in text.splitlines() if not re.fullmatch(r"[\s=*+-]*", line)]
    return "\n".join(line for line in lines if line)[-4000:] if len(lines) <= LINES else "\n".join(lines[-LINES:])


def launcher(settings: Mapping[str, Any], order: LaunchOrder) -> Launcher:
    """As the profile wants it."""
    beside = Path(order.python).parent / settings["mpiexec"]  # of a virtual environment, which need not be on the PATH
    command = [str(beside) if beside.exists() else settings["mpiexec"], *settings["arguments"]]
    engine = [order.python, "-m", "ipkernel_ext.commands", "ipengine", "--file", order.connection]
    return MPI(command, engine, Path(order.logs) / "mpiexec.log")
