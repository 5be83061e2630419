"""Several clients of one cluster: what one runs and prints, the other sees."""

import os
import queue

from ipkernel_ext import RemoteController, launch


def test_a_client_follows_another():
    events = queue.SimpleQueue()
    with launch(n=2) as rc, RemoteController(rc.status()["controller"]["address"]) as other:
        other.follow(show=events.put)
        rc.execute("print('hello')")
        seen = [events.get(timeout=20) for _ in range(3)]
        assert (seen[0].kind, seen[0].engines, seen[0].text) == ("run", [0, 1], "print('hello')")
        assert seen[0].pid == os.getpid() and seen[0].client != other.status()["clients"][-1]["id"]
        assert sorted((event.engines, event.text) for event in seen[1:]) == [([0], "hello\n"), ([1], "hello\n")]
        other.execute("1")
        other.follow(False)
        rc.execute("2")
        other.execute("3")
        assert events.empty()


def test_it_is_printed_with_who_and_where(capsys):
    done = queue.SimpleQueue()
    with launch(n=1) as rc, RemoteController(rc.status()["controller"]["address"]) as other:
        other.follow()
        other.follow(show=done.put)
        rc.execute("1 / 0", block=False).wait(20)
        assert [done.get(timeout=20).kind for _ in range(2)] == ["run", "failed"]
        other.follow()
        rc.execute("print('seen')")
        other.close()
    assert f"{os.getpid()} [0] >>> print('seen')\n" in capsys.readouterr().out
