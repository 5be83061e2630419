"""Engines as workers of Dask, beside what they do for their clients."""

import os
import sys

import dask.array as da
import dask.dataframe as dd
import distributed
import numpy as np
import pandas as pd
import pytest

from ipkernel_ext import launch


@pytest.fixture(scope="module")
def rc():
    """Engines that are workers; no test ends one."""
    with launch(n=2) as rc:
        rc.become_dask()
        yield rc


@pytest.fixture(autouse=True)
def empty(request):
    yield
    if "rc" in request.fixturenames:
        request.getfixturevalue("rc").reset()


def test_the_workers_are_the_engines(rc):
    client = rc.become_dask()
    assert isinstance(client, distributed.Client)
    assert client is rc.become_dask(), "it is one"
    assert sorted(client.run(os.getpid).values()) == sorted(rc.apply(os.getpid))
    names = {worker["name"] for worker in client.scheduler_info()["workers"].values()}
    assert names == {"engine 0", "engine 1"}
    assert all(address.startswith("tls://127.0.0.1:") for address in client.run(os.getpid))


def test_arrays_and_tables_are_computed_there(rc):
    x = da.arange(1000, chunks=100)
    assert int((x**2).sum().compute()) == sum(i**2 for i in range(1000))
    frame = dd.from_pandas(pd.DataFrame({"a": [0, 1] * 50, "b": range(100)}), npartitions=4)
    assert frame.groupby("a").b.sum().compute().tolist() == [2450, 2500]


def test_the_same_data_as_px(rc):
    whole = np.arange(20.0).reshape(10, 2)
    rc.scatter("A", whole)
    A = rc.remote_value("A").to_dask()
    assert (A.shape, A.dtype, A.chunks) == ((10, 2), whole.dtype, ((5, 5), (2,)))
    np.testing.assert_array_equal(A.mean(axis=0).compute(), whole.mean(axis=0))
    rc.execute("A[:] = 1")
    assert A.sum().compute() == 20, "the engines' own memory"

    rc.scatter("frame", pd.DataFrame({"a": range(10), "b": list("ababababab")}))
    frame = rc.remote_value("frame").to_dask()
    assert frame.npartitions == 2
    assert frame.groupby("b").a.sum().compute().to_dict() == {"a": 20, "b": 25}
    assert rc.execute("frame.a.sum()").values == [10, 35]


def test_pieces_stay_where_they_are(rc):
    rc.execute("import os, numpy as np; A = np.array([os.getpid()] * 3)")
    pieces = rc.remote_value("A").to_dask().map_blocks(lambda block: np.array([block[0], os.getpid()])).compute()
    assert pieces.tolist() == [pid for pid in rc.apply(os.getpid) for _ in range(2)]


def test_an_engine_works_for_both_at_once(rc):
    client = rc.become_dask()
    running = rc.execute("import time\ngo = False\nwhile not go: time.sleep(0.001)", block=False)
    try:
        assert client.gather(client.map(lambda x: x + 1, range(20), pure=False)) == list(range(1, 21))
        assert not running.done()
    finally:

        def let_go():
            from IPython import get_ipython

            get_ipython().user_ns["go"] = True

        client.run(let_go)
    running.get(20)


def test_what_dask_has_no_collection_of(rc):
    rc.scatter("words", list("abcd"))
    with pytest.raises(TypeError, match="no collection of list"):
        rc.remote_value("words").to_dask()


def test_engines_that_came_later_join_and_all_ends(cluster):
    cluster.push({"x": 1})
    client = cluster[0].become_dask(nthreads=2)
    assert list(client.nthreads().values()) == [2]
    cluster.execute("import numpy as np; A = np.arange(3)")
    with pytest.raises(RuntimeError, match=r"engines 1 are no workers of Dask yet: become_dask"):
        cluster.remote_value("A").to_dask()
    cluster.become_dask()
    assert cluster.remote_value("A").to_dask().sum().compute() == 6
    cluster.restart(targets=1)
    assert len(cluster.become_dask().nthreads()) == 2
    cluster.stop_dask()
    cluster.stop_dask()
    assert client.status == "closed"
    with pytest.raises(RuntimeError, match="become_dask"):
        cluster[0].remote_value("A").to_dask()
    threads = cluster.apply(lambda: [t.name for t in __import__("threading").enumerate()])
    assert not [name for names in threads for name in names if "Dask" in name]
    assert cluster[0]["x"] == 1
    assert cluster.become_dask().submit(abs, -1).result() == 1, "and it can begin again"


def test_what_is_missing_is_said(cluster, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r'pip install "ipkernel_ext\[dask\]"'):
        cluster.become_dask()
