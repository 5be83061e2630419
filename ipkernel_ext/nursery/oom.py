"""Whether the kernel ended a process because memory ran out, as far as its counters tell.

It counts such ends by cgroup (``memory.events`` of version 2, ``memory.oom_control`` of version 1), and for the
whole machine. So a process that died of SIGKILL while the counter of its cgroup rose counts as ended for want of
memory. Where a process that user code has started met that end, and its engine was killed by somebody else
before the next look, this is wrong.
"""

from __future__ import annotations

from pathlib import Path

from ipkernel_ext.config import cgroups

VMSTAT = Path("/proc/vmstat")
PROC = Path("/proc")

_FILES = ("memory.events", "memory.oom_control")


class OomWatch:
    """Counts of the cgroups that it has met.

    Parameters
    ----------
    top, vmstat, proc : Path
        Where the kernel says so.
    """

    def __init__(self, top: Path = cgroups.TOP, vmstat: Path = VMSTAT, proc: Path = PROC) -> None:
        self._top = top
        self._vmstat = vmstat
        self._proc = proc
        self._files: dict[int, Path] = {}  # which counts for which process; of one that has ended it is not told
        self._counts: dict[Path, int] = {}

    def look(self, pid: int) -> None:
        """Take note of what has happened so far around this process: it is not what will end it."""
        directories = cgroups.directories("memory", self._top, self._proc / str(pid) / "cgroup")
        for path in [*(directory / name for directory in directories for name in _FILES), self._vmstat]:
            count = _count(path)
            if count is not None:
                self._files[pid] = path
                self._counts[path] = count
                return

    def has_ended(self, pid: int) -> bool:
        """Whether the kernel has ended this process, which died of SIGKILL.

        Of several that it has ended since the last look, each is to be asked for.
        """
        path = self._files.pop(pid, None)
        count = None if path is None else _count(path)
        if path is None or count is None:
            return False
        before = self._counts[path]
        self._counts[path] = min(count, before + 1)
        return count > before


def _count(path: Path) -> int | None:
    """The line ``oom_kill n`` of a file; None where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
