"""A shell command that user code waits for: its output streams, an interrupt ends it.

Whose output it is, and what an interrupt is, must not be known here: text goes to a callable, and
any exception in the thread that waits ends the child.
"""

from __future__ import annotations

import codecs
import os
import select
import signal
import subprocess
from collections.abc import Callable

GRACE = 1.0  # seconds the child has to end after each signal
_LOOK = 0.1  # seconds between looks at whether it has ended, where the system cannot tell


def run(command: str, write: Callable[[str], None]) -> int:
    """Run a command in the system's shell, without input; its exit code, or minus the signal.

    Returns when the command has ended. Output of processes it left behind is not waited for.
    """
    child = subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert child.stdout is not None
    with child.stdout as stdout:
        try:
            _copy(child, stdout.fileno(), write)
            return child.wait()
        except BaseException:
            _end(child)
            raise


def _copy(child: subprocess.Popen[bytes], source: int, write: Callable[[str], None]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    ended = False
    end = os.pidfd_open(child.pid) if hasattr(os, "pidfd_open") else None
    try:
        while True:
            watched = [source] if ended or end is None else [source, end]
            ready, _, _ = select.select(watched, [], [], 0 if ended else None if end is not None else _LOOK)
            if source in ready:
                chunk = os.read(source, 65536)
                write(decoder.decode(chunk, final=not chunk))
                if not chunk:
                    return
            elif ended:
                write(decoder.decode(b"", final=True))
                return
            else:
                ended = child.poll() is not None
    finally:
        if end is not None:
            os.close(end)


def _end(child: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            break
        try:
            child.wait(GRACE)
            return
        except subprocess.TimeoutExpired:
            continue
    child.wait()
