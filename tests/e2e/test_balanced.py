"""Balanced work that is cancelled, or whose engines die, with real processes."""

import itertools
import os
import subprocess
import sys
import textwrap
import time

import pytest

from ipkernel_ext.errors import CompositeError, DependencyFailed, EngineLost, NoEngines, TaskCancelled


def hang(x):
    """Some items never end."""
    print("begun", flush=True)
    while x:
        pass
    return x


def die_once(path):
    """The first time, the engine ends."""
    import os

    if not os.path.exists(path):
        open(path, "w").close()
        os._exit(1)
    return "again"


def begun(result, count):
    """Wait until so many tasks run."""
    said = 0
    for output in result.follow():
        said += output.text.count("begun")
        if said == count:
            return


def test_cancel_takes_chunks_away_and_interrupts_those_that_run(cluster):
    result = cluster.map(hang, range(1, 50), chunksize=4, block=False)
    begun(result, 2)
    assert result.cancel()
    with pytest.raises(TaskCancelled):
        result.get(20)
    assert cluster.map(abs, range(-10, 0)) == list(range(10, 0, -1))


def test_cancel_of_submitted_calls(cluster):
    running = [cluster.submit(hang, 1) for _ in range(2)]
    for result in running:
        begun(result, 1)
    queued = [cluster.submit(hang, 1) for _ in range(5)]
    later = cluster.submit(abs, -1, after=queued[0])
    cluster.cancel([*queued, *running])
    with pytest.raises(DependencyFailed, match="TaskCancelled"):
        later.get(20)
    for result in [*running, *queued]:
        with pytest.raises(TaskCancelled):
            result.get(20)
        assert result.cancelled()
    assert cluster.submit(abs, -1).get(20) == 1


def test_closing_an_imap_cancels_what_was_sent(cluster):
    values = cluster.imap(hang, itertools.count(), chunksize=1)
    assert next(values) == 0
    values.close()
    assert cluster.submit(abs, -1).get(20) == 1


def test_a_failed_item_ends_a_map_although_others_hang(cluster):
    def f(x):
        if x == 0:
            raise KeyError(x)
        while True:
            pass

    with pytest.raises(KeyError):
        cluster.map(f, range(100))
    assert cluster.map(abs, [-1]) == [1]


def test_ctrl_c_in_a_map_cancels_it():
    script = """
        import itertools, os, signal, threading
        from ipkernel_ext import launch
        def f(x):
            while x: pass
        with launch(n=2) as rc:
            for call in (lambda: rc.map(f, range(100)), lambda: list(rc.imap(f, itertools.count()))):
                threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
                try:
                    call()
                except KeyboardInterrupt:
                    print("here", rc.map(abs, [-1]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=50)
    assert done.stdout == "here [1]\nhere [1]\n", done.stderr


def test_retries_start_a_task_again_elsewhere_or_on_the_successor(cluster, tmp_path):
    assert cluster.submit(die_once, tmp_path / "a", retries=1).get(20) == "again"
    assert cluster.map(die_once, [tmp_path / "b"], retries=1) == ["again"]
    cluster.wait_for_engines(2, 20)
    with pytest.raises(EngineLost):
        cluster.submit(die_once, tmp_path / "c").get(20)
    cluster.wait_for_engines(2, 20)


def test_an_addressed_call_may_be_started_again_on_the_restarted_engine(cluster, tmp_path):
    assert cluster[0].apply(die_once, tmp_path / "a", retries=1) == "again"


def test_when_the_engines_it_is_kept_to_are_gone_it_says_so(cluster):
    view = cluster[[1]]
    view.kill()
    until = time.monotonic() + 20
    while len(cluster) > 1 and time.monotonic() < until:
        cluster._link.channel.wait_roster(lambda roster: len(roster.ids) == 1, 1)
    with pytest.raises((NoEngines, EngineLost)):
        view.submit(abs, -1).get(20)
    assert cluster.submit(abs, -1).get(20) == 1


@pytest.mark.parametrize(("chunksize", "note"), [(1, "at item 3 of the map"), (2, "in items 2 to 3 of the map")])
def test_what_is_lost_with_its_engine_names_its_items(cluster, chunksize, note):
    def work(x):
        if x == 3:
            os._exit(1)

    with pytest.raises(EngineLost) as raised:
        cluster.map(work, range(5), chunksize=chunksize)
    assert raised.value.__notes__[-1] == note


def test_engines_that_are_lost_alike_are_told_as_one(cluster):
    with pytest.raises(CompositeError, match=r"2 of 2 engines failed: 2 × EngineLost: .* on \[0-1\]"):
        cluster.execute("import os; os._exit(3)")
