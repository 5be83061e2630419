"""Files and directories that only this user can read, from their first byte; what others can read is refused."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path

from ipkernel_ext.errors import NotConnected


def make_directory(path: Path) -> None:
    """Make a directory, unless it is there.

    Raises
    ------
    NotConnected
        It is not this user's own.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise NotConnected(f"{path} is not a directory of this user; remove it, or set TMPDIR elsewhere")
    if status.st_mode & 0o077:
        path.chmod(0o700)


def write(path: Path, content: bytes) -> None:
    """Write a file, at once: who reads it sees the old content or the new."""
    _write(path, content, Path.rename)


def write_once(path: Path, content: bytes) -> None:
    """Write a file, unless it is there; of several who do, one has its way."""
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            _write(path, content, lambda temporary, path: path.hardlink_to(temporary))


def _write(path: Path, content: bytes, put: Callable[[Path, Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(file, "wb") as opened:
            os.fchmod(file, 0o600)  # whatever the umask took away
            opened.write(content)
            opened.flush()
            os.fsync(file)
        put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path, what: str) -> bytes:
    """Read such a file.

    Parameters
    ----------
    what : str
        What it is, for the error.

    Raises
    ------
    FileNotFoundError
        There is none.
    NotConnected
        It is not this user's own; the message says what to do.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotConnected(f"the {what} {path} is a symbolic link; name the file itself") from None
        raise NotConnected(f"the {what} {path} cannot be read: {error.strerror}") from None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        os.close(file)
        raise NotConnected(f"{path} is not a {what}, nor any regular file")
    with open(file, "rb") as opened:
        if status.st_uid != os.getuid():
            raise NotConnected(f"the {what} {path} is not yours; it belongs to uid {status.st_uid}")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise NotConnected(f"the {what} {path} can be read by others; `chmod 600 {path}` first")
        return opened.read()
