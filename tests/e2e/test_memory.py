"""Hours of small tasks leave client, controller and engines as large as they were. ``-s`` shows the figures."""

import gc
import os

import psutil
import pytest

pytestmark = pytest.mark.slow

TASKS = 100_000


@pytest.fixture
def sizes(cluster):
    """What measures the memory that is each process's own, in bytes."""
    cluster.execute("import gc")
    processes = {"client": os.getpid(), "controller": cluster.status()["controller"]["pid"]}
    processes |= {f"engine {engine.id}": engine.pid for engine in cluster.engines}

    def measure():
        gc.collect()
        cluster.execute("collected = gc.collect()")
        return {name: psutil.Process(pid).memory_full_info().uss for name, pid in processes.items()}

    return measure


def submits(cluster, count):
    for _ in range(0, count, 1000):
        futures = [cluster.submit(abs, -number) for number in range(1000)]
        assert sum(future.result() for future in futures) == 499_500


def cells(cluster, count):
    for number in range(count // 2):
        cluster.execute(f"x = {number}\nprint(x)\nx + 1")


def chunks(cluster, count):
    for _ in range(0, count, 1000):
        assert len(cluster.map(abs, range(1000), chunksize=1)) == 1000


@pytest.mark.parametrize(
    ("work", "count", "before", "limit"),
    [(submits, TASKS, 50_000, 3e6), (chunks, TASKS, 50_000, 3e6), (cells, TASKS // 10, 5_000, 2e6)],
)
def test_memory_is_flat(cluster, sizes, work, count, before, limit):
    work(cluster, before)
    first = sizes()
    work(cluster, count)
    grown = {name: size - first[name] for name, size in sizes().items()}
    each = {name: f"{bytes / count * 100_000 / 1e6:.2f} MB" for name, bytes in grown.items()}
    print(f"{work.__name__}: for each 100,000 tasks {each}")
    assert all(bytes < limit for bytes in grown.values()), grown
