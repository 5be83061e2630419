"""Engines as the ranks of an MPI job."""

import signal

import numpy as np
import psutil
import pytest

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.errors import CompositeError, EngineLost, TaskInterrupted
from tests.cluster.conftest import JOIN

SIZE = 8
BEGIN = "from mpi4py import MPI\nworld = MPI.COMM_WORLD"


def ended(job):
    """Exit code, standard output and standard error of a job that ends."""
    out, err = job.communicate(timeout=20)
    return job.returncode, out, err


def wait_for_ids(rc, *ids):
    """Until exactly these engines are known."""
    assert rc._link.channel.wait_roster(lambda roster: list(roster.ids) == list(ids), 20), rc.ids


@pytest.fixture
def job(controller, mpiexec):
    """Eight ranks that have joined."""
    job = mpiexec(SIZE)
    controller.wait_for_engines(SIZE, JOIN)
    return job


def test_the_ranks_of_a_job_compute_together(job, controller):
    assert controller.ids == list(range(SIZE))
    assert [(engine.rank, engine.size) for engine in controller.engines] == [(n, SIZE) for n in range(SIZE)]
    assert all(engine.rss > 2**20 and engine.cpu is not None for engine in controller.engines)
    controller.execute(BEGIN)
    assert [r.value for r in controller.execute("world.rank, world.size")] == [(n, SIZE) for n in range(SIZE)]

    assert [r.value for r in controller.execute("world.allreduce(world.rank)")] == [28] * SIZE

    controller.push({"data": np.arange(1000.0)}, targets=0)
    controller.push({"data": None}, targets="1:")
    controller.execute("data = world.bcast(data)")
    assert all(np.array_equal(data, np.arange(1000.0)) for data in controller["data"])

    controller.scatter("part", np.arange(80.0))
    controller.execute(
        "import numpy as np\nwhole = np.empty(80)\nworld.Allgather(part * 2, whole)\n"
        "total = np.empty(10)\nworld.Allreduce(part, total, op=MPI.MAX)"
    )
    assert all(np.array_equal(whole, np.arange(80.0) * 2) for whole in controller["whole"])
    assert all(np.array_equal(total, np.arange(70.0, 80.0)) for total in controller["total"])

    controller.shutdown()
    assert ended(job) == (0, "", "")


def test_engines_that_compute_can_be_interrupted_and_their_job_goes_on(job, controller):
    controller.execute(BEGIN)
    result = controller.execute("print('begun', flush=True)\nwhile True: pass", block=False)
    said = 0
    for output in result.follow():
        said += output.text.count("begun")
        if said == SIZE:
            break
    controller.interrupt()
    with pytest.raises(CompositeError) as raised:
        result.get(20)
    assert all(isinstance(error, TaskInterrupted) for error in raised.value.exceptions)
    assert [r.value for r in controller.execute("world.allreduce(1)")] == [SIZE] * SIZE


def test_a_second_job_gets_the_next_block_and_a_third_the_first_again(controller, mpiexec):
    first = mpiexec(2)
    controller.wait_for_engines(2, JOIN)
    second = mpiexec(3)
    controller.wait_for_engines(5, JOIN)
    assert {engine.id: engine.rank for engine in controller.engines} == {0: 0, 1: 1, 2: 0, 3: 1, 4: 2}
    controller.execute(BEGIN)
    assert [r.value for r in controller.execute("world.allreduce(1)")] == [2, 2, 3, 3, 3]
    controller[:2].shutdown()
    assert ended(first) == (0, "", "")
    wait_for_ids(controller, 2, 3, 4)
    mpiexec(2)
    controller.wait_for_engines(5, JOIN)
    assert controller.ids == [0, 1, 2, 3, 4]
    controller[2:].shutdown()
    assert ended(second) == (0, "", "")


def test_ranks_that_a_script_starts_are_one_job(controller, mpiexec):
    mpiexec(2, "sh", "-c", '"$0" "$@"; exit $?')
    controller.wait_for_engines(2, JOIN)
    assert controller.ids == [0, 1]


def test_engines_that_a_rank_starts_are_no_ranks():
    with launch(n=2, env={"PMI_RANK": "1", "PMI_SIZE": "2"}) as rc:
        assert [(engine.id, engine.rank) for engine in rc.engines] == [(0, None), (1, None)]


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_on_mpiexec_ends_all_engines(controller, mpiexec, busy):
    job = mpiexec(2)
    controller.wait_for_engines(2, JOIN)
    controller.execute(BEGIN)
    processes = [psutil.Process(engine.pid) for engine in controller.engines]
    if busy:
        controller.execute("while True: pass", block=False)
    job.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive
    job.communicate(timeout=20)


def test_a_rank_that_dies_takes_its_job_along_and_all_waiting_calls_fail(controller, mpiexec):
    job = mpiexec(3)
    controller.wait_for_engines(3, JOIN)
    controller.execute(BEGIN)
    result = controller.execute("if world.rank == 1: import os; os.abort()\nworld.Barrier()", block=False)
    with pytest.raises(CompositeError) as raised:
        result.get(20)
    assert [type(error) for error in raised.value.exceptions] == [EngineLost] * 3
    assert ended(job)[0] != 0
    wait_for_ids(controller)


def test_a_rank_that_ends_alone_does_not_hang_in_finalize(controller, mpiexec):
    job = mpiexec(2)
    controller.wait_for_engines(2, JOIN)
    controller.execute(BEGIN)
    controller[0].shutdown()
    assert ended(job)[0] != 0, "mpiexec ends a job of which one rank was killed"


def test_after_a_restart_of_the_controller_ids_are_still_ranks(start_controller, mpiexec):
    controller = start_controller()
    mpiexec(3)
    with RemoteController() as rc:
        rc.wait_for_engines(3, JOIN)
        before = {engine.rank: engine.pid for engine in rc.engines}
        controller.kill()
        controller.wait()
        start_controller()
        rc.status()  # answered by the new one: from here on the roster is that one's
        rc.wait_for_engines(3, JOIN)
        assert {engine.id: engine.pid for engine in rc.engines} == before
        rc.shutdown()


@pytest.mark.parametrize("code", ["1", BEGIN, f"{BEGIN}\nMPI.Finalize()"])
def test_when_the_controller_stops_mpiexec_exits_with_0_and_nothing_to_say(start_controller, mpiexec, code):
    controller = start_controller()
    job = mpiexec(2)
    with RemoteController() as rc:
        rc.wait_for_engines(2, JOIN)
        rc.execute(code)
        controller.send_signal(signal.SIGINT)
        assert ended(job) == (0, "", "")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_open_mpi(mpiexec_of_openmpi, controller):
    job = mpiexec_of_openmpi(4)
    controller.wait_for_engines(4, JOIN)
    other = mpiexec_of_openmpi(2)
    controller.wait_for_engines(6, JOIN)
    assert {engine.id: engine.rank for engine in controller.engines} == {0: 0, 1: 1, 2: 2, 3: 3, 4: 0, 5: 1}
    assert len({engine.job for engine in controller.engines}) == 2
    controller.execute(BEGIN)
    assert all("Open MPI" in r.value for r in controller.execute("MPI.Get_library_version()"))
    assert [r.value for r in controller.execute("world.allreduce(world.rank)")] == [6] * 4 + [1] * 2
    controller[4:].shutdown()
    assert ended(other) == (0, "", "")
    controller.shutdown()
    assert ended(job) == (0, "", "")
