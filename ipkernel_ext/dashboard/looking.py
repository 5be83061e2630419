"""A client that asks its cluster how it is, and does what a page wants done. Every call here may wait."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ipkernel_ext.config import connection, logs
from ipkernel_ext.config.place import Place
from ipkernel_ext.core import messages as m
from ipkernel_ext.dashboard.state import Facts
from ipkernel_ext.errors import ParallelError
from ipkernel_ext.remote import RemoteController
from ipkernel_ext.targets import summary
from ipkernel_ext.units import count

LINES = 1000  # of a log that are shown, at most
PATIENCE = 5.0  # seconds after which a page is told that the controller does not answer
TAIL = 256 * 1024  # bytes of a log that are read


class Looker:
    """A client of its own, made when it is needed, and anew when its cluster has ended.

    Parameters
    ----------
    connect
        Makes a client.
    place
        Where the cluster keeps its files, if that is known.
    """

    def __init__(self, connect: Callable[[], RemoteController], place: Place | None = None) -> None:
        self._connect = connect
        self._place = place
        self._rc: RemoteController | None = None
        self._seen = 0  # tasks that have been told of

    def client(self) -> RemoteController:
        """The client.

        Raises
        ------
        NotConnected
            No cluster runs.
        """
        if self._rc is not None and self._rc.ended is not None:
            self._rc.close()
            self._rc = None
        if self._rc is None:
            self._rc = self._connect()
            self._seen = 0
        return self._rc

    def look(self) -> Facts:
        """How the cluster is at this moment."""
        try:
            rc = self.client()
            status = rc.status()
            recent = rc._link.ask(lambda request: m.Recent(request, self._seen))
        except ParallelError as error:
            return Facts(time.monotonic(), trouble=str(error))
        self._seen = recent["count"]
        clients = [client for client in status["clients"] if not client["me"]]
        ended = msgspec.convert(recent["ended"], list[m.Ended])
        return Facts(
            time.monotonic(),
            status["controller"],
            status["engines"],
            status["queue"],
            clients,
            recent["count"],
            ended,
            recent["now"],
        )

    def interrupt(self, engines: Sequence[int]) -> str:
        """Interrupt what these engines run."""
        self.client().interrupt(targets=list(engines))
        return f"interrupted {_named(engines)}"

    def restart(self, engines: Sequence[int]) -> str:
        """Give these engines new processes with empty namespaces."""
        self.client().restart(targets=list(engines))
        return f"restarted {_named(engines)}"

    def scale(self, engines: int) -> str:
        """Have so many engines."""
        self.client().cluster.scale(engines)
        return f"the cluster has {count(engines, 'engine')}"

    def logs(self) -> dict[str, Path]:
        """The logs of this host by their names."""
        directories = {Path(engine.log).parent for engine in self.client().known if _is_here(engine)}
        if self._place is not None:
            directories.add(self._place.logs)
        return {name: path for place in sorted(directories) for name, path in logs.cluster_logs(place).items()}

    def log(self, name: str, lines: int) -> str:
        """The last lines of a log.

        Raises
        ------
        LookupError
            There is no such log.
        """
        path = self.logs().get(name)
        if path is None:
            raise LookupError(f"there is no log of {name} on this host")
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-min(lines, LINES) :])

    def close(self) -> None:
        """Leave."""
        if self._rc is not None:
            self._rc.close()


def _is_here(engine: m.EngineRecord) -> bool:
    return bool(engine.log) and engine.host == socket.gethostname()


def _named(engines: Sequence[int]) -> str:
    return f"engine {engines[0]}" if len(engines) == 1 else f"engines {summary(sorted(engines))}"


def at(profile: str | None, connection_file: str | None = None, url: str | None = None) -> Looker:
    """Who looks at a cluster that is found as ``RemoteController`` finds it."""

    def connect() -> RemoteController:
        return RemoteController(url, profile=profile, connection_file=connection_file, timeout=PATIENCE)

    by_profile = connection_file is None and url is None
    return Looker(connect, Place.of_profile(profile) if by_profile else None)


def title(profile: str | None = None, connection_file: str | None = None, url: str | None = None) -> str:
    """What the page of that cluster is called."""
    if url is not None:
        return f"Cluster at {url}"
    if connection_file is None:
        return f"Cluster of profile {profile or 'default'}"
    place = connection.read(Path(connection_file)).directory
    return "A private cluster" if Path(connection_file).parent == Path(place) else f"Cluster of {connection_file}"
