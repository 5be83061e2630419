"""Parts of the nursery on their own: children, the register, what agents are told."""

import json
import os
import signal
import sys

import pytest

from ipkernel_ext.config import resolved
from ipkernel_ext.core.messages import Exit
from ipkernel_ext.launcher import Cluster
from ipkernel_ext.nursery import orders, register
from ipkernel_ext.nursery.agent import BEFORE, LINES, SAID, _last_lines, _last_words, _without_ours
from ipkernel_ext.nursery.children import LINK, Child, spawn, tail
from ipkernel_ext.nursery.oom import Kills


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Start a module of this text as a child; it has ended at the end of the test."""
    (tmp_path / "child_module.py").write_text("")
    started = []

    def start(text, **options):
        (tmp_path / "child_module.py").write_text(text)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        started.append(spawn("child_module", str(tmp_path / "log"), environment, **options))
        return started[-1]

    yield start
    for each in started:
        each.signal(signal.SIGKILL)
        each.wait(10)
        each.close()


@pytest.mark.parametrize(
    ("text", "exit"),
    [
        ("", Exit(exit_code=0)),
        ("raise SystemExit(3)", Exit(exit_code=3)),
        ("import os; os.kill(os.getpid(), 9)", Exit(signal=9)),
    ],
)
def test_a_child_says_how_it_ended(child, text, exit):
    one = child(text)
    os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
    assert one.ended() == exit
    assert one.ended() == Exit()  # it is told once


def test_a_child_reads_its_orders_and_then_notices_our_end(child, tmp_path):
    text = "import sys\nprint(sys.stdin.readline(), flush=True)\nsys.stdin.read()\nprint('free')"
    one = child(text, orders=orders.write({"a": 1}), owned=True)
    assert one.ended() is None
    one.release()
    assert one.wait(20)
    assert tail(str(tmp_path / "log")).split() == ['{"a":', "1}", "free"]


def test_a_child_that_nobody_owns_has_no_input(child, tmp_path):
    assert child("import sys; print(repr(sys.stdin.read()))").wait(20)
    assert tail(str(tmp_path / "log")) == "''"


def test_a_child_has_the_descriptor_it_was_given(child):
    reader, writer = os.pipe()
    child(f"import os; os.write({LINK}, b'here')", link=writer)
    os.close(writer)
    assert os.read(reader, 10) == b"here"
    os.close(reader)


def test_what_a_child_left_in_its_group_ends_with_it(child, tmp_path):
    child_pid = tmp_path / "pid"
    text = f"""
