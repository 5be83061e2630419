"""joblib and scikit-learn on engines."""

import os
import sys
import threading

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

from ipkernel_ext import extras, launch
from ipkernel_ext.errors import EngineLost
from ipkernel_ext.execution import batches
from ipkernel_ext.joblib_backend import EnginesBackend, SharedArguments


@pytest.fixture(scope="module")
def engines():
    """A cluster with its backend registered, of which no test ends an engine."""
    with launch(n=2) as rc:
        rc.register_joblib_backend()
        yield rc


@pytest.fixture
def on_engines(engines):
    with joblib.parallel_config(backend="ipkernel_ext"):
        yield engines


def parallel(calls, **options):
    return joblib.Parallel(**options)(calls)


X, y = make_classification(4000, 40, random_state=0)


def test_grid_search_gives_what_it_gives_here(on_engines):
    search = GridSearchCV(LogisticRegression(max_iter=300), {"C": [0.01, 1.0, 100.0]}, cv=3, error_score="raise")
    there = search.fit(X, y).cv_results_["mean_test_score"]
    with joblib.parallel_config(backend="sequential"):
        here = search.fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_allclose(there, here)


def test_cross_val_score_runs_on_the_engines(on_engines):
    pids = on_engines.apply(os.getpid)

    class Telling(LogisticRegression):
        def score(self, X, y):
            return float(os.getpid())

    frame = pd.DataFrame(X)
    scores = cross_val_score(Telling(max_iter=20), frame, y, cv=6)
    assert set(scores) <= {float(pid) for pid in pids}
    assert float(os.getpid()) not in scores


def test_order_arguments_and_generators(on_engines):
    assert parallel(joblib.delayed(pow)(i, 2) for i in range(300)) == [i**2 for i in range(300)]
    assert sorted(parallel((joblib.delayed(abs)(-i) for i in range(20)), return_as="generator_unordered")) == [
        *range(20)
    ]
    assert parallel([joblib.delayed(lambda *args, **kwargs: (args, kwargs))(1, b=2)]) == [((1,), {"b": 2})]
    assert parallel([]) == []


def test_the_older_way_to_choose_a_backend(engines):
    with joblib.parallel_backend("ipkernel_ext", n_jobs=2):
        assert set(parallel(joblib.delayed(os.getpid)() for _ in range(20))) <= set(engines.apply(os.getpid))
    assert set(joblib.Parallel(2, backend="ipkernel_ext")([joblib.delayed(abs)(-1)])) == {1}


def test_no_more_engines_than_jobs(on_engines):
    assert len(set(parallel((joblib.delayed(os.getpid)() for _ in range(20)), n_jobs=1))) == 1
    backend = EnginesBackend(on_engines)
    assert [backend.effective_n_jobs(n) for n in (-1, -2, 1, 2, 50, None)] == [2, 1, 1, 2, 2, 1]
    with pytest.raises(ValueError, match="n_jobs == 0"):
        backend.effective_n_jobs(0)


def nested(_):
    """What a parallel call on an engine uses."""

    def who(_):
        return os.getpid(), threading.get_ident()

    outer = os.getpid(), threading.get_ident()
    inner = joblib.Parallel(n_jobs=4)(joblib.delayed(who)(i) for i in range(8))
    return set(inner) == {outer}


def test_parallel_calls_on_an_engine_are_sequential(on_engines):
    assert parallel(joblib.delayed(nested)(i) for i in range(4)) == [True] * 4
    search = GridSearchCV(LogisticRegression(max_iter=50), {"C": [0.1, 1.0]}, cv=2, n_jobs=2)
    assert cross_val_score(search, X[:400], y[:400], cv=2, error_score="raise").shape == (2,)


def address(array, row):
    return os.getpid(), array.ctypes.data, bool(array.flags.writeable), float(array[row])


def test_a_large_argument_goes_to_each_engine_once(on_engines):
    array = np.arange(500_000.0)
    told = parallel(joblib.delayed(address)(array, row=i) for i in range(100))
    assert {writeable for _, _, writeable, _ in told} == {False}
    assert [value for *_, value in told] == list(range(100))
    pids = {pid for pid, *_ in told}
    assert len({(pid, data) for pid, data, *_ in told}) == len(pids)
    assert on_engines.apply(lambda: len(batches._held)) == [0, 0], "and is let go of at the end"
    small = parallel(joblib.delayed(address)(array[:10], row=1) for _ in range(2))
    assert {writeable for _, _, writeable, _ in small} == {True}


def test_engines_of_a_host_share_a_large_argument(on_engines):
    def mapped():
        """The file that is the memory of what this engine holds."""
        (array,) = batches._held.values()
        with open("/proc/self/maps") as maps:
            for line in maps:
                place, *_, inode, file = [*line.split(), ""][:6]
                begin, end = (int(number, 16) for number in place.split("-"))
                if begin <= array.ctypes.data < end:
                    return inode, file
        raise AssertionError("it is in no memory")

    shared = SharedArguments(on_engines)
    shared.stand_in(joblib.parallel.BatchedCalls([(abs, (np.arange(500_000.0),), {})], None))
    one, other = on_engines.apply(mapped)
    shared.drop()
    assert one == other
    assert one[1].startswith("/dev/shm/")


def emptied(frame):
    rows = len(frame)
    frame.drop(columns=list(frame.columns), inplace=True)
    return rows


def test_tables_are_everybodys_own(on_engines):
    frame = pd.DataFrame({"a": np.arange(300_000.0)})
    assert parallel(joblib.delayed(emptied)(frame) for _ in range(8)) == [300_000] * 8
    assert list(frame.columns) == ["a"]


def test_an_error_is_raised_and_the_rest_cancelled(on_engines):
    def fail(i):
        if i == 3:
            raise ArithmeticError("the third")
        return i

    with pytest.raises(ArithmeticError, match="the third"):
        parallel(joblib.delayed(fail)(i) for i in range(50))
    assert parallel(joblib.delayed(abs)(-i) for i in range(5)) == [*range(5)]


@pytest.mark.fault("a task of joblib's ends its engine")
def test_a_task_that_ends_its_engine(cluster):
    cluster.register_joblib_backend("mine")
    array = np.arange(500_000.0)

    def die(i, array):
        if i == 5:
            os._exit(3)
        return float(array[i])

    with joblib.parallel_config(backend="mine"):
        with pytest.raises(EngineLost, match="exited with code 3") as caught:
            parallel(joblib.delayed(die)(i, array) for i in range(20))
        assert caught.value.exit_code == 3
        cluster.wait_for_engines(2, 20)
        assert parallel(joblib.delayed(die)(i, array) for i in range(5)) == [0, 1, 2, 3, 4]


def test_an_engine_that_came_later_is_sent_what_it_does_not_hold(cluster):
    backend = EnginesBackend(cluster)
    backend.configure(-1)
    array = np.arange(500_000.0)

    def told(array, row):
        return bool(array.flags.writeable), float(array[row])

    batch = joblib.parallel.BatchedCalls([(told, (array, 7), {})], backend.get_nested_backend())
    assert backend.submit(batch).result(20) == [(False, 7)]
    cluster.restart()
    assert backend.submit(batch).result(20) == [(True, 7)]
    backend.terminate()


def test_what_is_missing_is_said(cluster, monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(ImportError, match=r'pip install "ipkernel_ext\[joblib\]"'):
        cluster.register_joblib_backend()
    assert extras.needed("json", "none").dumps([]) == "[]"
