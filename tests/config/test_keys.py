"""Keys of a cluster: each role its own, kept in a private file, never shown."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from ipkernel_ext.config import keys
from ipkernel_ext.config.connection import Address, Connection
from ipkernel_ext.errors import NotConnected


def test_every_pair_is_another() -> None:
    one, other = keys.make(), keys.make()
    pairs = [one.server, one.client, one.engine, other.server, other.client, other.engine]
    assert len({pair.secret for pair in pairs} | {pair.public for pair in pairs}) == 12


def test_a_role_gets_its_own_pair_and_no_secret_of_another() -> None:
    cluster = keys.make()
    for role in keys.ROLES:
        given = cluster.of(role)
        assert given.server == cluster.server.public
        assert cluster.roles()[given.own.public] == role
        text = msgspec.json.encode(given).decode()
        others = {cluster.server, cluster.client, cluster.engine} - {given.own}
        assert not any(pair.secret in text for pair in others)


def test_secrets_are_not_shown() -> None:
    cluster = keys.make()
    given = cluster.of("client")
    found = Connection("ipc://x", 1, 1, "h", "/d", "client", [], given)
    for thing in (cluster, given, given.own, found, Address(("tcp://x:1",), given, "f")):
        for pair in (cluster.server, cluster.client, cluster.engine):
            assert pair.secret not in repr(thing)
            assert pair.secret not in str(thing)


def test_they_are_kept_for_the_next_life(tmp_path: Path) -> None:
    path = tmp_path / "controller.key"
    assert keys.load(path) is None
    cluster = msgspec.structs.replace(keys.make(), port=5555)
    keys.save(path, cluster)
    assert keys.load(path) == cluster
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(NotConnected, match="can be read by others"):
        keys.load(path)


def test_a_damaged_file_says_so_and_shows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "controller.key"
    cluster = keys.make()
    keys.save(path, cluster)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(NotConnected, match="damaged") as caught:
        keys.load(path)
    assert cluster.server.secret not in str(caught.value)


def test_an_invitation_has_a_key_of_its_own() -> None:
    cluster = keys.make()
    given = {access: cluster.of(access).own.public for access in ("client", "engine", "run", "read")}
    assert len(set(given.values())) == 4
    assert cluster.roles() == {public: access for access, public in given.items()}


def test_keys_of_before_there_were_invitations_say_how_to_get_some() -> None:
    earlier = msgspec.structs.replace(keys.make(), run=None)
    assert "run" not in earlier.roles().values()
    with pytest.raises(NotConnected, match="rotate-keys"):
        earlier.of("run")


def test_those_made_beforehand_may_be_a_link_and_a_groups(tmp_path: Path) -> None:
    path, link = tmp_path / "mounted", tmp_path / "controller.key"
    cluster = keys.make()
    keys.save(path, cluster)
    link.symlink_to(path)
    path.chmod(0o440)
    assert keys.mounted(link) == cluster
    path.chmod(0o444)
    with pytest.raises(NotConnected, match=r"controller.key can be read by everybody; `chmod o= "):
        keys.mounted(link)
    path.chmod(0o600)
    path.write_text("{}")
    with pytest.raises(NotConnected, match="damaged"):
        keys.mounted(link)
    with pytest.raises(NotConnected, match="cannot be read: No such file"):
        keys.mounted(tmp_path / "none")
