"""The debugger on engines, as it is used in scripts, and whoever dies meanwhile."""

import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ipkernel_ext import RemoteController, dialogue, launch
from ipkernel_ext.display import Screen
from ipkernel_ext.errors import EngineLost, NothingToDebug

FAIL = "def f(n):\n    half = n / 2\n    return half / 0\n\nkept = 1\nf(6)"


@pytest.fixture
def rc():
    with launch(n=2, input_timeout=60.0) as rc:
        yield rc


def type_lines(monkeypatch, *lines):
    """Have the user type these, or do them; gives the list of what is left."""
    left = list(lines)

    def read(prompt=""):
        print(prompt, end="")
        line = left.pop(0)
        return line() if callable(line) else line

    monkeypatch.setattr("builtins.input", read)
    return left


def fail(rc):
    result = rc.execute(FAIL, block=False)
    assert result.wait(20) and not result.successful()


def test_a_script_debugs_what_failed(rc, monkeypatch, capsys):
    with pytest.raises(NothingToDebug, match="nothing has failed on engine 1"):
        rc.debug(1)
    fail(rc)
    left = type_lines(monkeypatch, "p half", lambda: rc.execute("other = 2", targets=1) and "up", "!kept = 5", "q")
    rc.debug()
    out = capsys.readouterr().out
    assert left == []
    assert out.count("[0] ipdb> ") == 4 and "3.0\n" in out and "return half / 0" in out
    assert rc["kept"] == [5, 1]
    assert rc[1]["other"] == 2, "other engines go on meanwhile"
    type_lines(monkeypatch, "q")
    rc[1].debug()
    assert "[1] ipdb> " in capsys.readouterr().out


def test_the_end_of_the_input_ends_it(rc, monkeypatch):
    def end():
        raise EOFError

    fail(rc)
    type_lines(monkeypatch, end)
    rc.debug(0)
    assert rc["kept"] == [1, 1]


def test_a_breakpoint_offers_itself_to_whoever_waits(rc, monkeypatch, capsys):
    monkeypatch.setattr("ipkernel_ext.dialogue.possible", lambda: True)

    def stops(n):
        total = n + 1
        breakpoint()  # noqa: T100
        return total

    left = type_lines(monkeypatch, "n", "p total", "!total = 10", "c", "c")
    assert rc.apply(stops, 1)[1] == 2
    assert left == []
    out = capsys.readouterr().out
    assert "[0] ipdb> " in out and "[1] ipdb> " in out


def test_the_value_of_a_cell_that_stopped_has_its_label(rc, monkeypatch, capsys):
    monkeypatch.setattr("ipkernel_ext.dialogue.possible", lambda: True)
    type_lines(monkeypatch, "c")
    Screen().follow(rc[1].execute("def add(n):\n    breakpoint()\n    return n + 1\nadd(4)", block=False))
    assert "Out[1:1]: 5" in capsys.readouterr().out


def test_a_breakpoint_of_a_call_that_nobody_waits_for(rc, monkeypatch, capsys):
    monkeypatch.setattr("ipkernel_ext.dialogue.possible", lambda: True)
    announced = threading.Event()
    announce = dialogue.announce
    monkeypatch.setattr("ipkernel_ext.dialogue.announce", lambda wanted: (announce(wanted), announced.set()))
    result = rc[1].execute("a = 1\nbreakpoint()\na = 2", block=False)
    assert announced.wait(20)
    assert "engine 1 waits at a breakpoint: %pxdebug 1, or rc.debug(1)" in capsys.readouterr().err
    assert rc[0].execute("1").value == 1
    type_lines(monkeypatch, "c")
    rc.debug()
    assert result.wait(20) and result.successful()
    assert rc[1]["a"] == 2


@pytest.mark.fault("code stops at a breakpoint, and its client has no terminal")
def test_a_breakpoint_without_a_terminal_is_passed_over(rc):
    result = rc.execute("breakpoint()\nkept = 1", block=False)
    assert result.wait(20) and result.successful()
    assert all("the debugger ends: its client has no terminal" in text for text in result.stdout)


@pytest.mark.fault("nobody types at the debugger's prompt")
def test_it_waits_for_so_long_only(monkeypatch):
    monkeypatch.setattr("ipkernel_ext.dialogue.possible", lambda: True)
    with launch(n=1, input_timeout=0.5) as rc:
        result = rc[0].execute("breakpoint()\nkept = 1", block=False)
        done = threading.Event()
        result.add_done_callback(lambda _: done.set())
        assert done.wait(20) and result.successful()
        assert "the debugger ends: nothing was typed for 0.5 s" in result.stdout


def test_ctrl_c_twice_at_the_prompt_leaves_it(rc, monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    fail(rc)
    type_lines(monkeypatch, interrupt, "p half", interrupt, interrupt)
    with pytest.raises(KeyboardInterrupt):
        rc.debug(0)
    assert rc["kept"] == [1, 1]
    out, err = capsys.readouterr()
    assert "Ctrl-C once more leaves the debugger" in out and "3.0" in out
    assert "does not wait for this" not in err, "the user has left"


@pytest.mark.fault("an engine is killed while it is debugged")
def test_the_engine_dies_while_it_is_debugged(rc, monkeypatch, capsys):
    fail(rc)
    told = threading.Event()

    class Told(io.StringIO):
        def write(self, text):
            if "engine 0 does not wait for this any more: Enter goes on" in text:
                told.set()
            return super().write(text)

    def kill():
        monkeypatch.setattr("sys.stderr", Told())
        os.kill(rc.known[0].pid, signal.SIGKILL)
        assert told.wait(20)
        return "p half"

    type_lines(monkeypatch, kill, *["p half"] * 5)
    with pytest.raises(EngineLost, match="killed by signal 9"):
        rc.debug(0)


CLIENT = """
import sys
from ipkernel_ext import RemoteController
rc = RemoteController(sys.argv[1])
rc[0].execute("kept = 1\\n1 / 0", block=False).wait(20)
rc.debug(0)
"""


@pytest.fixture
def forgetful(shortened):
    """A cluster whose controller does not wait long for a client that is away."""
    shortened("ipkernel_ext.core.controller", "KEEP_AFTER", 0.5)
    with launch(n=2, input_timeout=60.0) as rc:
        yield rc


@pytest.mark.fault("a client is killed while it debugs an engine")
def test_the_client_dies_while_it_debugs(forgetful):
    url = forgetful.status()["controller"]["address"]
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    said = ""
    while "ipdb> " not in said:
        piece = client.stdout.read(1)
        assert piece, said
        said += piece
    client.kill()
    client.wait(20)
    client.stdin.close()
    client.stdout.close()
    begun = time.monotonic()
    assert forgetful[0].pull("kept") == 1, "the engine goes on"
    assert time.monotonic() - begun < 20


def test_a_second_client_may_debug_what_failed(rc, monkeypatch, capsys):
    fail(rc)
    with RemoteController(rc.status()["controller"]["address"]) as other:
        type_lines(monkeypatch, "p half", "q")
        other.debug(1)
    assert "3.0" in capsys.readouterr().out
