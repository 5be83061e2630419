"""ipyparallel: controller, schedulers and engines of ``ipyparallel.Cluster``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import work
from benchmarks.systems.base import System


class IPyParallel(System):
    """As it comes: an engine is admitted after two heartbeats, one in three seconds."""

    controller: tuple[str, ...] = ()

    def start(self, n: int) -> None:
        import ipyparallel

        self.n = n
        self._cluster = ipyparallel.Cluster(
            n=n, log_level=logging.ERROR, engine_timeout=280, controller_args=list(self.controller)
        )
        self._rc = self._cluster.start_and_connect_sync(activate=False)
        self._rc.wait_for_engines(n, timeout=280, interactive=False)
        self._all = self._rc[:]
        self._all.block = True
        self._balanced = self._rc.load_balanced_view()
        self._first = self._rc[self._rc.ids[0]]

    def stop(self) -> None:
        self._rc.close()
        self._cluster.stop_cluster_sync()

    def pids(self) -> list[int]:
        return list(self._all.apply_sync(os.getpid))

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._balanced.apply_sync(f, *arguments)

    def call_first(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._first.apply_sync(f, *arguments)

    def submit_all(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return list(self._balanced.map_async(f, items, chunksize=1, ordered=True).get())

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return list(self._all.map_sync(f, items))

    def execute(self, code: str) -> None:
        self._all.execute(code, block=True)

    def print_lines(self, count: int) -> int:
        result = self._all.apply_async(work.print_lines, count)
        result.wait()
        result.wait_for_output()
        return sum(text.count("\n") for text in result.stdout)


class FastBeat(IPyParallel):
    """A heartbeat every 200 ms."""

    controller = ("--HeartMonitor.period=200",)
