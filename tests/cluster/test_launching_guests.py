"""``--engines=dask``: engines inside the workers of a real Dask cluster, which a wheel brings."""

import subprocess
import sys
import sysconfig

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
