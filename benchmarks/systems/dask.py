"""dask.distributed: a local cluster of processes with one thread each, no dashboard, no memory limit."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import work
from benchmarks.systems.base import System


class Dask(System):
    """As it comes otherwise."""

    def start(self, n: int) -> None:
        import dask
        import distributed

        self.n = n
        dask.config.set({"distributed.comm.timeouts.connect": "280s", "distributed.scheduler.worker-ttl": None})
        self._cluster = distributed.LocalCluster(
            n_workers=n,
            processes=True,
            threads_per_worker=1,
            dashboard_address=None,
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            host="127.0.0.1",
        )
        self._client = distributed.Client(self._cluster, timeout=280)
        self._client.wait_for_workers(n, timeout=280)
        self._first = next(iter(self._client.scheduler_info(n_workers=-1)["workers"]))

    def stop(self) -> None:
        self._client.close()
        self._cluster.close(timeout=20)

    def pids(self) -> list[int]:
        return list(self._client.run(os.getpid).values())

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._client.submit(f, *arguments, pure=False).result()

    def call_first(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._client.submit(f, *arguments, pure=False, workers=self._first).result()

    def submit_all(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return list(self._client.gather(self._client.map(f, items, pure=False)))

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        from dask import bag

        return list(bag.from_sequence(items).map(f).compute())

    def execute(self, code: str) -> None:
        self._client.run(work.execute, code)
