"""The same behaviour over in-process wires and over real processes."""

import pytest

from ipkernel_ext import launch
from ipkernel_ext.testing import InProcessCluster


@pytest.fixture(scope="session")
def processes():
    """One real cluster for all these tests; none of them may end its engines."""
    with launch(n=4) as rc:
        yield rc


@pytest.fixture(params=["memory", "processes"])
def rc(request, processes):
    """A client of four engines with empty namespaces."""
    if request.param == "memory":
        yield InProcessCluster(4).client()
        return
    yield processes
    processes.reset()
    assert processes.queue_status()["unassigned"] == 0
