"""The engines as workers of Dask.

The scheduler is in the client's process: it needs an answer in time, and engines run user code that
may keep Python's lock for long, while a client that waits for Dask does nothing else. So it ends with
the client, as futures do. Workers are threads of the engines, beside the thread that runs user code.

Dask's own sockets would let in whoever finds the port. So all of them speak TLS, with a key that is
made here, and that goes to the engines as arguments do. Its web pages ask nobody for a key; there are none.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import dask
import distributed
from dask import array as dask_array
from dask.delayed import delayed
from distributed.scheduler import Scheduler

from ipkernel_ext.execution import dask_worker
from ipkernel_ext.execution.portions import Description
from ipkernel_ext.targets import summary

if TYPE_CHECKING:
    from ipkernel_ext.remote_values import RemoteValue
    from ipkernel_ext.views import Engines


class DaskCluster:
    """A scheduler here, and workers inside engines.

    Attributes
    ----------
    client : distributed.Client
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._addresses: dict[str, str] = {}  # of the workers, by their engines' boot
        local = all(engine.host == socket.gethostname() for engine in engines.known)
        self._security = distributed.Security.temporary()
        options = {"host": "127.0.0.1" if local else None, "port": 0, "security": self._security}
        with dask.config.set({"distributed.scheduler.http.routes": []}):
            self._cluster = distributed.SpecCluster(
                workers={},
                scheduler={"cls": Scheduler, "options": {**options, **dask_worker.NO_PAGES}},
                security=self._security,
                silence_logs=logging.WARNING,
            )
        try:
            self.client = distributed.Client(self._cluster)
        except BaseException:
            self._cluster.close()
            raise

    def join(self, ids: Sequence[int], options: dict[str, Any]) -> None:
        """Have engines be workers that are none yet."""
        boots = self._engines._link.boots(ids)
        missing = [id for id, boot in boots.items() if boot not in self._addresses]
        wanted = {"nthreads": 1, "security": self._security, **options}
        started = [(boots[id], self._start(id, {"name": f"engine {id}", **wanted})) for id in missing]
        self._addresses.update((boot, result.get()) for boot, result in started)
        there = {engine.boot for engine in self._engines.known}
        self._addresses = {boot: address for boot, address in self._addresses.items() if boot in there}
        self.client.wait_for_workers(len(self._addresses), dask_worker.STARTS)

    def _start(self, id: int, options: dict[str, Any]) -> Any:
        return self._engines._quietly(
            dask_worker.start, self._cluster.scheduler_address, options, targets=id, block=False
        )

    def collection(self, value: RemoteValue) -> Any:
        """A remote value as a collection of Dask, made of the engines' own pieces.

        Raises
        ------
        TypeError
            The pieces are neither arrays nor tables.
        """
        pieces = value.describe()
        kinds = {piece.type for piece in pieces}
        if len(kinds) != 1 or not kinds <= _MAKERS.keys():
            raise TypeError(f"Dask has no collection of {' and '.join(sorted(kinds))}; it has of arrays and of tables")
        futures = [
            self.client.submit(
                dask_worker.variable, value.name, workers=[address], allow_other_workers=False, pure=False
            )
            for address in self._addresses_of(value.ids)
        ]
        return _MAKERS[kinds.pop()](futures, pieces)

    def _addresses_of(self, ids: Sequence[int]) -> list[str]:
        """Of engines' workers. RuntimeError where one of them is none."""
        boots = self._engines._link.boots(ids)
        missing = [id for id in ids if boots[id] not in self._addresses]
        if missing:
            raise RuntimeError(f"engines {summary(missing)} are no workers of Dask yet: become_dask() makes them so")
        return [self._addresses[boots[id]] for id in ids]

    def close(self, *, engines: bool) -> None:
        """End the scheduler, and with ``engines`` the workers before it."""
        boots = self._engines._link.boots(self._engines.ids) if engines else {}
        self.client.close()
        under_way = [
            self._engines._quietly(dask_worker.stop, targets=id, block=False)
            for id, boot in boots.items()
            if boot in self._addresses
        ]
        self._addresses.clear()
        for result in under_way:
            result.wait(dask_worker.STARTS)
        self._cluster.close()


def _array(futures: Sequence[Any], pieces: Sequence[Description]) -> Any:
    return dask_array.concatenate(
        [
            dask_array.from_delayed(delayed(future), shape=piece.shape, dtype=piece.dtype)
            for future, piece in zip(futures, pieces, strict=True)
        ]
    )


def _table(futures: Sequence[Any], pieces: Sequence[Description]) -> Any:
    from dask import dataframe

    return dataframe.from_delayed(futures)


_MAKERS: dict[str, Callable[..., Any]] = {"ndarray": _array, "DataFrame": _table, "Series": _table}
