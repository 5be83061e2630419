"""Connection files: how engines and clients find a controller. Only this user can read them."""

from __future__ import annotations

import errno
import os
import socket
import stat
import uuid
from pathlib import Path

import msgspec

from ipkernel_ext.config import profiles
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import NotConnected


class Connection(msgspec.Struct, frozen=True):
    """What a connection file says."""

    url: str
    epoch: int
    pid: int
    host: str
    directory: str  # runtime directory of the cluster
    role: str


def write(path: Path, connection: Connection) -> None:
    """Write a connection file, at once and 0600 from its first byte."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(file, "wb") as opened:
            os.fchmod(file, 0o600)  # whatever the umask took away
            opened.write(msgspec.json.format(msgspec.json.encode(connection)) + b"\n")
            opened.flush()
            os.fsync(file)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: Path, start: str = "ipcluster start") -> Connection:
    """Read a connection file.

    Parameters
    ----------
    start : str
        The command that would make it, for the error.

    Raises
    ------
    NotConnected
        There is none, or it is not this user's own; the message says what to do.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotConnected(
            f"no cluster runs here: there is no file {path}. Start one with `{start}`, or `%cluster start` in IPython"
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotConnected(f"the connection file {path} is a symbolic link; name the file itself") from None
        raise NotConnected(f"the connection file {path} cannot be read: {error.strerror}") from None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        os.close(file)
        raise NotConnected(f"{path} is not a connection file, nor any regular file")
    with open(file, "rb") as opened:
        if status.st_uid != os.getuid():
            raise NotConnected(f"the connection file {path} is not yours; it belongs to uid {status.st_uid}")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise NotConnected(f"the connection file {path} can be read by others; `chmod 600 {path}` first")
        try:
            return msgspec.json.decode(opened.read(), type=Connection)
        except msgspec.DecodeError as error:
            raise NotConnected(f"the connection file {path} is damaged: {error}; remove it and start again") from None


def locate(role: str, profile: str | None = None, connection_file: str | Path | None = None) -> str:
    """The controller's address, from a connection file or the profile's.

    Raises
    ------
    NotConnected
        There is no such file, it may not be used, or it leads to a unix socket of another host.
    """
    if connection_file is not None:
        path = Path(connection_file).expanduser()
        return _reachable(path, read(path)).url
    place = Place.of_profile(profile)
    command = "ipcluster start" if profile in (None, "default") else f"ipcluster start --profile={profile}"
    path = place.connection(role)
    problem = profiles.missing(profile)
    if problem is not None:
        raise NotConnected(f"{problem}. No cluster runs there: there is no file {path}; `{command}` starts one")
    return _reachable(path, read(path, command)).url


def _reachable(path: Path, found: Connection) -> Connection:
    """Refuse a unix socket of another host, for which one would wait in vain (homes are shared, sockets are not)."""
    here = socket.gethostname()
    local = found.url.removeprefix("ipc://")
    if local != found.url and found.host != here and not os.path.exists(local):
        raise NotConnected(f"the cluster of {path} runs on {found.host}, and can be reached only there; this is {here}")
    return found
