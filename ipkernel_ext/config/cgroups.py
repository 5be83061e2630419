"""Where the kernel says what a process and those around it may use together."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

TOP = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def directories(controller: str, top: Path = TOP, own: Path = OWN) -> list[Path]:
    """Those of this process's cgroup and all above it, in version 2, and in version 1 of this controller.

    Inside a container the names may be those of the host; then only the top is there, and is the container's.

    Parameters
    ----------
    controller : str
        ``cpu`` or ``memory``.
    top : Path
        Where the cgroup file system is mounted.
    own : Path
        The file that names this process's cgroups.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    names = {
        controllers: name for _, controllers, name in (line.split(":", 2) for line in lines if line.count(":") > 1)
    }
    tops = [(top, names.get("", "/"))]
    for controllers, name in names.items():
        if controller in controllers.split(","):
            tops.append((top / controllers, name))
    tops.append((top / controller, "/"))
    found: list[Path] = []
    for mount, name in tops:
        inside = PurePosixPath(name.lstrip("/"))
        found += [mount / above for above in (inside, *inside.parents) if ".." not in above.parts]
    return found
