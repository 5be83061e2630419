"""Dask: engines on the hosts of a cluster's workers, as children of these."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ipkernel_ext.launchers import guest
from ipkernel_ext.launchers.launcher import Launcher, LaunchError, LaunchOrder

ANSWER = 15.0  # seconds that the scheduler has


class Dask:
    """See ``guest.Host``."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._chosen: dict[str, list[str]] = {}  # workers, by the name of their outposts
        self._client: Any = None

    @property
    def _connected(self) -> Any:
        if self._client is None:
            try:
                from distributed import Client
            except ImportError:
                raise LaunchError("Dask is not installed here: pip install distributed") from None
            try:
                self._client = Client(self._address, timeout=ANSWER, set_as_default=False)  # type: ignore[no-untyped-call]
            except (OSError, ValueError, TimeoutError) as error:
                raise LaunchError(f"no Dask scheduler answers at {self._address}: {error}") from None
        return self._client

    def _workers(self) -> list[str]:
        return sorted(self._connected.scheduler_info(n_workers=-1)["workers"])

    def places(self, count: int) -> int:
        """Each worker has a share."""
        workers = len(self._workers())
        if not workers:
            raise LaunchError(f"the Dask cluster at {self._address} has no workers")
        return min(count, workers)

    def begin(self, name: str, orders: dict[str, Any], connection: str, groups: Sequence[str]) -> None:
        """One outpost on each of as many workers."""
        chosen = self._chosen[name] = []
        for worker, numbers in zip(self._workers(), groups, strict=False):
            chosen.append(worker)
            try:
                self._connected.run(guest.begin, name, orders, connection, numbers, workers=[worker])
            except Exception as error:  # whatever the worker raised
                raise LaunchError(
                    f"the Dask worker {worker} starts no engines: {type(error).__name__}: {error}"
                ) from None

    def states(self, name: str) -> list[str]:
        """By asking every worker."""
        up: dict[str, bool] = {}
        with contextlib.suppress(Exception):  # a worker that has just gone
            up = self._connected.run(guest.runs, name, on_error="ignore")
        return ["running" if up.get(worker) else "ended" for worker in self._chosen[name]]

    def end(self, name: str) -> None:
        """On every worker."""
        with contextlib.suppress(Exception):  # what cannot be reached ends by itself
            self._connected.run(guest.end, name, on_error="ignore")

    def close(self) -> None:
        """The client leaves."""
        if self._client is not None:
            self._client.close(ANSWER)


def launcher(settings: Mapping[str, Any], order: LaunchOrder) -> Launcher:
    """As the profile wants it."""
    if not settings["address"]:
        raise ValueError("which Dask cluster? --address tcp://HOST:8786, or c.ParallelGuest.address in the profile")
    return guest.Guests(Dask(settings["address"]), order)
