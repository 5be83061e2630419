"""The owner of a process holds the other end of its standard input; the end of that file is the owner's end."""

from __future__ import annotations

import fcntl
import os

HIGH = 64


def take_owner() -> int:
    """The descriptor that tells of the owner's end, moved out of the way of user code."""
    owner = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, HIGH)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return owner


def out_of_the_way(descriptor: int) -> int:
    """The same, where user code that counts descriptors from 3 on does not meet it."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(descriptor)
    return high
