"""A host that has too few processes or processors for what is to run, or stands still altogether."""

import os
import re
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import psutil
import pytest

from ipkernel_ext import RemoteController, launch
from tests.e2e.test_broken_connections import cluster
from tests.e2e.test_faults import soon
from tests.e2e.test_nursery import processes_of

__all__ = ["cluster"]

PIDS = Path("/sys/fs/cgroup/pids")


@pytest.fixture
def few_processes():
    """A cgroup, and how to limit the number of its processes and threads."""
    if os.getuid() or not (PIDS / "cgroup.procs").exists():
        pytest.skip("needs to be root, and cgroups of version 1")
    directory = PIDS / f"ipkernel_ext-test-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    yield directory
    while (directory / "cgroup.procs").read_text():
        pass
    directory.rmdir()


@pytest.mark.fault("the host allows no further process or thread")
@pytest.mark.parametrize("limit", [10, 13])
def test_engines_that_the_host_does_not_allow_are_an_error_that_says_so(few_processes, limit):
    script = f"""
        import os
        open("{few_processes}/cgroup.procs", "w").write(str(os.getpid()))
        open("{few_processes}/pids.max", "w").write("{limit}")
        from ipkernel_ext import launch
        launch(n=6, timeout=3)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert "EngineStartError" in done.stderr
    assert "of 6 engines are there" in done.stderr
    assert re.search("Resource temporarily unavailable|can't start new thread", done.stderr)


@pytest.fixture
def busy():
    """Eight processes that compute."""
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    yield
    for spinner in spinners:
        spinner.kill()
        spinner.wait()


@pytest.mark.fault("the processors are overloaded")
@pytest.mark.slow
def test_an_overloaded_host_is_not_taken_for_a_dead_one(cluster, command, busy):
    """For longer than anybody may be silent over TCP."""
    cluster.start()
    engine = command("ipengine", f"--file={cluster.copy('engine')}")
    psutil.Process(engine.pid).nice(5)  # a twelfth of a processor, where it shares one with the eight
    with RemoteController(connection_file=cluster.copy("client")) as rc:
        rc.wait_for_engines(1, 40)
        boot = rc.engines[0].boot
        result = rc[0].execute(
            "import time; until = time.monotonic() + 15\nwhile time.monotonic() < until: pass", block=False
        )
        seen = set()
        while not result.wait(0.5):
            seen |= {(engine.boot, engine.state) for engine in rc._link.channel.roster.engines.values()}
        assert seen == {(boot, "ready")}
        result.get(1)


@pytest.mark.fault("everything stands still for a while")
def test_a_cluster_that_stood_still_goes_on_as_it_was():
    with launch(n=2) as rc:
        rc.push({"kept": 1})
        boots = [engine.boot for engine in rc.engines]
        result = rc.map(lambda x: (time.sleep(0.01), x)[1], range(100), chunksize=1, block=False)
        next(iter(result))
        processes = processes_of(rc)
        for process in processes:
            process.suspend()
        assert not result.wait(4.0)
        for process in processes:
            process.resume()
        with soon(10):
            assert result.get(20) == list(range(100))
        assert rc["kept"] == [1, 1]
        assert [engine.boot for engine in rc.engines] == boots
