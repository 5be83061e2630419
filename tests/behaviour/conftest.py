"""The same behaviour over in-process wires and over real processes."""

import gc

import pytest

from ipkernel_ext import launch
from ipkernel_ext.testing import InProcessCluster


@pytest.fixture(scope="session")
def clusters():
    """Real clusters for all these tests, one by each way to start engines; none of them may end an engine."""
    with launch(n=4, start_method="fork") as forked, launch(n=4, start_method="spawn") as spawned:
        yield {"forked": forked, "spawned": spawned}


@pytest.fixture(params=["memory", "forked", "spawned"])
def rc(request, clusters):
    """A client of four engines with empty namespaces."""
    if request.param == "memory":
        yield InProcessCluster(4).client()
        return
    yield clusters[request.param]
    clusters[request.param].reset()
    clusters[request.param].apply(gc.freeze)  # what is left, modules above all, no later reset goes over again
    assert clusters[request.param].queue_status()["unassigned"] == 0
