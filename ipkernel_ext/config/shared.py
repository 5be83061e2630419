"""Where the processes of a cluster share memory: a file beside the controller's socket says it.

The directory itself is one of this user's only, in a file system that is in memory. Its name follows
from the cluster's runtime directory, whose path is in the lock file: who finds the one alone knows of which
cluster it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ipkernel_ext.config import private
from ipkernel_ext.config.locks import is_held
from ipkernel_ext.errors import NotConnected

NAME = "shared.json"
LOCK = "lock"
DEFAULT = "/dev/shm"
AWAY = "away"  # in place of a runtime directory, where the controller is on another host


class Shared(msgspec.Struct, frozen=True):
    """What that file says."""

    directory: str
    above: int  # bytes of the smallest frame that is shared
    pool: int  # bytes of memory that a process keeps warm


def root(place: str) -> Path:
    """Directory of the directories of all clusters of this user."""
    return Path(place) / f"ipkernel_ext-{os.getuid()}"


def offer(runtime: Path, place: str, above: int, pool: int) -> Path | None:
    """Make the directory of a cluster, and say so; the directory. None where there is to be none.

    Raises
    ------
    OSError, NotConnected
        It cannot be made, or somebody else has; then none is offered.
    """
    (runtime / NAME).unlink(missing_ok=True)
    if not place:
        return None
    if not os.path.isabs(place):
        raise NotADirectoryError(f"{place!r} is not the path of a directory")
    if not os.path.isdir(place):
        raise FileNotFoundError(f"there is no directory {place}")
    directory = root(place) / hashlib.sha256(os.fsencode(runtime)).hexdigest()[:16]
    make(directory, runtime, secrets.token_bytes(16))
    private.write(runtime / NAME, msgspec.json.encode(Shared(str(directory), above, pool)))
    return directory


def make(directory: Path, runtime: Path, proof: bytes) -> None:
    """Make the directory, unless it is there."""
    for path in (directory.parent, directory):
        private.make_directory(path)
    private.write_once(directory / LOCK, proof.hex().encode() + b"\n" + os.fsencode(runtime) + b"\n")


def away(cluster: str, place: str = DEFAULT) -> Path | None:
    """The directory that the engines of a cluster share on a host without its controller; made if need be.

    Parameters
    ----------
    cluster : str
        By what all of them know the controller: its public key, or the address of the socket that leads to it.

    Raises
    ------
    OSError, NotConnected
        It cannot be made, or somebody else has.
    """
    if not os.path.isdir(place):
        return None
    name = hashlib.sha256(cluster.encode()).hexdigest()[:16]
    directory = root(place) / name
    make(directory, Path("/", AWAY, name), secrets.token_bytes(16))
    return directory


def leave(directory: Path) -> None:
    """Remove what no engine of this host uses any more."""
    if is_one(directory) and not is_used(directory):
        shutil.rmtree(directory, ignore_errors=True)


def find(url: str) -> Shared | None:
    """What the cluster of a unix socket offers; None for other addresses, and where it offers nothing."""
    if not url.startswith("ipc://"):
        return None
    try:
        return msgspec.json.decode(private.read(Path(url.removeprefix("ipc://")).parent / NAME, "file"), type=Shared)
    except (OSError, NotConnected, msgspec.DecodeError):
        return None


def remove(runtime: Path) -> None:
    """Remove what a cluster that has ended shared."""
    try:
        shared = msgspec.json.decode(private.read(runtime / NAME, "file"), type=Shared)
    except (OSError, NotConnected, msgspec.DecodeError):
        return
    if is_one(Path(shared.directory)):
        shutil.rmtree(shared.directory, ignore_errors=True)


def left(place: str = DEFAULT) -> Iterator[tuple[Path, Path | None]]:
    """Directories that no process uses, and the runtime directory that each is of; None where one is being made."""
    try:
        entries = sorted(root(place).iterdir())
    except OSError:
        return
    for directory in entries:
        if is_one(directory) and not is_used(directory):
            yield directory, _runtime_of(directory)


def is_one(directory: Path) -> bool:
    """Whether a directory is what this module makes, and this user's."""
    if not re.fullmatch("[0-9a-f]{16}", directory.name) or directory.parent.name != f"ipkernel_ext-{os.getuid()}":
        return False
    try:
        status = directory.lstat()
    except OSError:
        return False
    return os.path.isdir(directory) and not directory.is_symlink() and status.st_uid == os.getuid()


def is_used(directory: Path) -> bool:
    """Whether a process holds its lock."""
    return is_held(directory / LOCK, fcntl.LOCK_EX)


def _runtime_of(directory: Path) -> Path | None:
    try:
        said = (directory / LOCK).read_bytes().splitlines()
    except OSError:
        return None
    return Path(os.fsdecode(said[1])) if len(said) == 2 else None
