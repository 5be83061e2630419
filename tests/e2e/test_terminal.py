"""What stands on a real terminal."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

LIMIT = 40.0  # seconds to wait for a piece of text


class Terminal:
    """IPython on a terminal of its own."""

    def __init__(self):
        self._ours, theirs = pty.openpty()
        self._shown = ""
        options = ["--simple-prompt", "--no-banner", "--colors=NoColor"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "IPython", *options],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_begin,
        )
        os.close(theirs)

    def type(self, text):
        os.write(self._ours, text.encode())

    def until(self, text):
        """What it shows up to this text, from where the last look ended."""
        while text not in self._shown:
            assert select.select([self._ours], [], [], LIMIT)[0], f"{text!r} does not come, but {self._shown!r}"
            self._shown += os.read(self._ours, 4096).decode()
        before, _, self._shown = self._shown.partition(text)
        return before

    def close(self):
        self.type("exit()\n")
        until = time.monotonic() + LIMIT
        with contextlib.suppress(OSError):  # EIO: nobody has it open any more
            while time.monotonic() < until and select.select([self._ours], [], [], LIMIT)[0]:
                os.read(self._ours, 4096)
        self._process.kill()  # if something went wrong before, it may still be at it
        self._process.wait(20)
        os.close(self._ours)


def _begin():
    os.close(os.open(os.ttyname(0), os.O_RDWR))  # it becomes the controlling terminal
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever started these tests may ignore it


@pytest.fixture
def terminal():
    terminal = Terminal()
    terminal.until("In [1]: ")
    terminal.type("%load_ext ipkernel_ext\n%cluster start -n 2\n")
    terminal.until("started 2 engines")
    yield terminal
    terminal.close()


def test_the_table_of_the_engines_is_drawn_in_place_until_ctrl_c(terminal):
    terminal.type("%engines -w\n")
    terminal.until("memory")
    redrawn = terminal.until("\x1b[3F\x1b[J")
    assert redrawn.count("ready") == 2
    terminal.type("\x03")
    terminal.until("In [")
    terminal.type("6 * 7\n")
    assert "KeyboardInterrupt" not in terminal.until("42")


def test_the_debugger_of_an_engine_at_a_terminal(terminal):
    terminal.type("%px secret_value = 5\n%px -t 1 1 / 0\n")
    terminal.until("ZeroDivisionError: division by zero")
    terminal.type("%pxdebug\n")
    terminal.until("[1] ipdb> ")
    terminal.type("p secret_v\t\n")
    terminal.until("secret_value")
    terminal.until("\n5")
    terminal.until("[1] ipdb> ")
    terminal.type("import time; print('slow'); time.sleep(60)\n")
    terminal.until("\r\nslow")
    terminal.type("\x03")
    terminal.until("KeyboardInterrupt")
    terminal.until("[1] ipdb> ")
    terminal.type("!secret_value = 6\nq\n")
    terminal.until("In [")
    terminal.type("%px secret_value\n")
    terminal.until("Out[1:")
    assert "6" in terminal.until("\n")


def test_a_breakpoint_in_a_cell_at_a_terminal(terminal):
    terminal.type("%px -t 0 a = 1; breakpoint(); b = a + 1\n")
    terminal.until("[0] ipdb> ")
    terminal.type("!a = 40\nc\n")
    terminal.until("In [")
    terminal.type("%px -t 0 b\n")
    terminal.until("Out[0:")
    assert "41" in terminal.until("\n")
