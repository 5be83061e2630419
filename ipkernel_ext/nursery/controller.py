"""A controller as a process: its place, lock, journal, keys and connection files around ``net.controller_server``.

``python -m ipkernel_ext.nursery.controller`` is an agent's; its orders come on standard input.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from ipkernel_ext import blobs
from ipkernel_ext.config import addresses, connection, keys, logs, shared
from ipkernel_ext.config.place import Place
from ipkernel_ext.config.resolved import ControllerSettings
from ipkernel_ext.errors import NotConnected, ParallelError
from ipkernel_ext.net.controller_server import ControllerServer, stop_on_signals
from ipkernel_ext.net.couriers import Couriers
from ipkernel_ext.net.journal import JournalFile
from ipkernel_ext.net.store import ResultStore
from ipkernel_ext.nursery import open_files
from ipkernel_ext.nursery.children import LINK
from ipkernel_ext.nursery.orders import ControllerOrders, first_line
from ipkernel_ext.nursery.owner import take_owner

PR_SET_DUMPABLE = 4  # of prctl(2)

COLLECT = 50_000, 20, 100
"""When to look for cyclic garbage: seldom, since the core makes none, and has an object or ten for each task."""

ROTATE = signal.SIGUSR1
"""Asks a controller for new keys."""


def serve(
    place: Place,
    settings: ControllerSettings,
    log: logging.Logger,
    owner: int | None,
    listening: Callable[[str, Sequence[str]], None],
    given: keys.ClusterKeys | None = None,
) -> None:
    """Serve until told to stop, and leave no file.

    Parameters
    ----------
    owner : int or None
        A descriptor whose end of file means that the cluster is to end.
    listening
        Called with the local address and those for other hosts, once peers can find it.
    given : ClusterKeys or None
        Keys that were made beforehand, instead of new ones or those of its earlier life.

    Raises
    ------
    AlreadyRunning
        Another controller holds the place.
    ParallelError
        It cannot listen where it should.
    """
    open_files.allow()
    signal.signal(ROTATE, signal.SIG_IGN)  # until there is something to replace
    place.make()
    lock = place.lock()
    if given is not None:
        keys.save(place.keys, given)
    journal = JournalFile(place.journal)
    is_new = journal.epoch == 0
    server = ControllerServer(
        place.socket,
        journal,
        ResultStore(place.store, settings.result_store, settings.result_ttl),
        place.engines,
        log,
        owner,
        _share(place, settings, log),
        Couriers(settings.share_above if settings.shared_memory else sys.maxsize, settings.pass_on),
        recovery_window=settings.recovery_window,
        engine_grace=settings.engine_grace,
        result_ttl=settings.result_ttl,
    )
    try:
        cluster_keys = _listen_tcp(place, settings, server)
    except ParallelError:
        server.close()
        if is_new:
            place.sweep()
        raise
    server.listen()
    stop_on_signals(server.stop)
    if cluster_keys is not None:
        server.on_rotate = partial(_rotate, place, settings, server, log)
        signal.signal(ROTATE, lambda *_: server.rotate())
    _publish(place, server, cluster_keys, log)
    listening(server.url, server.tcp)
    try:
        server.run()
    finally:
        server.close()
    place.sweep()
    os.close(lock)


def _share(place: Place, settings: ControllerSettings, log: logging.Logger) -> blobs.Home | None:
    """Offer shared memory, after what dead clusters have left of it was removed."""
    try:
        directory = shared.offer(place.directory, settings.shared_memory, settings.share_above, settings.share_pool)
        if directory is None:
            return None
        home = blobs.Home(directory)
    except (OSError, NotConnected) as error:
        log.warning("large objects travel through the socket: %s", error)
        return None
    _remove_left(settings.shared_memory)
    return home


def _remove_left(place: str) -> None:
    """Remove the shared memory of clusters that were killed: nobody uses it, and nobody will make them go on."""
    for directory, runtime in shared.left(place):
        if runtime is None:
            continue
        cluster = Place(runtime, None)
        if cluster.controller_pid() is None and cluster.agent_pid() is None:
            shutil.rmtree(directory, ignore_errors=True)


def _publish(
    place: Place, server: ControllerServer, cluster_keys: keys.ClusterKeys | None, log: logging.Logger
) -> None:
    """Write the connection files. Where the disk is full, those of an earlier life do, if they lead here too."""
    for role in keys.ROLES:
        written = connection.Connection(
            server.url,
            server.epoch,
            os.getpid(),
            socket.gethostname(),
            str(place.directory),
            role,
            server.tcp,
            None if cluster_keys is None else cluster_keys.of(role),
        )
        try:
            connection.write(place.connection(role), written)
        except OSError as error:
            if not _leads_there(place.connection(role), written):
                raise
            log.warning("an earlier connection file stays, because it cannot be written: %s", error)


def _leads_there(path: Path, wanted: connection.Connection) -> bool:
    try:
        found = connection.read(path)
    except NotConnected:
        return False
    return (found.url, found.tcp, found.keys) == (wanted.url, wanted.tcp, wanted.keys)


def _rotate(place: Place, settings: ControllerSettings, server: ControllerServer, log: logging.Logger) -> None:
    """Other keys from now on, at the same port. They are kept first: should we die here, the next life has them."""
    earlier = keys.load(place.keys)
    keys.save(place.keys, msgspec.structs.replace(keys.make(), port=0 if earlier is None else earlier.port))
    server.leave_tcp()
    _publish(place, server, _listen_tcp(place, settings, server), log)
    log.info("the keys are new: who came over TCP needs the new connection file to come again")


def _listen_tcp(place: Place, settings: ControllerSettings, server: ControllerServer) -> keys.ClusterKeys | None:
    """Listen for other hosts if that is wanted, with the keys and at the port of the cluster's earlier life."""
    if not settings.tcp:
        return None
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # keys go into no core file, whoever writes it
    cluster_keys = keys.load(place.keys) or keys.make()
    port = server.listen_tcp(settings.ip, settings.port, cluster_keys)
    if settings.location:
        server.tcp = [addresses.url(settings.location, port)]
    cluster_keys = msgspec.structs.replace(cluster_keys, port=port)
    keys.save(place.keys, cluster_keys)
    return cluster_keys


def main() -> None:
    """Entry of a controller that an agent started. Writes one byte to descriptor ``LINK`` when it listens."""
    gc.freeze()  # what was imported stays
    gc.set_threshold(*COLLECT)
    orders: ControllerOrders = first_line()
    owner = take_owner() if orders["owned"] else None
    logging.basicConfig(format=logs.FORMAT, level=logging.INFO)

    def listening(_: str, __: Sequence[str]) -> None:
        os.write(LINK, b"!")
        os.close(LINK)

    place = Place(Path(orders["directory"]), orders["profile"])
    try:
        serve(
            place,
            ControllerSettings(**orders["settings"]),
            logging.getLogger("ipkernel_ext.controller"),
            owner,
            listening,
        )
    except ParallelError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
