"""How many engines a machine carries, and how many threads each may use."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from ipkernel_ext.config.cgroups import OWN, TOP, directories

THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def cores(cgroup: Path = TOP, own: Path = OWN) -> int:
    """Processors that this process may use: its affinity, and its cgroup's quota rounded up; at least 1.

    Parameters
    ----------
    cgroup : Path
        Where the cgroup file system is mounted.
    own : Path
        The file that names this process's cgroups.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    return max(1, min([count, *map(math.ceil, _quotas(cgroup, own))]))


def _quotas(cgroup: Path, own: Path) -> list[float]:
    """Processors' worth of time that this process's cgroup and each one above it allow, where they limit it."""
    found = [_quota(directory) for directory in directories("cpu", cgroup, own)]
    return [quota for quota in found if quota is not None]


def _quota(directory: Path) -> float | None:
    try:
        allowed, period = (directory / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            allowed = (directory / "cpu.cfs_quota_us").read_text().strip()
            period = (directory / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        return int(allowed) / int(period) if int(allowed) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max"
        return None


def thread_limits(engines: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment variables with which ``engines`` engines do not oversubscribe the machine; the user's own stay.

    What the user gave OpenMP goes for the other libraries too, which would follow it if we said nothing.
    """
    given = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is one number per nesting level
    each = given if given.isdigit() and int(given) else str(max(1, cores() // max(1, engines)))
    return {name: each for name in THREAD_LIMITS if name not in environment}
