"""Large objects in shared memory: one copy for all, nothing lost whoever dies, nothing left behind."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.config import shared
from ipkernel_ext.errors import EngineLost

MB = 2**20


def place_of(rc):
    return rc.cluster.launched.place


def directory_of(rc):
    return Path(shared.find(f"ipc://{place_of(rc).socket}").directory)


def blobs_in(directory):
    return [path for path in directory.iterdir() if path.name != "lock"]


def is_held(path):
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def client_of(rc):
    return RemoteController(connection_file=place_of(rc).connection("client"))


@contextmanager
def script(rc, text):
    """A client in a process of its own, which talks to us by lines."""
    preamble = f"""
        import os, sys
        import numpy as np
        from ipkernel_ext import RemoteController
        rc = RemoteController(connection_file={str(place_of(rc).connection("client"))!r})
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(preamble) + textwrap.dedent(text)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


# ---------------------------------------------------------------- one copy


def test_sixteen_engines_have_one_copy_until_they_write():
    size = 64 * MB
    array = np.ones(size, np.uint8)
    with launch(n=16) as rc:
        pids = [os.getpid(), rc.status()["controller"]["pid"], *(engine.pid for engine in rc.engines)]

        def memory():
            return sum(psutil.Process(pid).memory_full_info().pss for pid in pids)

        rc.push({"small": array[:10]})
        rc.execute("small.sum()")
        before = memory()
        rc.push({"array": array})
        rc.execute("total = int(array.sum())")
        assert rc["total"] == [size] * 16
        assert memory() - before < 1.1 * size
        assert len(blobs_in(directory_of(rc))) == 1
        rc[3].execute("array[:] = 2")
        assert 1.9 * size < memory() - before < 2.2 * size
        assert rc[2].pull("array")[0] == 1 and rc[3].pull("array")[-1] == 2 and array[0] == 1


def test_what_is_scattered_is_written_once(cluster):
    array = np.arange(2 * MB, dtype=np.uint8)
    cluster.scatter("piece", array)
    assert sum(path.stat().st_size for path in blobs_in(directory_of(cluster))) == array.nbytes
    np.testing.assert_array_equal(cluster.gather("piece"), array)


def test_arguments_and_values_of_calls_travel_so_too(cluster):
    array = np.ones(MB)

    def double(x):
        x *= 2
        return x

    for value in (
        cluster[0].apply(double, array),
        cluster.submit(double, array).result(),
        cluster.map(double, [array])[0],
        next(cluster.imap(double, [array])),
        cluster.executor().submit(double, array).result(),
        cluster[1].apply(double, array, block=False).get(),
    ):
        assert value.sum() == 2 * MB
        value[0] = 0
    assert array.sum() == MB
    assert blobs_in(directory_of(cluster))


# ---------------------------------------------------------------- nothing is lost


@pytest.mark.fault("a client is killed whose large arguments no engine has yet")
def test_what_a_killed_client_has_sent_is_done_with_its_arguments(cluster, tmp_path):
    go = tmp_path / "go"
    client = f"""
        rc[0].execute("import os, time\\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)", block=False)
        result = rc[0].apply(np.sum, np.full(2**20, 3.0), block=False)
        rc[0].push({{"kept": np.ones(2**20)}}, block=False)
        rc.queue_status()
        print(result.task_ids[0], flush=True)
        sys.stdin.read()
    """
    with script(cluster, client) as process:
        id = process.stdout.readline().strip()
        process.kill()
        process.wait()
        result = cluster.get_result(id)
        go.touch()
        assert result.get(20) == 3 * MB
    assert cluster[0].apply(lambda: float(kept.sum())) == MB  # noqa: F821 - of the engine


