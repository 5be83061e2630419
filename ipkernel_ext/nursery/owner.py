"""The owner of a process holds the other end of its standard input; the end of that file is the owner's end."""

from __future__ import annotations

import fcntl
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def ending_with(owner: int | None) -> Iterator[None]:
    """This process ends when its owner does, while nobody else looks; None: it has no owner."""
    if owner is None:
        yield
        return
    reader, writer = os.pipe()

    def watch() -> None:
        poll = select.poll()
        poll.register(owner, select.POLLIN)
        poll.register(reader, select.POLLIN)
        if any(descriptor == owner for descriptor, _ in poll.poll()):
            os._exit(1)

    watcher = threading.Thread(target=watch, name="ipkernel_ext owner", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        os.close(writer)
        watcher.join()
        os.close(reader)


def _high(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, min(HIGH, open_files.allowed() // 2))
