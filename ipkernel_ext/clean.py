"""What clusters that no longer run left behind: runtime directories, shared memory, connection files, processes.

Looking is apart from doing: ``survey`` finds, from directories and a list of processes that are handed
in; ``remove`` and ``end`` do, and look once more before they do. A cluster that runs, or may be about
to, is never touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from ipkernel_ext.config import profiles, shared
from ipkernel_ext.config.locks import is_held
from ipkernel_ext.config.place import Place, runtime_root
from ipkernel_ext.nursery import register

YOUNG = 60.0  # seconds for which a directory without lock and agent may belong to a cluster that is being started

ENDING = 5.0  # seconds in which a process whose owner has ended ends itself

ROLES = ("client", "engine")


class Process(NamedTuple):
    """A process of ours."""

    pid: int
    program: str  # agent, outpost, ipcontroller, ipengine, ipcluster, …
    directory: Path | None  # runtime directory of its cluster; None where nothing says that on this host
    owned: bool  # ends with the process that started it, unless it is stuck
    orphaned: bool  # that process is gone
    created: float  # seconds since the epoch; with the pid, it names one process for ever


class Found(NamedTuple):
    """What was found.

    Attributes
    ----------
    stale
        Directories and files that nobody uses.
    left
        What looks stale and stays, with the reason.
    orphans
        Processes whose cluster is known, and gone.
    """

    stale: list[Path]
    left: list[tuple[Path, str]]
    orphans: list[Process]


def survey(
    root: Path,
    places: Sequence[Place],
    processes: Sequence[Process],
    *,
    host: str,
    now: float,
    memory: Iterable[tuple[Path, Path | None]] = (),
) -> Found:
    """Look, and change nothing.

    Parameters
    ----------
    root : Path
        Where the runtime directories of this user are.
    places
        Of the profiles.
    host : str
        This machine; a connection file of another one is not ours to judge.
    now : float
        Seconds since the epoch, as files have it.
    memory
        Directories of shared memory that nobody uses, and the runtime directory that each is of.
    """
    directories = sorted(_runtime_directories(root))
    named = {place.directory for place in places} | {p.directory for p in processes if p.directory is not None}
    running = {directory for directory in named.union(directories) if is_running(directory, processes)}
    orphans = [p for p in processes if p.owned and p.orphaned and _may_be_judged(p) and p.directory not in running]
    used = {p.directory: p for p in processes if p.directory is not None and p not in orphans}
    found = Found([], [], orphans)
    for directory in directories:
        if directory in running:
            continue
        holders = [p for p in orphans if p.directory == directory]
        if holders:
            pids = ", ".join(str(p.pid) for p in holders)
            found.left.append((directory, f"process {pids} of a cluster that is gone still runs; --kill ends it"))
        elif directory in used:
            found.left.append((directory, f"{used[directory].program} (pid {used[directory].pid}) waits there"))
        elif _is_being_made(directory, now):
            found.left.append((directory, "it is new: a cluster may be starting there"))
        else:
            found.stale.append(directory)
    for directory, of in memory:
        if of is not None and (of.parent != root or of in found.stale or is_running(of, processes)):
            continue  # it goes with the runtime directory
        if of is None and now - directory.lstat().st_mtime < YOUNG:
            found.left.append((directory, "it is new: a cluster may be starting there"))
        else:
            found.stale.append(directory)
    for place in places:
        if place.directory in running:
            continue
        for role in ROLES:
            path = place.connection(role)
            if path.is_file():
                reason = _why_kept(path, host, processes)
                if reason is None:
                    found.stale.append(path)
                else:
                    found.left.append((path, reason))
    return found


def _may_be_judged(process: Process) -> bool:
    """Whether the loss of the process that started it says something.

    A batch system, ssh or somebody else's worker starts outposts, so they look like orphans while their cluster
    lives. Those and engines end themselves where they find no controller, and are left alone if unsure.
    """
    return process.directory is not None or process.program not in ("outpost", "ipengine")


def look() -> Found:
    """Look at this user's clusters on this host. Processes that are just ending, because their owner did, may do so."""
    found = _look()
    if found.orphans:
        gone = [p for p in map(_process, found.orphans) if p is not None]
        psutil.wait_procs(gone, timeout=ENDING)
        found = _look()
    return found


def _look() -> Found:
    places = [Place.of_profile(name) for name in profiles.profiles()]
    return survey(
        runtime_root(),
        places,
        processes(os.getuid()),
        host=socket.gethostname(),
        now=time.time(),
        memory=shared.left(),
    )


def _process(process: Process) -> psutil.Process | None:
    try:
        return psutil.Process(process.pid)
    except psutil.NoSuchProcess:
        return None


def is_running(directory: Path, processes: Sequence[Process]) -> bool:
    """Whether a controller holds the lock of a runtime directory, its agent lives, or it can have a new one."""
    agents = {p.pid for p in processes if p.program in ("agent", "outpost")}
    return is_held(directory / "lock") or agent_of(directory) in agents or _can_be_adopted(directory)


def _can_be_adopted(directory: Path) -> bool:
    """Whether nobody owns its cluster, whose agent was killed, and some of it still runs."""
    left = register.read(Place(directory, None).register)
    return left is not None and bool(left.living())