@pytest.mark.fault("an engine is killed whose large result its client has not taken yet")
def test_a_result_outlives_its_engine(cluster, tmp_path):
    client = """
        result = rc[1].apply(np.full, 2**20, 3.0, block=False)
        rc.queue_status()
        print("sent", flush=True)
        print(result.get().sum(), flush=True)
    """
    engine = cluster.engines[1]
    gate = tmp_path / "go"
    cluster[1].execute(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)", block=False)
    with script(cluster, client) as process:
        assert process.stdout.readline() == "sent\n"
        os.kill(process.pid, signal.SIGSTOP)
        gate.touch()
        cluster[1].apply(abs, -1)  # comes after it
        os.kill(engine.pid, signal.SIGKILL)
        cluster.wait_for_engines(2, 20)
        with pytest.raises(EngineLost):
            cluster[1].apply(abs, -1)
        held = [is_held(path) for path in blobs_in(directory_of(cluster))]
        assert held == [True]
        os.kill(process.pid, signal.SIGCONT)
        assert process.stdout.readline() == f"{3.0 * MB}\n"


def test_a_large_result_that_had_not_left_its_dying_engine_comes_all_the_same(cluster):
    results = [cluster[0].apply(np.ones, MB, block=False), cluster[0].execute("import os; os._exit(1)", block=False)]
    assert results[0].get(20).sum() == MB
    with pytest.raises(EngineLost):
        results[1].get(20)


@pytest.mark.fault("a client is gone before its results come")
def test_a_result_in_the_store_needs_neither_its_engine_nor_the_controller(cluster):
    with client_of(cluster) as other:
        id = other[0].apply(np.full, MB, 2.0, block=False).task_ids[0]
    assert cluster.get_result(id).get(20).sum() == 2 * MB
    for engine in cluster.engines:
        os.kill(engine.pid, signal.SIGKILL)
    os.kill(cluster.status()["controller"]["pid"], signal.SIGKILL)
    shutil.rmtree(directory_of(cluster))
    assert cluster.get_result(id).get(20).sum() == 2 * MB


@pytest.mark.fault("the controller is killed during a large transfer")
def test_what_is_in_shared_memory_outlives_the_controller(cluster):
    array = np.ones(4 * MB)
    for _ in range(3):
        results = [cluster[0].push({"array": array}, block=False), cluster[1].apply(np.full, 4 * MB, 2.0, block=False)]
        balanced = [cluster.submit(np.sum, array) for _ in range(4)]
        os.kill(cluster.status()["controller"]["pid"], signal.SIGKILL)
        results[0].get(20)
        assert results[1].get(20).sum() == 8 * MB
        assert [result.result(20) for result in balanced] == [4 * MB] * 4
    assert cluster[0].execute("float(array.sum())").value == 4 * MB


@pytest.mark.fault("the memory that a host's processes share is full, or gone")
def test_what_somebody_removes_from_shared_memory_costs_nobody_what_they_have(cluster):
    array = np.ones(MB)
    cluster.push({"before": array})
    shutil.rmtree(directory_of(cluster))
    cluster.push({"after": array})
    assert cluster.apply(lambda: float(before.sum() + after.sum())) == [2 * MB] * 2  # noqa: F821 - of the engine
    assert cluster[0].pull("after").sum() == MB


# ---------------------------------------------------------------- where there is none


@pytest.mark.fault("the memory that a host's processes share is full, or gone")
@pytest.mark.parametrize("place", ["", "/nonexistent", "relative"])
def test_where_no_memory_is_shared_all_travels_through_the_socket(place):
    array = np.arange(MB)
    with launch(n=2, shared_memory=place) as rc:
        assert shared.find(f"ipc://{place_of(rc).socket}") is None
        rc.push({"array": array})
        np.testing.assert_array_equal(rc[1].pull("array"), array)
        log = (place_of(rc).logs / "controller.log").read_text()
        assert ("travel through the socket" in log) == bool(place)


@pytest.fixture
def mounted(tmp_path):
    """Run a script for which a directory is a file system in memory of its own; what it prints."""
    if os.getuid() or shutil.which("unshare") is None:
        pytest.skip("needs to be root, and unshare(1), to mount a file system")

    def run(directory, size, text, *arguments):
        mount = f"mount -t tmpfs -o size={size},mode=1777 tmpfs {directory}"
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-", *arguments],
            input=textwrap.dedent(text),
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


