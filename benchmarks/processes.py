"""What processes use, and which belong to a contestant: all that have its mark in their environment. Linux only."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

MARK = "IPKERNEL_EXT_BENCHMARK"


def marked(mark: str) -> set[int]:
    """Processes that were started with this mark, or by one that was; not those that have ended."""
    needle = f"{MARK}={mark}".encode()
    found = set()
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError):
                if needle in _read(f"/proc/{name}/environ").split(b"\0"):
                    found.add(int(name))
    return found


def end(mark: str) -> None:
    """End them all, at the latest after a while without asking."""
    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        limit = time.monotonic() + patience
        for pid in marked(mark):
            with suppress(OSError):
                os.kill(pid, number)
        while marked(mark) and time.monotonic() < limit:
            time.sleep(0.05)


def memory(pid: int) -> int:
    """Proportional share of memory, bytes: pages that processes share count once in all."""
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def seconds(pids: Iterable[int]) -> float:
    """CPU seconds that these have used; of those that have ended nothing."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