def agent_of(directory: Path) -> int | None:
    """The agent that a runtime directory names, dead or alive."""
    try:
        return int(Place(directory, None).agent.read_text())
    except (OSError, ValueError):
        return None


def remove(path: Path) -> bool:
    """Remove what ``survey`` called stale; False if somebody has come to use it since."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return True
    lock = _lock(path)
    if lock is None:
        return False
    try:
        shared.remove(path)
        shutil.rmtree(path)
    finally:
        os.close(lock)
    return True


def end(process: Process) -> None:
    """End a process at once, if it is still the one that was found."""
    try:
        found = psutil.Process(process.pid)
        if found.create_time() == process.created:
            found.send_signal(signal.SIGKILL)
            found.wait(5)
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        pass


def processes(uid: int) -> list[Process]:
    """Processes of ours that this user runs."""
    found = []
    programs: dict[int, str] = {}
    for process in psutil.process_iter(["cmdline", "name", "uids", "ppid", "create_time", "environ"]):
        info = process.info
        program = program_of(info["cmdline"] or [])
        if program == "zygote" and info["name"].startswith("engine"):
            program = "ipengine"  # it was forked
        if program is not None and info["uids"] is not None and info["uids"].real == uid:
            programs[process.pid] = program
            found.append((process.pid, program, info))
    host = socket.gethostname()
    return [
        Process(
            pid,
            program,
            cluster_of(info["cmdline"], host)
            if program == "outpost"
            else directory_of(info["cmdline"], info["environ"] or {}) or _mapped_directory(pid),
            "--owned" in info["cmdline"] or any(w.startswith("ipkernel_ext.nursery.") for w in info["cmdline"]),
            info["ppid"] not in programs,
            info["create_time"],
        )
        for pid, program, info in found
    ]


def program_of(command: Sequence[str]) -> str | None:
    """Which program of ours a command line runs."""
    if "-m" in command[:-1]:
        module, after = command[command.index("-m") + 1], command[command.index("-m") + 2 :]
        if module == "ipkernel_ext.commands":
            return after[0] if after else None
        if module.startswith("ipkernel_ext.nursery"):
            name = module.removeprefix("ipkernel_ext.nursery").removeprefix(".")
            return f"ip{name}" if name in ("controller", "engine") else name or "agent"
        return None
    names = [os.path.basename(word) for word in command[:2]]  # a script's own name comes behind its interpreter's
    return next((name for name in names if name in ("ipcontroller", "ipengine", "ipcluster")), None)


def directory_of(command: Sequence[str], environment: dict[str, str]) -> Path | None:
    """Runtime directory that a command line of ours leads to."""
    directory = _option(command, "directory")
    if directory is not None:
        return Path(directory)
    if program_of(command) not in ("ipcontroller", "ipengine") or _option(command, "url") or _option(command, "file"):
        return None
    if environment.get("IPYTHONDIR", "") != os.environ.get("IPYTHONDIR", ""):
        return None  # a profile of the same name in another IPython directory
    return Place.of_profile(_option(command, "profile")).directory


def cluster_of(command: Sequence[str], host: str) -> Path | None:
    """Runtime directory of the cluster that an outpost's orders lead to; None unless that is on this host."""
    try:
        orders = json.loads(Path(command[command.index("-m") + 2]).read_bytes())
        said = json.loads(Path(orders["setup"]["connection"]).read_bytes())
        return Path(said["directory"]) if said["host"] == host else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _mapped_directory(pid: int) -> Path | None:
    """Runtime directory of which a process has a file in memory, as engines and controllers have."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return None
    found = re.search(r" (/.*/ipkernel_ext-\d+/[0-9a-f]{16})/(?:engines/|journal)", maps)
    return None if found is None else Path(found[1])


def _option(command: Sequence[str], name: str) -> str | None:
    for number, word in enumerate(command):
        if word == f"--{name}":
            return next(iter(command[number + 1 : number + 2]), None)
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return None


def _runtime_directories(root: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(root))
    except OSError:  # none has been made, or it is somebody else's
        return
    for entry in entries:
        status = entry.stat(follow_symlinks=False)
        if re.fullmatch("[0-9a-f]{16}", entry.name) and stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
            yield Path(entry.path)


def _lock(directory: Path) -> int | None:
    """Hold the lock of a directory; None if somebody else does."""
    file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _is_being_made(directory: Path, now: float) -> bool:
    if (directory / "lock").exists() or agent_of(directory) is not None:
        return False
    return now - directory.lstat().st_mtime < YOUNG


def _why_kept(path: Path, host: str, processes: Sequence[Process]) -> str | None:
    """Why a connection file of a profile without a cluster in its usual place stays; None if it is stale."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
        return "it is not a file of yours"
    if not status.st_size:
        return None  # a disk was full
    try:
        said = json.loads(path.read_bytes())
        there, directory, pid = said["host"], Path(said["directory"]), said["pid"]
    except (ValueError, KeyError, TypeError):
        return "it is damaged; look at it, and remove it by hand"
    if there != host:
        return f"its cluster is on {there}; run `ipcluster clean` there"
    if is_running(directory, processes) or (pid, "ipcontroller") in {(p.pid, p.program) for p in processes}:
        return f"its cluster runs, in {directory}"
    return None
