"""Whether somebody holds a file locked."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def is_held(path: Path, asked: int = fcntl.LOCK_SH) -> bool:
    """Whether a process holds a file locked.

    Asking takes a lock for a moment, which disturbs nobody but who wants the lock in this very moment.

    Parameters
    ----------
    asked : int
        That lock; ``LOCK_SH`` finds exclusive holders alone, ``LOCK_EX`` shared ones too.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(file, asked | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
