"""A controller as a process: its place, lock, journal and connection files around ``net.controller_server``."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable

from ipkernel_ext.config import connection
from ipkernel_ext.config.place import Place
from ipkernel_ext.config.settings import ControllerSettings
from ipkernel_ext.net.controller_server import ControllerServer, stop_on_signals
from ipkernel_ext.net.journal import JournalFile


def serve(
    place: Place,
    settings: ControllerSettings,
    log: logging.Logger,
    owner: int | None,
    listening: Callable[[str], None],
) -> None:
    """Serve until told to stop, and leave no file.

    Parameters
    ----------
    owner : int or None
        A descriptor whose end of file means that the cluster is to end.
    listening
        Called with the address, once peers can find it.

    Raises
    ------
    AlreadyRunning
        Another controller holds the place.
    """
    place.make()
    lock = place.lock()
    journal = JournalFile(place.journal)
    server = ControllerServer(
        place.socket,
        journal,
        place.engines,
        log,
        owner,
        recovery_window=settings.recovery_window,
        engine_grace=settings.engine_grace,
        result_ttl=settings.result_ttl,
    )
    server.listen()
    stop_on_signals(server.stop)
    for role in ("client", "engine"):
        written = connection.Connection(
            server.url, server.epoch, os.getpid(), socket.gethostname(), str(place.directory), role
        )
        connection.write(place.connection(role), written)
    listening(server.url)
    server.run()
    server.close()
    place.sweep()
    os.close(lock)
