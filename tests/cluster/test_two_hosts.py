"""A controller on one host; an engine and a client on another, which got nothing but a file."""

import json
import tempfile
import textwrap

import pytest

from ipkernel_ext import RemoteController
from ipkernel_ext.config.place import Place

AWAY = f"{tempfile.gettempdir()}/elsewhere"


@pytest.fixture
def cluster(hosts):
    """The controller runs on h1, an engine on h2."""
    first, second = hosts
    controller = first.start("ipcontroller", "--ip=10.77.0.1")
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
