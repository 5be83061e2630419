"""Output of what outlived its call goes to the client of that call, and into nobody's result."""

import threading

import pytest

from ipkernel_ext import RemoteController
from ipkernel_ext.core.messages import Stream
from ipkernel_ext.pieces import LateOutput

START = (
    "import queue, threading\n"
    "jobs, done = queue.SimpleQueue(), queue.SimpleQueue()\n"
    "def work():\n"
    "    while (text := jobs.get()) is not None:\n"
    "        print(text)\n"
    "        done.put(text)\n"
    "thread = threading.Thread(target=work, daemon=True)\n"
    "thread.start()\n"
)
SAY = "jobs.put('late'); text = done.get(); print('mine')"


def _late(rc, until):
    """The piece of a client's late output that holds some text."""
    came = threading.Event()
    keep = rc._late.add

    def add(piece):
        keep(piece)
        came.set()

    rc._link.channel.on_stray = add
    while True:
        came.clear()
        for piece in rc.late_output():
            if until in piece.text:
                return piece
        assert came.wait(20), "it did not come"


@pytest.mark.fault("what a task left behind goes on printing")
def test_a_thread_that_was_left_behind_does_not_print_into_another_clients_cell(clusters):
    rc = clusters["forked"]
    rc[2].execute(START)
    place = rc.cluster.launched.place
    with RemoteController(connection_file=place.connection("client")) as other:
        assert other[2].execute(SAY).stdout == "mine\n"
        piece = _late(rc, "late\n")
        assert piece.task is None
        assert piece.engine == 2
        assert not any("late" in stray.text for stray in other.late_output())
    assert sorted(rc[2].execute(SAY).stdout.split()) == ["late", "mine"], "one of the same client is its own"
    rc[2].execute("jobs.put(None); thread.join()")
    rc.reset()


@pytest.mark.fault("what a task left behind goes on printing")
def test_a_process_that_was_left_behind_is_labelled(clusters):
    rc = clusters["spawned"]
    result = rc[1].execute("import os; status = os.system('(sleep 0.2; echo late) & echo now')")
    assert result.stdout == "now\n"
    piece = _late(rc, "late\n")
    assert piece.task is None
    assert piece.engine == 1
    rc.reset()


def test_only_the_latest_is_kept():
    late = LateOutput()
    for i in range(30):
        late.add(Stream(None, 0, 0, "stdout", f"{i:02}" * 50_000))
    kept = [piece.text[:2] for piece in late.take()]
    assert kept[-1] == "29"
    assert 5 < len(kept) < 11
    assert late.take() == []
