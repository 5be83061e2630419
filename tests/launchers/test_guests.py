"""Engines as guests of another cluster, which a list of states stands in for; ``tests/cluster`` has real ones."""

import pytest

from ipkernel_ext.config import settings
from ipkernel_ext.launchers import make, ray
from ipkernel_ext.launchers.guest import Guests
from ipkernel_ext.launchers.launcher import LaunchError, LaunchOrder


class Host:
    """Has as many places as it has states."""

    def __init__(self, *states):
        self.is_states = list(states)
        self.begun = []

    def places(self, count):
        return min(count, len(self.is_states))

    def begin(self, name, orders, connection, groups):
        self.begun.append(list(groups))

    def states(self, name):
        if isinstance(self.is_states[0], Exception):
            raise self.is_states[0]
        return self.is_states


def order_in(tmp_path):
    connection = tmp_path / "engine.json"
    connection.write_text("{}")
    return LaunchOrder(str(tmp_path), str(tmp_path), "socket", str(connection), None, "/usr/bin/python", {})


@pytest.fixture
def start(tmp_path):
    """Starts engines among places of these states; the host, and the guests."""

    def started(engines, *states):
        host = Host(*states)
        guests = Guests(host, order_in(tmp_path))
        guests.start(range(engines))
        return host, guests

    return started


def test_engines_are_dealt_out_and_those_without_room_wait(start):
    host, guests = start(5, "running", "pending")
    assert host.begun == [["0,2,4", "1,3"]]
    assert guests.state() == (5, 2, "2 engines wait for room in that cluster", "")


def test_those_of_a_place_that_ended_are_told_once_and_not_expected(start):
    host, guests = start(5, "running", "running")
    assert guests.state() == (5, 0, "", "")
    host.is_states[1] = "ended"
    told = "the processes that had engines 1,3, or these engines, have ended"
    assert guests.state() == (3, 0, "", told)
    assert guests.state() == (3, 0, "", "")


def test_nobody_misses_engines_that_were_scaled_away(start):
    host, guests = start(3, "running", "running", "running")
    guests.keep([0, 1], 0)
    host.is_states[2] = "ended"
    assert guests.state() == (2, 0, "", "")


def test_a_cluster_that_is_gone_is_told_in_its_words(start):
    host, guests = start(2, "running")
    host.is_states[0] = LaunchError("no scheduler answers")
    assert guests.state() == (0, 0, "", "no scheduler answers")


@pytest.mark.parametrize("where", ["dask", "ray"])
def test_an_address_is_needed(where, tmp_path):
    with pytest.raises(ValueError, match="which (Dask|Ray) cluster"):
        make(where, settings.settings_of(settings.classes_of({}, where)).of_place(where), order_in(tmp_path))


def test_a_token_is_looked_for_where_ray_looks(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not ray.has_token({})
    assert ray.has_token({"RAY_AUTH_TOKEN": "x"})
    assert ray.has_token({"RAY_AUTH_TOKEN_PATH": "/x"})
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch()
    assert ray.has_token({})


@pytest.mark.parametrize("address", ["head", "127.0.0.1:port", "ray://"])
def test_what_is_no_address_is_said(address, tmp_path):
    config = settings.classes_of({"address": address}, "ray")
    guests = make("ray", settings.settings_of(config).of_place("ray"), order_in(tmp_path))
    with pytest.raises(LaunchError, match=f"no Ray cluster answers at {address}"):
        guests.start([0])
