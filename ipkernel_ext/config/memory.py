"""How much memory this process can still have."""

from __future__ import annotations

import re
from pathlib import Path

from ipkernel_ext.config import cgroups

MEMINFO = Path("/proc/meminfo")

_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""Of version 2 and of version 1: what a cgroup may use, and what it does."""


def available(meminfo: Path = MEMINFO, top: Path = cgroups.TOP, own: Path = cgroups.OWN) -> int:
    """Bytes that are available without swapping: of the machine, and in the limits of this process's cgroups.

    Parameters
    ----------
    meminfo, top, own : Path
        Where the kernel says so.
    """
    bounds = [_of_machine(meminfo)]
    for directory in cgroups.directories("memory", top, own):
        bounds += [left for limit, used in _FILES if (left := _left(directory / limit, directory / used)) is not None]
    return max(0, min(bounds))


def _of_machine(meminfo: Path) -> int:
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    import psutil

    return int(psutil.virtual_memory().available)


def _left(limit: Path, used: Path) -> int | None:
    try:
        return int(limit.read_text()) - int(used.read_text())
    except (OSError, ValueError):  # "max"
        return None