@pytest.mark.fault("the memory that a host's processes share is full, or gone")
def test_what_has_no_room_travels_through_the_socket(mounted, tmp_path):
    said = mounted(
        tmp_path,
        "8m",
        """
        import os, sys
        import numpy as np
        from ipkernel_ext import launch
        with launch(n=2, shared_memory=sys.argv[1]) as rc:
            def there():
                found = [os.path.join(top, name) for top, _, names in os.walk(sys.argv[1]) for name in names]
                return sum(os.path.getsize(path) for path in found) // 2**20
            small, large = np.ones(2**17), np.arange(2**22)
            rc.push({"small": small, "large": large})
            print(there(), bool((rc[1].pull("large") == large).all()), rc[0].pull("small").sum())
            rc.push({str(name): None for name in "abc"})
            kept = [rc.push({f"x{i}": np.full(2**18, i)}) for i in range(20)]
            print(there() <= 7, [int(rc[1].pull(f"x{i}").sum()) // 2**18 for i in range(20)] == list(range(20)))
            with open(sys.argv[1] + "/filler", "wb", buffering=0) as filler:
                try:
                    while True:
                        filler.write(bytes(4096))
                except OSError as error:
                    print(error.strerror)
            rc.push({"again": small})
            print(rc[0].pull("again").sum(), rc.submit(np.full, 2**18, 7).result()[5])
        """,
        str(tmp_path),
    )
    assert said == ["1 True 131072.0", "True True", "No space left on device", "131072.0 7"]


def test_a_client_that_sees_another_dev_shm_gets_all_through_the_socket(mounted, cluster):
    cluster.push({"theirs": np.ones(MB)})
    said = mounted(
        "/dev/shm",
        "64m",
        f"""
        import os
        import numpy as np
        from ipkernel_ext import RemoteController
        with RemoteController(connection_file={str(place_of(cluster).connection("client"))!r}) as rc:
            rc.push({{"ours": np.full(2**20, 2.0)}})
            print(rc[0].pull("theirs").sum(), rc.apply(lambda: float(ours.sum())), os.listdir("/dev/shm"))
        """,
    )
    assert said == [f"{1.0 * MB} [{2.0 * MB}, {2.0 * MB}] []"]


# ---------------------------------------------------------------- nothing is left


def test_memory_comes_back_when_nobody_needs_it(cluster):
    for number in range(20):
        cluster.push({"x": np.full(MB, number)})
    assert len(blobs_in(directory_of(cluster))) <= 3
    assert cluster[0].pull("x")[0] == 19


@pytest.mark.fault("a whole cluster is killed at once")
def test_what_dead_clusters_have_left_is_removed_by_the_next_one(cluster, tmp_path):
    dead = shared.root("/dev/shm") / os.urandom(8).hex()
    shared.make(dead, tmp_path / "gone", b"proof")
    (dead / ("0" * 32)).write_bytes(bytes(100))
    with launch(n=1):
        assert not dead.exists()
        assert directory_of(cluster).exists()


def test_what_a_killed_client_has_left_is_nobodys(cluster):
    with script(cluster, 'rc.push({"x": np.ones(2**20)}); print("pushed", flush=True); sys.stdin.read()') as process:
        process.stdout.readline()
        assert [is_held(path) for path in blobs_in(directory_of(cluster))] == [True]
        process.kill()
        process.wait()
        cluster.execute("del x")
        assert [is_held(path) for path in blobs_in(directory_of(cluster))] == [False]


def test_a_large_result_without_shared_memory_does_not_wait_for_the_task_behind_it():
    with launch(n=1, shared_memory="") as rc:
        large = rc[0].apply(bytes, 20 * MB, block=False)
        behind = rc[0].apply(time.sleep, 600, block=False)
        assert len(large.get(30)) == 20 * MB
        behind.cancel()
