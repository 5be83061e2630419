"""Looking into engines that are busy, stopped, or in C code."""

import os
import signal
import time

import pytest

from ipkernel_ext import launch, link
from ipkernel_ext.errors import CompositeError, NoAnswer
from ipkernel_ext.profiling import by_function
from ipkernel_ext.waiting import what_runs

BUSY = """
import threading, time
step = 0
go_on = threading.Event()

def train():
    global step
    loss = 0.25
    while not go_on.wait(0.01):
        step += 1

print("begun", flush=True)
train()
"""


@pytest.fixture(scope="module")
def rc():
    with launch(n=2) as rc:
        yield rc


def begin(rc, code=BUSY):
    """Run code that says that it has begun."""
    result = rc.execute(code, block=False)
    until = time.monotonic() + 20
    while result.stdout.count("begun\n") < len(rc) and time.monotonic() < until:
        result.wait(0.01)
    return result


def end(rc, result):
    rc.interrupt()
    assert result.wait(20)


def test_engines_that_are_busy_are_looked_into(rc):
    result = begin(rc)
    try:
        first = rc.peek("step")
        until = time.monotonic() + 20
        while rc[0].peek("step") == first[0] and time.monotonic() < until:
            pass
        assert rc[0].peek("step") > first[0], "it goes on"
        assert rc.peek("loss") == [0.25, 0.25], "a local variable"
        stacks = rc.stacks()
        assert [frame.name for frame in stacks[0].frames][:2] == ["<module>", "train"]
        assert "while not go_on.wait(0.01):" in repr(stacks)
        assert not result.done()
    finally:
        end(rc, result)


def test_where_a_function_of_the_clients_is(rc):
    def wait_here():
        print("begun", flush=True)
        time.sleep(60)  # here it is

    result = rc.apply(wait_here, block=False)
    try:
        until = time.monotonic() + 20
        while "here it is" not in repr(rc[0].stacks()) and time.monotonic() < until:
            pass
        assert "time.sleep(60)  # here it is" in repr(rc[0].stacks())
    finally:
        end(rc, result)


@pytest.fixture
def hasty(monkeypatch):
    """Who looks does not wait long for an answer."""
    monkeypatch.setattr(link, "PATIENCE", 1.0)


@pytest.mark.fault("an engine is stopped while a client looks into it")
def test_one_that_is_stopped_says_so_in_time(rc, hasty):
    rc["a"] = 1
    pid = rc.engines[1].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(NoAnswer, match="engine 1 has not answered within 1 s"):
            rc[1].peek("a")
        with pytest.raises(CompositeError, match="1 × NoAnswer"):
            rc.peek("a")
        assert "[0] no user code runs\n[1] it has not answered within 1 s" in repr(rc.stacks())
        assert time.monotonic() - begun < 3 * (link.PATIENCE + 1)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert rc[1].peek("a") == 1


def test_one_in_c_code_that_keeps_the_lock_says_so_in_time(rc, hasty, tmp_path):
    os.mkfifo(gate := tmp_path / "gate")
    opens = f"import ctypes, os; gate = os.open({str(gate)!r}, os.O_RDWR)"
    reads = f"{opens}; ctypes.PyDLL(None).read(gate, ctypes.create_string_buffer(1), 1)"
    result = rc[1].execute(reads, block=False)
    until = time.monotonic() + 20
    while not (note := rc[1].stacks().note) and time.monotonic() < until:
        pass
    assert "C code keeps Python's lock" in note
    assert rc[0].stacks().text == "no user code runs"
    gate.write_text(".")
    assert result.wait(20)


def test_a_profile_tells_computing_from_waiting(rc):
    rc.execute(
        "import time\n"
        "def compute():\n"
        "    until = time.thread_time() + 0.3\n"
        "    while time.thread_time() < until: pass\n"
        "def rest(): time.sleep(0.4)"
    )
    with rc.profile(interval=0.002) as profile:
        rc.execute("compute(); rest()")
    functions = {name.split()[0]: spent for name, spent in by_function(profile.stacks).items()}
    assert functions["compute"][0] > 0.4, "of both engines"
    assert functions["rest"][1] > 0.6 and functions["rest"][0] < 0.2
    assert functions["<module>"][2] >= functions["compute"][2]
    assert sorted(profile.engines) == [0, 1]
    again = profile.table()
    assert "compute" in again
    assert profile.table() == again, "it has ended"


def test_a_profile_of_what_runs_already(rc):
    result = begin(rc)
    try:
        profile = rc[0].profile(0.002)
        while "train" not in repr(rc[0].stacks()):
            pass
        assert any("train" in name for stack in profile.stop().stacks for name in stack)
    finally:
        end(rc, result)


def test_results_tell_how_long_code_ran_and_computed(rc):
    result = rc.execute("import time; time.sleep(0.2)", block=False)
    result.get()
    for times in result.times:
        assert times.under_way >= times.seconds >= 0.2
        assert times.cpu < 0.15
    assert [times.engine for times in sorted(result.times)] == [0, 1]


def test_who_waits_is_told_what_its_engine_does_first(rc):
    busy = begin(rc[0], BUSY)
    own = rc.execute("pass", block=False)
    own[1]
    answer = rc._link.channel.ask(what_runs).result(5)
    assert answer["heads"] == [[0, busy.task_ids[0], "import threading, time"]]
    busy.cancel()
    assert own.wait(20)
