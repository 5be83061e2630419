"""Our commands as a user runs them, in a profile of their own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from ipkernel_ext import RemoteController

START = 60  # seconds that a cluster has to start, on a loaded machine


def ipcluster(*arguments: str, python: str = sys.executable, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command = [python, "-m", "ipkernel_ext.commands", "ipcluster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=START, stdin=subprocess.DEVNULL, **options)


@contextlib.contextmanager
def cluster(*options: str, python: str = sys.executable, **more: Any) -> Iterator[RemoteController]:
    """A daemonized cluster of the default profile, and a client of it; ended by ``ipcluster stop``."""
    started = ipcluster("start", "--daemonize", *options, python=python, **more)
    assert started.returncode == 0, started.stderr
    try:
        with RemoteController() as rc:
            yield rc
    finally:
        stopped = ipcluster("stop")
    assert stopped.returncode == 0, stopped.stderr
