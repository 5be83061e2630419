"""How many engines a machine carries, and how many threads each may use."""

from __future__ import annotations

import os
from pathlib import Path

THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors that this process may use: its affinity, and its cgroup's quota rounded up; at least 1."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, count if quota is None else min(count, -int(-quota // 1)))


def _quota(cgroup: Path) -> float | None:
    """Processors' worth of time that the cgroup (version 2, then 1) allows, or None for no limit."""
    try:
        allowed, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            allowed = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if allowed in ("max", "-1"):
        return None
    return int(allowed) / int(period)


def thread_limits(engines: int) -> dict[str, str]:
    """Environment variables with which ``engines`` engines do not oversubscribe the machine; the user's own stay."""
    each = str(max(1, cores() // max(1, engines)))
    return {name: each for name in THREAD_LIMITS if name not in os.environ}
