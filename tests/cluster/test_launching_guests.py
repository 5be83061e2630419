"""``--engines=dask`` and ``--engines=ray``: engines inside real clusters of these, which a wheel each brings."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile

import psutil
import pytest

from ipkernel_ext import RemoteController
from tests.cluster.programs import ipcluster


def environment_with(package, tmp_path_factory):
    """Python of a virtual environment that has this package; the rest is this one's."""
    home = tmp_path_factory.mktemp(package)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", package]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"the wheel {package} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "rest.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return python


@pytest.fixture(scope="session")
def dask_python(tmp_path_factory):
    """With Dask."""
    return environment_with("distributed", tmp_path_factory)


DASK = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def dask(dask_python, tmp_path):
    """Address of a scheduler with two workers."""
    script = tmp_path / "dask_cluster.py"
    script.write_text(DASK)
    with open(tmp_path / "dask.log", "wb") as log:
        cluster = subprocess.Popen(
            [str(dask_python), str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=tmp_path
        )
    yield cluster.stdout.readline().decode().strip()
    cluster.stdin.close()
    cluster.wait(30)
    cluster.stdout.close()


def test_an_address_is_needed():
    said = ipcluster("start", "--engines=dask", "-n", "1")
    assert said.returncode == 1
    assert "which Dask cluster? --address tcp://HOST:8786" in said.stderr


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_engines_inside_the_workers_of_dask(dask, dask_python):
    started = ipcluster(
        "start", "--daemonize", "--engines=dask", f"--address={dask}", "-n", "3", python=str(dask_python)
    )
    assert started.returncode == 0, started.stderr
    try:
        with RemoteController() as rc:
            assert rc.ids == [0, 1, 2]
            workers = {psutil.Process(engine.pid).parent().parent().pid for engine in rc.engines}
            assert len(workers) == 2, "each worker is the parent of one outpost"
            assert rc.apply(abs, -3) == [3, 3, 3]
            rc.cluster.scale(1)
            assert rc.ids == [0]
            pids = [engine.pid for engine in rc.engines]
    finally:
        assert ipcluster("stop").returncode == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_scheduler_is_said(dask_python):
    started = ipcluster("start", "--engines=dask", "--address=tcp://127.0.0.1:1", "-n", "1", python=str(dask_python))
    assert started.returncode == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in started.stderr


# ---------------------------------------------------------------- Ray

TOKEN = {"RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


@pytest.fixture(scope="session")
def ray_python(tmp_path_factory):
    """With Ray."""
    return environment_with("ray", tmp_path_factory)


@contextlib.contextmanager
def ray_cluster(python, home, **environment):
    """A head node with two processors; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as temporary, open(home / "ray.log", "w+") as log:
        head = subprocess.Popen(
            [str(python.with_name("ray")), "start", "--head", "--block", f"--port={port}", "--num-cpus=2",
             "--node-ip-address=127.0.0.1", "--object-store-memory=100000000", "--disable-usage-stats",
             "--include-dashboard=false", f"--temp-dir={temporary}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**own, "HOME": str(home), **environment},
        )  # fmt: skip
        try:
            while "Ray runtime started" not in (home / "ray.log").read_text():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    head.wait(0.2)
                assert head.returncode is None, (home / "ray.log").read_text()
            yield f"127.0.0.1:{port}"
        finally:
            processes = psutil.Process(head.pid).children(recursive=True)
            head.send_signal(signal.SIGTERM)  # it drains, and ends what it has started
            head.wait(40)
            _, alive = psutil.wait_procs(processes, 5)
            for process in alive:
                process.kill()


@pytest.fixture(scope="session")
def ray(ray_python, tmp_path_factory):
    """Address of a cluster that asks for no token."""
    with ray_cluster(ray_python, tmp_path_factory.mktemp("ray"), RAY_AUTH_MODE="disabled") as address:
        yield address


def test_ray_needs_an_address():
    said = ipcluster("start", "--engines=ray", "-n", "1")
    assert said.returncode == 1
    assert "which Ray cluster? --address HOST:6379" in said.stderr


def test_no_ray_there_is_said():
    said = ipcluster("start", "--engines=ray", "--address=127.0.0.1:1", "-n", "1")
    assert said.returncode == 1
    assert "no Ray cluster answers at 127.0.0.1:1: [Errno 111] Connection refused" in said.stderr


def test_no_ray_here_is_said(tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError('not installed')")
    with socket.create_server(("127.0.0.1", 0)) as listens:
        address = f"--address=127.0.0.1:{listens.getsockname()[1]}"
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        said = ipcluster("start", "--engines=ray", address, "-n", "1", env=environment)
    assert said.returncode == 1
    assert 'Ray is not installed here: pip install "ipkernel_ext[ray]"' in said.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_engines_inside_the_nodes_of_ray(ray, ray_python, tmp_path):
    options = "--engines=ray", f"--address={ray}", "--ParallelGuest.cpus=0.5", "-n", "3"
    environment = {**os.environ, "HOME": str(tmp_path)}
    started = ipcluster("start", "--daemonize", *options, python=str(ray_python), env=environment)
    assert started.returncode == 0, started.stderr
    try:
        with RemoteController() as rc:
            assert rc.ids == [0, 1, 2]
            actors = {psutil.Process(engine.pid).parent().parent() for engine in rc.engines}
            assert len(actors) == 3
            assert all("ray::" in actor.name() for actor in actors)
            rc.execute("import os; x = os.getpid()")
            pids = rc.pull("x")
            assert pids == [engine.pid for engine in rc.engines]
            assert rc.map(abs, range(-3, 3)) == [3, 2, 1, 0, 1, 2]
            rc.cluster.scale(1)
            assert rc.ids == [0]
            rc.cluster.scale(4)
            assert rc.ids == [0, 1, 2, 3]
            pids += [engine.pid for engine in rc.engines]
    finally:
        assert ipcluster("stop").returncode == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_engines_wait_for_room_in_ray(ray, ray_python, tmp_path):
    options = "--engines=ray", f"--address={ray}", "-n", "3", "--ParallelCluster.start_timeout=20"
    environment = {**os.environ, "HOME": str(tmp_path)}
    started = ipcluster("start", "--daemonize", *options, python=str(ray_python), env=environment)
    assert started.returncode == 0, started.stderr
    try:
        assert "2 of 3 engines" in started.stdout
        assert "1 engine waits for room in that cluster" in started.stdout
    finally:
        assert ipcluster("stop").returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_cluster_of_ray_with_a_token(ray_python, tmp_path):
    with ray_cluster(ray_python, tmp_path, RAY_AUTH_MODE="token", **TOKEN) as address:
        options = "start", "--daemonize", "--engines=ray", f"--address={address}", "-n", "1"
        environment = {**os.environ, "HOME": str(tmp_path)}
        refused = ipcluster(*options, python=str(ray_python), env=environment)
        assert refused.returncode == 1
        assert "does not let us in" in refused.stderr
        assert "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token" in refused.stderr
        started = ipcluster(*options, python=str(ray_python), env={**environment, **TOKEN})
        assert started.returncode == 0, started.stderr
        assert ipcluster("stop").returncode == 0
