"""A controller and a client on one host, engines on several others."""

import json
import tempfile

import numpy as np
import pytest

from ipkernel_ext import RemoteController
from ipkernel_ext.config.place import Place
from tests.cluster.hosts import address, network, why_not

RATE = 400  # Mbit/s
SIZE = 8 * 2**20
AWAY = f"{tempfile.gettempdir()}/elsewhere/engine.json"
OVERHEAD = 1.2  # of what crosses a cable, beyond the array


class Cluster:
    """Two engines on each host but the first."""

    def __init__(self, hosts):
        self.hosts = hosts
        controller = hosts[0].start("ipcontroller", f"--ip={address(0)}")
        while "Ctrl-C" not in (line := controller.stdout.readline()):
            assert line, controller.stderr.read()
        self.place = Place.of_profile(None)
        self.rc = RemoteController()
        for host in hosts[1:]:
            host.receive(AWAY, self.place.connection("engine").read_text())
            host.start("ipengine", "-n2", f"--file={AWAY}")
        self.rc.wait_for_engines(2 * len(hosts[1:]), 40)

    def crossed(self, way):
        """Bytes that have left or reached each host."""
        told = [json.loads(host.run("ip", "-s", "-j", "link", "show", "eth0"))[0] for host in self.hosts]
        return np.array([device["stats64"][way]["bytes"] for device in told])

    def push(self):
        """An array to all engines; how often it has left, and reached, each host."""
        array = np.random.default_rng(SIZE).random(SIZE // 8)
        sent, received = self.crossed("tx"), self.crossed("rx")
        self.rc.push({"array": array})
        sums = self.rc.execute("float(array.sum())")
        assert {result.value for result in sums} == {array.sum()}
        return (self.crossed("tx") - sent) / SIZE, (self.crossed("rx") - received) / SIZE

    def close(self):
        self.rc.close()
        self.place.sweep()


@pytest.fixture
def cluster():
    if why := why_not():
        pytest.skip(why)
    with network(4, RATE) as hosts:
        made = Cluster(hosts)
        yield made
        made.close()


def test_an_array_leaves_each_host_once(cluster):
    sent, received = cluster.push()
    assert sent.max() < OVERHEAD, sent
    assert received.max() < OVERHEAD, received
    assert sorted(np.round(sent)) == [0, 1, 1, 1], "the last one passes nothing on"


@pytest.mark.fault("hosts of engines cannot reach each other")
def test_hosts_that_do_not_reach_each_other_get_it_from_the_controller(cluster):
    for number, host in enumerate(cluster.hosts[1:], 1):
        for other in range(1, 4):
            if other != number:
                host.run("ip", "route", "add", "unreachable", address(other))
    for _ in range(2):
        sent, received = cluster.push()
        assert np.round(sent).tolist() == [3, 0, 0, 0], sent
        assert received[1:].max() < OVERHEAD, received
