"""The OpenSSH client's command line. So ``~/.ssh/config``, agents and jump hosts work as they always do."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Sequence

ALIVE = 5, 3  # seconds between two signs of life, and how many may stay unanswered


def command(
    host: str, remote: str, options: Sequence[str] = (), *, timeout: float = 15.0, asks: bool = False
) -> list[str]:
    """Run a command of the POSIX shell on a host, whatever the user's shell there is.

    Parameters
    ----------
    options
        More of ssh's, which come first and so count.
    timeout : float
        Seconds in which the host must answer.
    asks : bool
        Whether ssh may ask the user, for a password.
    """
    interval, count = ALIVE
    given = {
        "BatchMode": "no" if asks else "yes",
        "ConnectTimeout": str(max(1, round(timeout))),
        "ServerAliveInterval": str(interval),
        "ServerAliveCountMax": str(count),
        "ExitOnForwardFailure": "yes",
        "ControlMaster": "no",
        "ControlPath": "none",
    }
    settings = [word for name, value in given.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-T", *options, *settings, "--", host, f"exec /bin/sh -c {shlex.quote(remote)}"]


def passage() -> str:
    """A name for the far end of a forwarded unix socket, which nobody can know before it is there."""
    return f"/tmp/.ipkernel_ext-{uuid.uuid4().hex}"


def failure(host: str, code: int, said: str) -> str:
    """What went wrong, in ssh's own words or those of the host."""
    lines = [line for line in said.strip().splitlines() if not line.startswith(("Warning: Permanently added", "** "))]
    words = "\n".join(lines[-5:]) or f"ssh ended with {code}"
    return f"{host} cannot be reached by ssh: {words}" if code == 255 else f"{host}: {words}"
