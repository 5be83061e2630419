"""The owner of a process holds the other end of its standard input; the end of that file is the owner's end."""

from __future__ import annotations

import fcntl
import os

from ipkernel_ext.nursery import open_files

HIGH = 64


def take_owner() -> int:
    """The descriptor that tells of the owner's end, moved out of the way of user code."""
    owner = _high(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return owner


def out_of_the_way(descriptor: int) -> int:
    """The same, where user code that counts descriptors from 3 on does not meet it."""
    high = _high(descriptor)
    os.close(descriptor)
    return high


def _high(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, min(HIGH, open_files.allowed() // 2))
