"""Large frames to several engines of a host without the controller: once over the network, then shared memory."""

import hashlib
import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest

from ipkernel_ext import RemoteController
from ipkernel_ext.config import connection, shared
from ipkernel_ext.config.place import Place
from ipkernel_ext.net.couriers import STALL
from tests.e2e.test_tcp import Cluster

MB = 2**20
ENGINES = 3


def away():
    """The directory that the engines share."""
    keys = connection.read(Place.of_profile(None).connection("engine")).keys
    return shared.root("/dev/shm") / hashlib.sha256(keys.server.encode()).hexdigest()[:16]


def written(pids):
    """Bytes that processes have written to files."""
    return [psutil.Process(pid).io_counters().write_chars for pid in pids]


def mapped(pid):
    """Files of shared memory that a process has mapped."""
    paths = {Path(region.path) for region in psutil.Process(pid).memory_maps()}
    return {path for path in paths if path.parent == away() and path.name != "lock"}


@pytest.fixture
def cluster(command, tmp_path):
    """Three engines and a client, each as if on another host than the controller."""
    directory = tmp_path / "copies"
    directory.mkdir()
    started = Cluster(command, directory).start()
    command("ipengine", f"-n{ENGINES}", f"--file={started.copy('engine')}")
    with RemoteController(connection_file=started.copy("client")) as rc:
        rc.wait_for_engines(ENGINES, 30)
        yield rc


def push(cluster, array):
    """Push an array to all; their processes, and which of them have written all of it."""
    pids = cluster.apply(os.getpid)
    before = written(pids)
    cluster.push({"array": array})
    return pids, [after - number >= array.nbytes for number, after in zip(before, written(pids), strict=True)]


def courier(cluster):
    """The process that takes large frames for all, ids of the other engines, and the array that it has just taken."""
    array = np.random.default_rng(2).random(MB)
    pids, took = push(cluster, array)
    others = [id for id, it in zip(cluster.ids, took, strict=True) if not it]
    return psutil.Process(pids[took.index(True)]), others, array


def test_an_array_for_all_crosses_the_network_once(cluster):
    array = np.random.default_rng(1).random(4 * MB)
    pids, took = push(cluster, array)
    assert sum(took) == 1, "one engine has taken it for all"
    assert len(set.union(*map(mapped, pids))) == 1, "all read the same memory"
    cluster.execute("array[0] = engine = __import__('os').getpid()")
    for pushed, pid in zip(cluster.pull("array"), pids, strict=True):
        assert pushed[0] == pid, "each has its own to write to"
        np.testing.assert_array_equal(pushed[1:], array[1:])


def test_arguments_of_a_function_too_and_nothing_stays(cluster):
    array = np.arange(MB, dtype=float)
    assert cluster.apply(np.sum, array) == ENGINES * [array.sum()]
    pids = cluster.apply(os.getpid)
    assert not any(map(mapped, pids)), "nobody has it any more"
    assert [file.name for file in away().iterdir()] == ["lock"]


@pytest.mark.fault("the engine that takes large frames for its host is killed")
def test_an_engine_that_took_an_array_for_others_is_killed(cluster):
    process, others, array = courier(cluster)
    process.kill()
    for again in range(2):
        for pulled in cluster[others].pull("array"):
            np.testing.assert_array_equal(pulled, array + again)
        cluster[others].push({"array": array + 1})


@pytest.mark.slow
@pytest.mark.fault("the engine that takes large frames for its host stands still")
def test_an_engine_that_takes_arrays_for_others_stands_still(cluster):
    process, others, array = courier(cluster)
    process.send_signal(signal.SIGSTOP)
    try:
        cluster[others].push({"array": array + 1}, block=False).get(3 * STALL)
    finally:
        process.send_signal(signal.SIGCONT)
    for pulled in cluster[others].pull("array"):
        np.testing.assert_array_equal(pulled, array + 1)


def test_what_engines_have_shared_ends_with_them(cluster):
    courier(cluster)
    directory = away()
    assert directory.is_dir()
    engines = [psutil.Process(engine.pid) for engine in cluster.engines]
    cluster.shutdown()
    _, alive = psutil.wait_procs(engines, timeout=10)
    assert not alive
    assert not directory.exists()
