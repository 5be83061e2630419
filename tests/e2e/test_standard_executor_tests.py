"""CPython's own tests of executors, where this Python or Debian's has them."""

import importlib
import sys
import unittest

import pytest

from ipkernel_ext import launch

WORKERS = 5
DEBIAN = f"/usr/lib/python3.{sys.version_info.minor}/test"  # of libpython3.N-testsuite

NOT_OURS = {
    "test_interpreter_shutdown": "it makes an executor out of nothing",
    "test_submit_after_interpreter_shutdown": "it makes an executor out of nothing",
    "test_hang_gh83386": "it makes an executor out of nothing",
    "test_hang_gh94440": "it forks its workers itself",
}


def cpythons(name):
    """One class of tests; from 3.12 on each has a module of its own."""
    modules = {"ExecutorTest": "executor", "ExecutorShutdownTest": "test_shutdown", "WaitTests": "test_wait"}
    package = "test.test_concurrent_futures"
    if sys.version_info >= (3, 12):
        package = f"{package}.{modules.get(name, 'test_as_completed')}"
    return getattr(importlib.import_module(package), name)


test = pytest.importorskip("test", reason="this Python has no package `test`")
test.__path__.append(DEBIAN)
pytest.importorskip("test.test_concurrent_futures", reason="neither this Python nor Debian's has its executor tests")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with launch(n=WORKERS) as rc:
        Engines.rc = rc
        yield


class Engines:
    """What makes those tests run on engines."""

    rc = None
    worker_count = WORKERS

    @staticmethod
    def executor_type(max_workers):
        return Engines.rc.executor(max_workers)

    def setUp(self):
        if self._testMethodName in NOT_OURS:
            self.skipTest(NOT_OURS[self._testMethodName])
        super().setUp()
        self.executor = self.executor_type(self.worker_count)

    def tearDown(self):
        self.executor.shutdown(wait=True)
        self.executor = None
        super().tearDown()


class TestExecutor(Engines, cpythons("ExecutorTest"), unittest.TestCase):
    # waits for 5 s, as the next does; tests/behaviour/test_executor.py has both, in less
    test_map_timeout = pytest.mark.slow(cpythons("ExecutorTest").test_map_timeout)


class TestWait(Engines, cpythons("WaitTests"), unittest.TestCase):
    test_timeout = pytest.mark.slow(cpythons("WaitTests").test_timeout)


class TestAsCompleted(Engines, cpythons("AsCompletedTests"), unittest.TestCase):
    pass


class TestShutdown(Engines, cpythons("ExecutorShutdownTest"), unittest.TestCase):
    pass
