"""This process as one rank of an MPI job, as far as a process can tell that has not initialised MPI.

MPI itself is user code's: it is neither imported nor initialised here. What started the ranks has
left their numbers in the environment.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Mapping
from typing import NamedTuple

SOURCES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_NAMESPACE"),  # Open MPI
    ("PMI_RANK", "PMI_SIZE", "PMI_JOBID"),  # MPICH and its kin; its own mpiexec (hydra) names no job, srun does
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS", "PMIX_NAMESPACE"),  # srun --mpi=pmix
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID SLURM_STEP_ID"),  # srun without MPI
)
"""Variables for rank, size and job; where several make the name of a job, with spaces between them."""


class Rank(NamedTuple):
    """One rank's place in its job."""

    rank: int
    size: int
    job: str  # "" where it has no name


def rank_of(environment: Mapping[str, str]) -> Rank | None:
    """What an environment says; None where it is no rank's."""
    for rank, size, job in SOURCES:
        numbers = environment.get(rank, ""), environment.get(size, "")
        if all(map(str.isdecimal, numbers)) and int(numbers[0]) < int(numbers[1]):
            named = [environment.get(name, "") for name in job.split()]
            return Rank(int(numbers[0]), int(numbers[1]), ".".join(filter(None, named)))
    return None


def starter() -> int:
    """Pid of what started this job's ranks on this host: the nearest ancestor that is not a rank itself."""
    import psutil

    pid = 0
    for ancestor in psutil.Process().parents():
        pid = ancestor.pid
        try:
            if rank_of(ancestor.environ()) is None:
                break
        except psutil.Error:
            break  # somebody else's process
    return pid


def leave(seconds: float) -> None:
    """End this process as a rank has to, if user code began MPI; else mpiexec reports a failure.

    That is: ``Finalize``, and then the exit handlers of C libraries, because MPICH takes leave of its
    mpiexec in one; those of Python are left out. ``Finalize`` waits for all ranks, and one of them may
    never come. So after so many seconds the kernel ends this process; no thread could, because the
    interpreter is held meanwhile.
    """
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized():
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    if not mpi.Is_finalized():
        mpi.Finalize()
    ctypes.PyDLL(None).exit(0)
