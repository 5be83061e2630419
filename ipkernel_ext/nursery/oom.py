"""Whether it was the kernel that killed a process, because its cgroup or the machine had no memory left.

The kernel only counts them. So of several that were killed at once, as many as it has counted are taken for its own;
and a count that belongs to no child of ours, but to what one of them had started, is forgotten after a while.
"""

from __future__ import annotations

from pathlib import Path


class Kills:
    """Those in this process's cgroup, which its children are in too unless somebody moved them.

    Parameters
    ----------
    cgroup : Path
        Where the cgroup file system is mounted.
    own : Path
        The file that names this process's cgroups.
    """

    def __init__(self, cgroup: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> None:
        self._file = _counter(cgroup, own)
        self._seen = self._earlier = self._count()

    def take(self) -> bool:
        """Whether there was one that has not been taken yet; it is taken now. False where nobody can know."""
        count = self._count()
        if count <= self._seen:
            return False
        self._seen += 1
        return True

    def age(self) -> None:
        """Forget those that were there at the last call already."""
        self._seen = max(self._seen, self._earlier)
        self._earlier = self._count()

    def _count(self) -> int:
        if self._file is None:
            return 0
        try:
            lines = self._file.read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _counter(cgroup: Path, own: Path) -> Path | None:
    """The file that counts, in version 1 or version 2; in a container the names may be those of the host."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    names = {
        kinds: name.lstrip("/") for _, kinds, name in (line.split(":", 2) for line in lines if line.count(":") > 1)
    }
    one, two = cgroup / "memory", cgroup
    candidates = [one / names.get("memory", "") / "memory.oom_control", two / names.get("", "") / "memory.events"]
    candidates += [one / "memory.oom_control", two / "memory.events"]
    return next((path for path in candidates if path.is_file()), None)
