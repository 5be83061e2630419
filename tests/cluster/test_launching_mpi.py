"""``--engines=mpi``: a cluster whose engines mpiexec starts."""

import signal

import psutil
import pytest

from ipkernel_ext import launch
from ipkernel_ext.errors import EngineLost, EngineStartError, NoEngines
from tests.cluster.programs import cluster, ipcluster

BEGIN = "from mpi4py import MPI\nworld = MPI.COMM_WORLD"


def test_ipcluster_starts_ranks_that_compute_together_and_ends_them():
    with cluster("--engines=mpi", "-n", "8") as rc:
        assert [(engine.id, engine.rank) for engine in rc.engines] == [(n, n) for n in range(8)]
        processes = [psutil.Process(engine.pid) for engine in rc.engines]
        rc.execute(BEGIN)
        rc.push({"x": 3})
        assert [r.value for r in rc.execute("world.allreduce(x * world.rank)")] == [84] * 8
        assert rc.pull("x") == [3] * 8
    assert not any(process.is_running() for process in processes)


@pytest.mark.slow
def test_open_mpi_does_it_too(openmpi):
    options = [
        f"--ParallelMPI.mpiexec={openmpi.parent / 'mpiexec'}",
        "--ParallelMPI.arguments=--allow-run-as-root,--oversubscribe",
    ]
    with cluster("--engines=mpi", "-n", "4", *options, python=str(openmpi)) as rc:
        assert [engine.rank for engine in rc.engines] == [0, 1, 2, 3]
        rc.execute(BEGIN)
        assert [r.value for r in rc.execute("world.allreduce(world.rank)")] == [6] * 4


@pytest.mark.slow
def test_engines_that_do_not_ask_for_mpi_do_not_begin_it():
    with launch(n=2, engines="mpi") as rc:
        rc.execute("import sys")
        assert [r.value for r in rc.execute("'mpi4py.MPI' in sys.modules")] == [False, False]


@pytest.mark.slow
def test_a_crashed_rank_is_reported_as_such():
    with launch(n=3, engines="mpi") as rc:
        rc.execute(BEGIN)
        waiting = rc[0].execute("world.recv(source=2)", block=False)
        with pytest.raises(EngineLost):
            rc[2].execute("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        with pytest.raises(EngineLost):
            waiting.get(20)
        assert rc._link.channel.wait_roster(lambda roster: bool(roster.trouble), 20)
        with pytest.raises(
            NoEngines, match=r"(?s)the MPI job has ended.*mpiexec said.*PID \d+ .*(signal|EXIT CODE:) 9"
        ):
            rc.execute("1")


@pytest.mark.slow
def test_a_job_keeps_its_size():
    with launch(n=2, engines="mpi") as rc, pytest.raises(NoEngines, match="an MPI job keeps its size"):
        rc.cluster.scale(3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mpiexec": "no-such-mpiexec"}, "there is no command 'no-such-mpiexec' here: install MPI"),
        ({"arguments": ["--nonsense"]}, "(?s)the MPI job has ended, exit code 255; mpiexec said.*nonsense"),
    ],
)
def test_a_job_that_does_not_start_says_why(options, says):
    with pytest.raises(EngineStartError, match=says):
        launch(n=2, engines="mpi", **options)


@pytest.mark.slow
def test_the_end_of_the_agent_is_the_end_of_the_ranks():
    with launch(n=2, engines="mpi") as rc:
        processes = [psutil.Process(engine.pid) for engine in rc.engines]
        agent = next(p for p in processes[0].parents() if "ipkernel_ext.nursery" in p.cmdline())
        processes.append(psutil.Process(rc.status()["controller"]["pid"]))
        agent.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(processes, timeout=20)
        assert not alive


def test_a_place_that_does_not_exist_names_those_that_do():
    said = ipcluster("start", "--engines=shs")
    assert said.returncode == 2
    assert "did you mean ssh?" in said.stderr
    with pytest.raises(ValueError, match="engines='shs' is not known: did you mean 'ssh'"):
        launch(n=1, engines="shs")
