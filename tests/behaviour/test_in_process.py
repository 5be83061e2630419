"""What only a cluster with a manual clock can show."""

import pytest

from ipkernel_ext.errors import NoEngines, NotConnected
from ipkernel_ext.testing import InProcessCluster


def test_several_clients_have_their_own_results_and_share_the_namespaces():
    cluster = InProcessCluster(2)
    one, two = cluster.client(), cluster.client()
    one.push({"x": 1})
    assert two["x"] == [1, 1]
    assert len(one.status()["clients"]) == 2


def test_a_lost_engine_is_gone_and_the_others_go_on():
    cluster = InProcessCluster(3)
    rc = cluster.client()
    rc.push({"x": 1})
    cluster.kill_engine(1)
    assert rc.ids == [0, 2]
    assert rc["x"] == [1, 1]
    cluster.add_engine()
    assert rc.ids == [0, 2, 3], "an id is not used again"


def test_results_are_forgotten_on_all_sides_once_they_were_collected():
    cluster = InProcessCluster(2)
    rc = cluster.client()
    for _ in range(50):
        rc.execute("1")
    cluster.advance(1)
    cluster.advance(1)
    assert rc.status()["clients"][0]["tasks"] == 0
    assert all(not engine.core.inventory().finished for engine in cluster._engines.values())


def test_without_engines():
    cluster = InProcessCluster(0)
    rc = cluster.client()
    with pytest.raises(NoEngines):
        rc.execute("1")
    with pytest.raises(NoEngines):
        rc.submit(abs, 1).result()
    with pytest.raises(TimeoutError, match="0 of 1"):
        rc.wait_for_engines(1, 0)


def test_a_closed_client_says_so():
    rc = InProcessCluster(1).client()
    rc.close()
    with pytest.raises(NotConnected, match="closed"):
        rc.execute("1")
