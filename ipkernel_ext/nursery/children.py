"""A child process of the agent: started detached from everything of the caller, watched by the kernel.

Its life line is a pipe whose other end is held here, so it notices our death. Imports little: the
agent starts its first children before it imports anything that takes time.
"""

from __future__ import annotations

import os
import select
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipkernel_ext.core.messages import Exit

LINK = 3
"""The descriptor under which a child finds what it was passed."""

LAST_WORDS = 1 << 20  # bytes, at most


class Child:
    """One child.

    Parameters
    ----------
    pid : int
    log : str
        File that its output goes to.
    life : int or None
        The end of its life line that is held here.
    words : int or None
        The reading end of its standard error, where that is a pipe that it reads itself.
    since : int
        How long its log was before it began.
    """

    def __init__(self, pid: int, log: str, life: int | None = None, words: int | None = None, since: int = 0) -> None:
        self.pid = pid
        self.log = log
        self.since = since
        self._life = life
        self._words = words
        self._descriptor = os.pidfd_open(pid)
        self._ended = False

    def fileno(self) -> int:
        """Readable once it has ended."""
        return self._descriptor

    def ended(self) -> Exit | None:
        """How it ended; None while it runs. What its user code started and left behind ends with it."""
        from ipkernel_ext.core.messages import Exit

        try:
            info = os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # an earlier agent's, or reaped before
            if not self._wait_readable(0):
                return None
            if not self._ended:
                self._end_group()
            self._ended = True
            return Exit()
        if info is None:
            return None
        self._end_group()  # before it is reaped: until then nobody else has this number
        os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED)
        self._ended = True
        self._keep_words()
        return Exit(exit_code=info.si_status) if info.si_code == os.CLD_EXITED else Exit(signal=info.si_status)

    def _end_group(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def _keep_words(self) -> None:
        """What it had still to say when it crashed goes to its log."""
        words, self._words = self._words, None
        if words is None:
            return
        os.set_blocking(words, False)
        try:
            text = os.read(words, LAST_WORDS)
        except BlockingIOError:
            text = b""
        os.close(words)
        if text:
            try:
                log = open_log(self.log)
                os.write(log, text)
                os.close(log)
            except OSError:
                pass  # the disk is full

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if not self._ended:
            try:
                signal.pidfd_send_signal(self._descriptor, number)
            except ProcessLookupError:
                pass

    def release(self) -> None:
        """Let it notice that its owner is gone."""
        life, self._life = self._life, None
        if life is not None:
            os.close(life)

    def wait(self, timeout: float) -> Exit | None:  # seconds
        """Wait for its end. None when the time ran out."""
        return self.ended() if self._wait_readable(timeout) else None

    def _wait_readable(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def close(self) -> None:
        """Give the descriptors back, after its end."""
        os.close(self._descriptor)
        self.release()
        if self._words is not None:
            os.close(self._words)

    def tail(self) -> str:
        """The last lines of its log."""
        return tail(self.log)


def spawn(
    module: str,
    log: str,
    environment: Mapping[str, str],
    orders: bytes = b"",
    *,
    owned: bool = False,
    link: int | None = None,
    words: int | None = None,
) -> Child:
    """Start ``python -m module`` in a session of its own.

    Parameters
    ----------
    orders : bytes
        What it finds on its standard input.
    owned : bool
        Whether the end of its standard input, after the orders, is to tell it of our end.
    link : int
        A descriptor that it has as number 3.
    words : int
        See ``Child``.
    """
    reader, writer = os.pipe()
    output = open_log(log)
    since = os.fstat(output).st_size
    try:
        actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate([reader, output, output])]
        if link is not None:
            actions.append((os.POSIX_SPAWN_DUP2, link, LINK))
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", module],
            environment,
            file_actions=actions,
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
        os.close(output)
    child = Child(pid, log, writer, words, since)
    try:
        _write(writer, orders)
    except BrokenPipeError:
        pass  # it has ended already, as will be seen
    if not owned:
        child.release()
    return child


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for this signal."""
    try:
        with open(f"/proc/{pid}/status") as status:
            caught = next((line.split()[1] for line in status if line.startswith("SigCgt:")), "0")
    except OSError:
        return False
    return bool(int(caught, 16) >> (number - 1) & 1)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def open_words() -> int:
    """The reading end of a pipe. Whoever has a copy of it can open the writing end by it."""
    reader, writer = os.pipe()
    os.close(writer)
    return reader


def open_log(path: str) -> int:
    """A log file, to be written at its end."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def tail(path: str, lines: int = 20, since: int = 0) -> str:
    """The last lines of a log file; of what was written since it was that long, unless it is shorter by now."""
    try:
        with open(path, "rb") as log:
            if os.fstat(log.fileno()).st_size >= since:
                log.seek(since)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
