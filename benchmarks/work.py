"""What workers run: importable on both sides, so that every system sends these by name."""

from __future__ import annotations

import os
import time

NAMESPACE: dict[str, object] = {}
"""Where code is executed, in systems whose workers have no namespace of their own."""


def identity(x: object) -> object:
    """A no-op."""
    return x


def square(x: int) -> int:
    """A small item."""
    return x * x


def pid_after(seconds: float) -> int:
    """Which process this is, after a while in which the others are asked too."""
    time.sleep(seconds)
    return os.getpid()


def wait(seconds: float) -> float:
    """An item that takes so long, without a core; how long it took."""
    begun = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - begun


def execute(code: str) -> None:
    """Run source code."""
    exec(code, NAMESPACE)


def print_lines(count: int) -> None:
    """Print so many lines."""
    for i in range(count):
        print("line", i)
