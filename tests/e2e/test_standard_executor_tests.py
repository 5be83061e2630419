"""CPython's own tests of executors, where this Python has them."""

import unittest

import pytest

from ipkernel_ext import launch

executor = pytest.importorskip(
    "test.test_concurrent_futures.executor", reason="this Python has no package `test` with its executor tests"
)
from test.test_concurrent_futures import test_as_completed, test_shutdown, test_wait  # noqa: E402

pytestmark = pytest.mark.slow

WORKERS = 5

NOT_OURS = {
    "test_interpreter_shutdown": "it makes an executor out of nothing",
    "test_submit_after_interpreter_shutdown": "it makes an executor out of nothing",
    "test_hang_gh83386": "it makes an executor out of nothing",
    "test_hang_gh94440": "it forks its workers itself",
}


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


class TestExecutor(Engines, executor.ExecutorTest, unittest.TestCase):
    pass


class TestWait(Engines, test_wait.WaitTests, unittest.TestCase):
    pass


class TestAsCompleted(Engines, test_as_completed.AsCompletedTests, unittest.TestCase):
    pass


class TestShutdown(Engines, test_shutdown.ExecutorShutdownTest, unittest.TestCase):
    pass