import os, time
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    time.sleep(300)
open({str(child_pid)!r}, "w").write(str(pid))
"""
    one = child(text)
    assert one.wait(20)
    descriptor = None
    try:
        descriptor = os.pidfd_open(int(child_pid.read_text()))
    except ProcessLookupError:
        return
    orphan = Child.__new__(Child)
    orphan._descriptor = descriptor
    assert orphan._wait_readable(20)
    os.close(descriptor)


def test_a_process_is_known_by_its_pid_and_its_start(child):
    one = child("import time; time.sleep(300)")
    process = register.Process.of(one.pid)
    assert process.runs()
    assert not register.Process(one.pid, process.started - 1).runs()
    one.signal(signal.SIGKILL)
    one.wait(20)
    assert not process.runs()


def test_the_register_is_what_was_written(tmp_path):
    me = register.Process.of(os.getpid())
    given = Cluster(2, settings=resolved.Settings())._orders()
    engines = [register.Engine(me, "boot", 0, "log"), register.Engine(register.Process(me.pid, 1), "b", 1, "log")]
    written = register.Register("agent", me, given, None, engines, [(2, "b"), (3, None)])
    path = tmp_path / "register.json"
    written.write(path)
    assert register.read(path) == written
    assert written.living() == [me]
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_no_register_or_a_damaged_one_is_none(tmp_path):
    assert register.read(tmp_path / "none") is None
    (tmp_path / "damaged").write_text("{")
    assert register.read(tmp_path / "damaged") is None


def test_orders_are_one_line_and_leave_what_follows():
    reader, writer = os.pipe()
    os.write(writer, orders.write({"text": "two\nlines"}) + b"rest")
    assert orders.first_line(reader) == {"text": "two\nlines"}
    assert os.read(reader, 10) == b"rest"
    os.close(reader)
    os.close(writer)


def test_orders_may_be_longer_than_a_pipe_holds(child, tmp_path):
    one = child("import sys; print(len(sys.stdin.readline()))", orders=orders.write("x" * 200_000))
    assert one.wait(20)
    assert tail(str(tmp_path / "log")) == "200003"


def test_orders_of_a_cluster_are_json(tmp_path):
    given = Cluster(256, settings=resolved.Settings())._orders()
    assert given["setup"]["path"] == sys.path
    assert json.loads(orders.write(given)) == json.loads(json.dumps(given))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("2026-01-01 10:00:00,123 INFO this is engine 3\n", ""),
        ("out of memory\n2026-01-01 10:00:00,123 WARNING gone\n", "out of memory"),
        ("Fatal Python error: Aborted\n\nCurrent thread:\n  File x\n", "Fatal Python error: Aborted"),
    ],
)
def test_last_words(text, words):
    assert _last_words(_without_ours(text)) == words


def test_of_a_log_only_what_was_written_since(tmp_path):
    log = tmp_path / "log"
    log.write_text("earlier\n")
    since = log.stat().st_size
    assert tail(str(log), since=since) == ""
    log.write_text("earlier\nlater\n")
    assert tail(str(log), since=since) == "later"
    log.write_text("cut\n")
    assert tail(str(log), since=since) == "cut"


@pytest.mark.parametrize(
    ("cgroups", "counter"),
    [
        ("0::/a/b\n", "a/b/memory.events"),
        ("4:memory:/a/b\n0::/\n", "memory/a/b/memory.oom_control"),
        ("4:memory:/of/the/host\n0::/\n", "memory/memory.oom_control"),
        ("0::/of/the/host\n", "memory.events"),
    ],
)
def test_the_kernels_kills_are_counted_in_both_versions_of_cgroups(tmp_path, cgroups, counter):
    own = tmp_path / "own"
    own.write_text(cgroups)
    file = tmp_path / "cgroup" / counter
    file.parent.mkdir(parents=True)
    file.write_text("oom_kill 5\n")
    kills = Kills(tmp_path / "cgroup", own)
    assert not kills.take()
    file.write_text("under_oom 0\noom_kill 7\n")
    assert [kills.take() for _ in range(3)] == [True, True, False]


def test_a_kill_that_nobody_took_is_forgotten(tmp_path):
    own, events = tmp_path / "own", tmp_path / "memory.events"
    own.write_text("0::/\n")
    events.write_text("oom_kill 0\n")
    kills = Kills(tmp_path, own)
    events.write_text("oom_kill 1\n")
    kills.age()
    assert kills.take(), "it may be of a child whose end we have not seen yet"
    events.write_text("oom_kill 2\n")
    kills.age()
    kills.age()
    assert not kills.take()


def test_where_nobody_counts_nobody_knows(tmp_path):
    assert not Kills(tmp_path, tmp_path / "none").take()


def test_last_lines_begin_with_the_fatal_error_and_are_few():
    many = [f"line {n}" for n in range(100)]
    assert _last_lines(many).splitlines() == many[-LINES:]
    fatal = [*many, "Fatal Python error: Aborted", *many]
    assert _last_lines(fatal).splitlines() == [*many[-BEFORE:], "Fatal Python error: Aborted", *many[: LINES - 1]]
    stack = ["Fatal Python error: A", "  File x", '  File "/IPython/core/interactiveshell.py", line 1', "  File y"]
    assert _last_lines(stack).splitlines() == stack[:2], "what is below is not the user's"
    assert len(_last_lines(["x" * 2 * SAID])) == SAID
