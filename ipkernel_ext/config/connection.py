"""Connection files: how engines and clients find a controller, and the keys they show it.

Only this user can read them. A file that was copied to another host leads to the controller's TCP
addresses; on the controller's own host its unix socket is taken, which needs no keys.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from ipkernel_ext.config import private, profiles
from ipkernel_ext.config.keys import Keys
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import NotConnected


class Connection(msgspec.Struct, frozen=True):
    """What a connection file says."""

    url: str  # of the unix socket
    epoch: int
    pid: int
    host: str
    directory: str  # runtime directory of the cluster
    role: str
    tcp: list[str] = []  # addresses for other hosts; any of them may be the one that can be reached
    keys: Keys | None = None  # for those
    access: str = "owner"  # what they are for


class Address(NamedTuple):
    """Where a controller is."""

    urls: tuple[str, ...]  # one is to be used, the first that answers
    keys: Keys | None  # None: none are needed, or there are none
    source: str  # who says so, for errors
    access: str = "owner"


def content(connection: Connection) -> bytes:
    """A connection file's."""
    return msgspec.json.format(msgspec.json.encode(connection)) + b"\n"


def write(path: Path, connection: Connection) -> None:
    """Write a connection file, at once and 0600 from its first byte."""
    private.write(path, content(connection))


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
        return msgspec.json.decode(private.read(path, "connection file"), type=Connection)
    except FileNotFoundError:
        raise NotConnected(
            f"no cluster runs here: there is no file {path}. Start one with `{start}`, or `%cluster start` in IPython"
        ) from None
    except msgspec.DecodeError as error:
        raise NotConnected(f"the connection file {path} is damaged: {error}; remove it and start again") from None


def locate(
    role: str, profile: str | None = None, connection_file: str | Path | None = None, url: str | None = None
) -> Address:
    """Where the controller is: by its address, else by a connection file, else by the profile's.

    An address of TCP needs keys; they come from the file all the same.

    Raises
    ------
    NotConnected
        There is no such file, it may not be used, nobody is there any more, or it leads to a unix
        socket of another host only.
    """
    if url is not None and not url.startswith("tcp://"):
        if not url.startswith("ipc://"):
            raise NotConnected(f"{url!r} is no address of a controller; one looks like tcp://HOST:PORT or ipc:///PATH")
        return Address((url,), None, "the address given")
    if url is not None and not url.rpartition(":")[2].isdigit():
        raise NotConnected(f"{url} is no address of a controller; one looks like tcp://HOST:PORT")
    if connection_file is not None:
        path, command = Path(connection_file).expanduser(), "ipcluster start"
    else:
        path = Place.of_profile(profile).connection(role)
        command = "ipcluster start" if profile in (None, "default") else f"ipcluster start --profile={profile}"
        problem = profiles.missing(profile)
        if problem is not None:
            raise NotConnected(f"{problem}. No cluster runs there: there is no file {path}; `{command}` starts one")
    if url is None:
        return _reachable(path, read(path, command))
    if not path.exists():
        raise NotConnected(
            f"{url} asks for keys, which are in a connection file, and there is no file {path}: "
            f"copy {role}.json from the controller's host and name it"
        )
    found = read(path)
    return Address((url,), found.keys, str(path), found.access)


def on_this_host(path: Path) -> Address:
    """The controller's unix socket, for processes that its own agent has started.

    Raises
    ------
    NotConnected
        There is no such file yet.
    """
    return Address((read(path).url,), None, str(path))


def for_engines(path: Path, away: bool) -> Callable[[], Address]:
    """What says where the controller is, for processes that an agent has started.

    Parameters
    ----------
    away : bool
        Whether the file may lead to another host.
    """
    return partial(locate, "engine", None, path) if away else partial(on_this_host, path)


def _reachable(path: Path, found: Connection) -> Address:
    """The unix socket where it is of this host, else TCP.

    Homes are shared, sockets are not: a socket of another host is refused, because one would wait in
    vain; so is what a cluster that was killed has left here.
    """
    here = socket.gethostname()
    local = found.url.removeprefix("ipc://")
    is_local = found.host == here and os.path.isdir(found.directory)
    if is_local or (os.path.exists(local) and _listens(local)):
        if is_local and _is_stale(found, local):
            raise NotConnected(
                f"no cluster runs here any more: {path} is of a controller (pid {found.pid}) that was killed. "
                "Start one with `ipcluster start`, or `%cluster start` in IPython"
            )
        return Address((found.url,), None, str(path))
    if found.tcp:
        return Address(tuple(found.tcp), found.keys, str(path), found.access)
    if found.host == here:
        raise NotConnected(
            f"no cluster runs here any more: {found.directory} of {path} is gone. "
            "Start one with `ipcluster start`, or `%cluster start` in IPython"
        )
    raise NotConnected(
        f"the cluster of {path} runs on {found.host}, and can be reached only there; this is {here}. "
        "`ipcontroller --ip=ADDRESS` lets other hosts in"
    )


def _is_stale(found: Connection, local: str) -> bool:
    """Whether the controller is dead and there is nobody to start it again."""
    place = Place(Path(found.directory), None)
    if place.controller_pid() is not None or place.agent_pid() is not None:
        return False
    return not _listens(local)


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
