"""A child process of the agent: started detached from everything of the caller, watched by the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ipkernel_ext.core.messages import Exit


class Child:
    """One child. Its standard input is a pipe whose other end is held here, so it notices our death.

    Parameters
    ----------
    command
        What to run.
    log : Path
        Where its output goes.
    environment
        Of the child.
    pass_fds
        Further descriptors that it inherits.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=dict(environment),
                start_new_session=True,
                pass_fds=pass_fds,
            )
        self.pid = self._process.pid
        self.descriptor = os.pidfd_open(self.pid)

    def ended(self) -> Exit | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return Exit(exit_code=code) if code >= 0 else Exit(signal=-code)

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        self._process.send_signal(number)

    def release(self) -> None:
        """Let it notice that its owner is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def wait(self, timeout: float) -> bool:  # seconds
        """Wait for its end. False when the time ran out."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Give the descriptors back, after its end."""
        os.close(self.descriptor)
        self.release()
        try:
            os.killpg(self.pid, signal.SIGKILL)  # what its user code started and left behind
        except ProcessLookupError:
            pass

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""
