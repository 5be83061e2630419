"""Connection files for others, who may do less than the owner of the cluster."""

import queue

import pytest

from ipkernel_ext import RemoteController
from ipkernel_ext.config import keys
from ipkernel_ext.errors import AuthenticationError, CompositeError, NotAllowed
from tests.e2e.test_commands import run
from tests.e2e.test_security import working
from tests.e2e.test_tcp import cluster, raises_soon

__all__ = ["cluster", "working"]


def invite(access, path):
    done = run("ipcluster", "invite", "--access", access, "-o", str(path))
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout
    assert path.stat().st_mode & 0o777 == 0o600
    return path


@pytest.mark.fault("a key is used for what it is not for")
def test_who_is_invited_to_read_sees_and_changes_nothing(working, tmp_path):
    path = invite("read", tmp_path / "read.json")
    working.rc.push({"kept": 1})
    events = queue.SimpleQueue()
    with RemoteController(connection_file=path) as guest:
        assert guest[0].peek("kept") == 1
        assert "no user code" in repr(guest.stacks())
        assert len(guest.status()["engines"]) == 1
        guest.follow(show=events.put)
        working.rc.execute("print('hello')")
        assert [events.get(timeout=20).text for _ in range(2)] == ["print('hello')", "hello\n"]
        for forbidden in (
            lambda: guest[0].execute("kept = 2"),
            lambda: guest[0].pull("kept"),
            lambda: guest.submit(abs, 1).get(),
            lambda: guest.clear_queue(),
            lambda: guest.interrupt(),
            lambda: guest.kill(),
            lambda: guest.cluster.scale(0),
            lambda: guest.shutdown(),
            lambda: guest.profile(),
        ):
            with pytest.raises(NotAllowed, match="this client's key is for 'read'"):
                forbidden()
        with pytest.raises(CompositeError, match="NotAllowed"):
            guest.execute("kept = 2")
    assert working.rc[0]["kept"] == 1


def test_who_is_invited_to_run_runs_and_does_not_end_the_cluster(working, tmp_path):
    path = invite("run", tmp_path / "run.json")
    with RemoteController(connection_file=path) as guest:
        assert guest[0].execute("6 * 7").value == 42
        guest.push({"theirs": 1})
        for forbidden in (guest.kill, guest.restart, guest.shutdown, guest.clear_queue):
            with pytest.raises(NotAllowed, match="this client's key is for 'run'"):
                forbidden()
    assert working.rc[0]["theirs"] == 1
    assert run("ipcluster", "rotate-keys").returncode == 0
    with RemoteController(connection_file=working.copy("client")) as again:
        assert again[0]["theirs"] == 1
    raises_soon(AuthenticationError, path)


def test_a_cluster_without_a_port_invites_nobody(command):
    controller = command("ipcontroller")
    while "Ctrl-C" not in controller.stdout.readline():
        pass
    done = run("ipcluster", "invite")
    assert done.returncode != 0
    assert "has no TCP port" in done.stderr and "ParallelController.ip" in done.stderr


def test_keys_are_not_in_what_is_printed(working, tmp_path):
    done = run("ipcluster", "invite", "-o", str(tmp_path / "run.json"))
    kept = keys.load(working.place.keys)
    assert not any(pair.secret in done.stdout + done.stderr for pair in (kept.run, kept.read, kept.client, kept.server))
