"""What passes between hosts is cut, garbled, slowed and brought to a stand, on the way to a controller over TCP."""

import collections
import hashlib
import os
import time

import pytest

from ipkernel_ext import RemoteController
from ipkernel_ext.errors import EngineLost
from tests.e2e.proxy import Proxy
from tests.e2e.test_faults import controller_of, soon, stopped
from tests.e2e.test_life_and_death import begun
from tests.e2e.test_tcp import cluster

__all__ = ["cluster"]


@pytest.fixture
def network(cluster):
    """A controller, and a stretch of network before its port."""
    cluster.start("--ip=127.0.0.1", "--ParallelController.engine_grace=4")
    (url,) = cluster.file("client").tcp
    proxy = Proxy(url)
    yield proxy
    proxy.close()


@pytest.fixture
def rc(network, cluster, command):
    """A client beyond that network, of an engine that is on the controller's host."""
    command("ipengine")
    with RemoteController(connection_file=cluster.copy("client", tcp=[network.url])) as rc:
        rc.wait_for_engines(1, 20)
        yield rc


@pytest.fixture
def beyond(network, cluster, command):
    """A client on the controller's host, of an engine that is beyond that network."""
    command("ipengine", f"--file={cluster.copy('engine', tcp=[network.url])}")
    with RemoteController() as rc:
        rc.wait_for_engines(1, 20)
        yield rc


def state_is(rc, state, timeout):
    """Wait until the engine's is this one."""
    return rc._link.channel.wait_roster(lambda r: 0 in r.engines and r.engines[0].state == state, timeout)


@pytest.mark.fault("a connection is cut, or a bit of it turned over, at any byte")
@pytest.mark.parametrize("direction", [0, 1], ids=["to the controller", "from the controller"])
@pytest.mark.parametrize("what", ["cut", "flip"])
def test_every_call_gives_its_value_once_wherever_a_connection_is_harmed(rc, network, what, direction):
    rc.execute("import collections; runs = collections.Counter()")

    def note(number, data):
        runs[number] += 1  # noqa: F821
        return data[::-1]

    data = os.urandom(400_000)
    places = [0, 20, 64, 300, 500, 700, 1000, 3000, 50_000, 262_000, 300_000, 390_000]
    for number, place in enumerate(places):
        network.harm(what, direction, place)
        network.cut()
        with soon(5):
            assert hashlib.sha256(rc[0].apply(note, number, data)).digest() == hashlib.sha256(data[::-1]).digest()
        assert network.harmed.wait(5), f"nothing was harmed after {place} bytes"
    assert rc[0]["runs"] == collections.Counter(range(len(places)))


@pytest.mark.fault("the network comes and goes")
def test_a_network_that_comes_and_goes_costs_nothing_but_time(beyond, network, tmp_path):
    ledger = str(tmp_path / "ledger")

    def work(x):
        with open(ledger, "a") as file:
            file.write(f"{x}\n")
        time.sleep(0.01)
        return x

    beyond.push({"kept": 1})
    result = beyond.map(work, range(300), chunksize=1, block=False)
    for turn in range(12):
        before = network.accepted
        with network.down():
            assert state_is(beyond, "away", 10)
        assert state_is(beyond, "ready", 10), f"turn {turn}"
        assert network.accepted > before
    assert result.get(30) == list(range(300))
    with open(ledger) as file:
        assert sorted(map(int, file)) == list(range(300))
    assert beyond[0]["kept"] == 1


@pytest.mark.fault("a machine is gone without a word")
@pytest.mark.slow
def test_silence_is_noticed_and_after_its_time_an_engine_counts_as_lost(beyond, network):
    beyond.push({"kept": 1})
    running = beyond[0].execute("print('begun', flush=True); import time; time.sleep(1); 42", block=False)
    begun(running)
    with network.standing(), soon(12):
        assert state_is(beyond, "away", 12)
    assert state_is(beyond, "ready", 10)
    assert (running.get(10).value, beyond[0]["kept"]) == (42, 1)
    waiting = beyond[0].execute("import time; print('begun', flush=True); time.sleep(60)", block=False)
    begun(waiting)
    with network.standing(), soon(10 + 4 + 2):
        error = waiting.exception(20)
        assert isinstance(error, EngineLost) and "nothing heard for 4 s" in str(error)
        assert error.started, "it is on the controller's host, so that is known"


@pytest.mark.fault("the controller stands still while an engine is away")
@pytest.mark.slow
def test_the_time_that_a_controller_stood_still_is_nobodys_silence(beyond, network):
    beyond.push({"kept": 1})
    with network.down():
        assert state_is(beyond, "away", 10)
        with stopped(controller_of(beyond)):
            time.sleep(8)  # longer than an engine may be silent
    assert state_is(beyond, "ready", 10)
    assert beyond[0]["kept"] == 1


@pytest.mark.fault("the network is slow")
@pytest.mark.slow
def test_a_large_transfer_over_a_slow_network_is_not_taken_for_silence(beyond, network):
    boot = beyond.engines[0].boot
    data = os.urandom(15_000_000)
    network.rate = 1_000_000
    beyond.push({"data": data})
    assert [engine.state for engine in beyond.engines] == ["ready"]
    network.rate = None
    assert hashlib.sha256(beyond[0]["data"]).digest() == hashlib.sha256(data).digest()
    assert beyond.engines[0].boot == boot
