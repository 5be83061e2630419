"""The owner of a process holds the other end of its standard input; the end of that file is the owner's end."""

from __future__ import annotations

import fcntl
import os


def take_owner() -> int:
    """The descriptor that tells of the owner's end, moved out of the way of user code."""
    owner = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 64)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return owner
