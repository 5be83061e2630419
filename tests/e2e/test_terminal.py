"""What stands on a real terminal."""

import contextlib
import os
import pty
import select
import subprocess
import sys

import pytest

LIMIT = 40.0  # seconds to wait for a piece of text


class Terminal:
    """IPython on a terminal of its own."""

    def __init__(self):
        self._ours, theirs = pty.openpty()
        options = ["--simple-prompt", "--no-banner", "--colors=NoColor"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "IPython", *options],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # it becomes the controlling terminal
        )
        os.close(theirs)

    def type(self, text):
        os.write(self._ours, text.encode())

    def until(self, text):
        """What it shows up to this text."""
        shown = ""
        while text not in shown:
            assert select.select([self._ours], [], [], LIMIT)[0], f"{text!r} does not come, but {shown!r}"
            shown += os.read(self._ours, 4096).decode()
        return shown

    def close(self):
        self.type("exit()\n")
        with contextlib.suppress(OSError):  # EIO: nobody has it open any more
            while os.read(self._ours, 4096):
                pass
        self._process.wait(20)
        os.close(self._ours)


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
