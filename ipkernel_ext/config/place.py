"""Where a cluster keeps its files: socket, journal, lock, logs, and the connection files.

A cluster of a profile is found by the profile's name; a private one (``launch``) only by whoever
has its directory. Sockets live under the temporary directory, not in the home (which may be on
NFS) and not in XDG_RUNTIME_DIR (which a logout wipes), in a directory of this user's only.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from pathlib import Path

from ipkernel_ext.config import private, shared
from ipkernel_ext.config.locks import is_held
from ipkernel_ext.config.profiles import option, profile_dir
from ipkernel_ext.errors import AlreadyRunning, NotConnected

LOGS = "agent.log", "controller.log", "zygote.log", "launcher.log"
"""Of a cluster's processes other than its engines."""

LOCK, AGENT = "lock", "agent.pid"
"""Held by the controller and by the agent of a place."""

SOCKET_PATH = 107 - len(".ipkernel_ext-4294967295/0123456789abcdef/controller.sock")
"""What an address of a unix socket leaves for the temporary directory, in bytes."""


class Place:
    """Paths of one cluster's files.

    Parameters
    ----------
    directory : Path
        Its runtime directory.
    profile : str or None
        The profile it belongs to; None for a private cluster.
    """

    def __init__(self, directory: Path, profile: str | None) -> None:
        self.directory = directory
        self.profile = profile
        shared = None if profile is None else profile_dir(profile)
        self.connections = directory if shared is None else shared / "security" / "ipkernel_ext"
        self.logs = directory / "logs" if shared is None else shared / "log"

    @classmethod
    def of_profile(cls, name: str | None) -> Place:
        """The place of a profile's cluster; one that runs is where it was started, whatever TMPDIR says here."""
        name = name or "default"
        key = hashlib.sha256(os.fsencode(profile_dir(name).absolute())).hexdigest()[:16]
        place = cls(runtime_root() / key, name)
        started = _directory_of(place.connection("client"))
        if started.name == key and any(_holder(started / file) for file in (LOCK, AGENT)):
            return cls(started, name)
        return place

    @classmethod
    def private(cls) -> Place:
        """A new place that nobody else knows."""
        return cls(runtime_root() / uuid.uuid4().hex[:16], None)

    @property
    def socket(self) -> Path:
        """Where the controller listens."""
        return self.directory / "controller.sock"

    @property
    def journal(self) -> Path:
        """Of the controller."""
        return self.directory / "journal"

    @property
    def store(self) -> Path:
        """Of results whose clients are not here."""
        return self.directory / "results.db"

    @property
    def engines(self) -> Path:
        """Directory of the engines' begun files."""
        return self.directory / "engines"

    @property
    def agent(self) -> Path:
        """Holds the process id of the agent."""
        return self.directory / AGENT

    @property
    def register(self) -> Path:
        """What the agent has written down of its children."""
        return self.directory / "register.json"

    @property
    def keys(self) -> Path:
        """The controller's keys, where it is reached over TCP."""
        return self.directory / "controller.key"

    def agent_pid(self) -> int | None:
        """Process id of the agent, if it runs."""
        return _holder(self.agent)

    def controller_pid(self) -> int | None:
        """Process id of the controller, if it runs."""
        return _holder(self.directory / LOCK)

    def clear_logs(self) -> None:
        """Remove the logs of an earlier cluster."""
        for log in self.logs.glob("*.log"):
            if log.name in LOGS or log.name.startswith("engine-"):
                log.unlink(missing_ok=True)

    def connection(self, role: str) -> Path:
        """The connection file of a role: client or engine."""
        return self.connections / f"{role}.json"

    def make(self) -> None:
        """Make the directories, each for this user only.

        Raises
        ------
        NotConnected
            One is there and is not this user's own.
        """
        for directory in (self.directory.parent, self.directory, self.engines, self.connections):
            private.make_directory(directory)
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)

    def lock(self) -> int:
        """Hold the place for this process's life; the descriptor.

        Raises
        ------
        AlreadyRunning
            Another controller holds it.
        """
        path = self.directory / LOCK
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(file, 20)
                os.close(file)
                pid = int(holder) if holder.isdigit() else 0  # it may be about to write its own
                what = f"profile {self.profile!r}" if self.profile else str(self.directory)
                raise AlreadyRunning(
                    f"a controller of {what} runs already (pid {pid}); `ipcluster stop{option(self.profile)}` ends it",
                    pid,
                ) from None
            except BaseException:
                os.close(file)
                raise
            if _is_at(file, path):
                break
            os.close(file)  # an earlier cluster's end removed it between our two calls
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        return file

    def sweep(self) -> None:
        """Remove what a cluster that ended left here; logs of a profile stay."""
        for role in ("client", "engine"):
            self.connection(role).unlink(missing_ok=True)
        shared.remove(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)


def is_running(pid: int) -> bool:
    """Whether there is such a process, of this user's."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _holder(path: Path) -> int | None:
    """The process that holds a file locked, which has written its id into it; None where none does.

    A number alone says little: the system may have given it to another process since.
    """
    if not is_held(path):
        return None
    try:
        held = path.read_text()
    except OSError:
        return None
    return int(held) if held.isdigit() else None


def runtime_root() -> Path:
    """Directory of all runtime directories of this user."""
    temporary = tempfile.gettempdir()
    if len(os.fsencode(temporary)) > SOCKET_PATH:
        temporary = "/tmp"
    return Path(temporary) / f"ipkernel_ext-{os.getuid()}"


def _directory_of(connection: Path) -> Path:
    """The runtime directory that a connection file names; an empty path where there is none that can be read."""
    try:
        return Path(json.loads(private.read(connection, "connection file"))["directory"])
    except (OSError, NotConnected, ValueError, LookupError, TypeError):
        return Path()


def _is_at(file: int, path: Path) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file), there)
