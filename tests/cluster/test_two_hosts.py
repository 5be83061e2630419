"""A controller on one host; an engine and a client on another, which got nothing but a file."""

import json
import tempfile
import textwrap

import pytest

from ipkernel_ext import RemoteController
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import EngineLost, NoEngines
from tests.cluster.hosts import CONTROLLER, OTHER

AWAY = f"{tempfile.gettempdir()}/elsewhere"


@pytest.fixture
def cluster(request, hosts):
    """The controller runs on h1, with options that a test may name, an engine on h2."""
    first, second = hosts
    controller = first.start("ipcontroller", "--ip=10.77.0.1", *getattr(request, "param", []))
    said = []
    while "Ctrl-C" not in (line := controller.stdout.readline()):
        assert line, controller.stderr.read()
        said.append(line)
    assert any("tcp://10.77.0.1:" in line for line in said)
    place = Place.of_profile(None)
    for role in ("client", "engine"):
        second.receive(f"{AWAY}/{role}.json", place.connection(role).read_text())
    second.start("ipengine", f"--file={AWAY}/engine.json")
    with RemoteController() as rc:
        rc.wait_for_engines(1, 20)
        yield rc, first, second
    controller.terminate()
    controller.wait(10)
    place.sweep()


def test_an_engine_and_a_client_elsewhere(cluster):
    rc, _, second = cluster
    assert rc.status()["controller"]["host"] == "h1"
    assert rc.engines[0].host == "h2"
    script = f"""
        import json
        import numpy as np
        from ipkernel_ext import RemoteController
        with RemoteController(connection_file="{AWAY}/client.json") as rc:
            address = rc.status()["controller"]["address"]
            x = np.arange(1000.0).reshape(10, 100)
            rc.push(dict(x=x))
            back = rc[0]["x"]
            big = np.random.default_rng(1).integers(0, 256, 20_000_000, dtype=np.uint8)
            rc.push(dict(big=big))
            print(json.dumps(dict(
                address=address,
                host=rc[0].apply(__import__("socket").gethostname),
                same=bool((back == x).all() and back.dtype == x.dtype),
                out=rc.execute("print('from', x.shape); x.sum()").stdout,
                big=bool((rc[0]["big"] == big).all()),
            )))
    """
    said = json.loads(second.python(textwrap.dedent(script)))
    assert said.pop("address").startswith("tcp://10.77.0.1:")
    assert said == {"host": "h2", "same": True, "out": ["from (10, 100)\n"], "big": True}
    assert rc[0].execute("x.shape").value == (10, 100)


@pytest.mark.fault("the cable is cut")
def test_a_cut_cable_does_not_cost_the_namespace(cluster):
    rc, first, _ = cluster
    rc["kept"] = 41
    pid = rc.engines[0].pid
    wait = rc._link.channel.wait_roster
    first.run("ip", "link", "set", "eth0", "down")
    assert wait(lambda roster: roster.engines[0].state == "away", 20), "a silent peer is given up after 10 s"
    first.run("ip", "link", "set", "eth0", "up")
    assert wait(lambda roster: roster.engines[0].state == "ready", 20)
    assert rc[0]["kept"] == 41
    assert rc.engines[0].pid == pid


def test_everywhere_lists_what_others_can_reach(hosts):
    first, second = hosts
    controller = first.start("ipcontroller", "--ip=*")
    while "Ctrl-C" not in controller.stdout.readline():
        pass
    place = Place.of_profile(None)
    text = place.connection("client").read_text()
    (url,) = json.loads(text)["tcp"]
    assert url.startswith("tcp://10.77.0.1:")
    second.receive(f"{AWAY}/client.json", text)
    script = f"from ipkernel_ext import RemoteController as R; print(R(connection_file='{AWAY}/client.json').ids)"
    assert second.python(script) == "[]\n"
    controller.terminate()
    controller.wait(10)
    place.sweep()


def state_is(rc, state, timeout):
    """Wait until the engine's is this one."""
    return rc._link.channel.wait_roster(lambda r: 0 in r.engines and r.engines[0].state == state, timeout)


@pytest.mark.fault("the network carries in one direction only")
@pytest.mark.slow
@pytest.mark.parametrize("deaf", [0, 1], ids=["the controller's host", "the engine's host"])
def test_a_network_that_carries_in_one_direction_only(cluster, deaf):
    rc, first, second = cluster
    rc["kept"] = 41
    pid = rc.engines[0].pid
    host, away = (first, OTHER) if deaf else (second, CONTROLLER)
    host.run("ip", "route", "add", "blackhole", f"{away}/32")
    assert state_is(rc, "away", 25)
    host.run("ip", "route", "del", "blackhole", f"{away}/32")
    assert state_is(rc, "ready", 20)
    assert rc[0]["kept"] == 41
    assert rc.engines[0].pid == pid


@pytest.mark.fault("a machine is gone without a word")
@pytest.mark.slow
@pytest.mark.parametrize("cluster", [["--ParallelController.engine_grace=5"]], indirect=True, ids=["5 s"])
def test_a_machine_that_is_gone_takes_its_tasks_along_and_that_is_said(cluster):
    rc, first, second = cluster
    waiting = rc[0].execute("print('begun', flush=True); import time; time.sleep(300)", block=False)
    balanced = rc.submit(abs, -1)
    next(waiting.follow())
    first.run("ip", "link", "set", "eth0", "down")
    second.end()
    assert state_is(rc, "away", 20)
    assert not waiting.done()
    with pytest.raises(EngineLost, match="nothing heard for 5 s") as raised:
        waiting.get(15)
    assert raised.value.started is None
    with pytest.raises((EngineLost, NoEngines)):
        balanced.result(5)
