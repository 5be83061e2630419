"""Ray: tasks, an actor for each worker that is addressed, and its pool for maps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import work
from benchmarks.systems.base import System


class _Actor:
    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return f(*arguments)


class _Lines:
    """Stands in for ``sys.stdout``, where Ray's client writes what workers print."""

    def __init__(self) -> None:
        self.count = 0

    def write(self, text: str) -> None:
        self.count += "pid=" in text

    def flush(self) -> None:
        """Nothing."""

    def isatty(self) -> bool:
        return False


class Ray(System):
    """``ray.init`` with as many cores as workers."""

    def start(self, n: int) -> None:
        import ray

        self.n = n
        self._ray = ray
        ray.init(
            num_cpus=n,
            include_dashboard=False,
            log_to_driver=True,
            logging_level="ERROR",
            _node_ip_address="127.0.0.1",
            object_store_memory=2 << 30,
        )
        self._remotes: dict[Callable[..., Any], Any] = {}
        self._pool: Any = None
        self._actors: list[Any] = []

    def stop(self) -> None:
        self._ray.shutdown()

    def pids(self) -> list[int]:
        return self._everywhere(work.pid_after, 0)

    def _everywhere(self, f: Callable[..., Any], *arguments: Any) -> list[Any]:
        if not self._actors:
            actor = self._ray.remote(_Actor).options(num_cpus=0)
            self._actors = [actor.remote() for _ in range(self.n)]
        return list(self._ray.get([actor.call.remote(f, *arguments) for actor in self._actors]))

    def _remote(self, f: Callable[..., Any]) -> Any:
        if f not in self._remotes:
            self._remotes[f] = self._ray.remote(f)
        return self._remotes[f]

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._ray.get(self._remote(f).remote(*arguments))

    def call_first(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._ray.get(self._actors[0].call.remote(f, *arguments))

    def submit_all(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        remote = self._remote(f)
        return list(self._ray.get([remote.remote(item) for item in items]))

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        if self._pool is None:
            from ray.util.multiprocessing import Pool

            self._pool = Pool(self.n)
        return list(self._pool.map(f, items))

    def execute(self, code: str) -> None:
        self._everywhere(work.execute, code)

    def print_lines(self, count: int) -> int:
        lines, before = _Lines(), (sys.stdout, sys.stderr)
        sys.stdout = sys.stderr = lines  # type: ignore[assignment]
        try:
            self._everywhere(work.print_lines, count)
            limit = time.monotonic() + 60
            while lines.count < count * self.n and time.monotonic() < limit:
                time.sleep(0.002)
        finally:
            sys.stdout, sys.stderr = before
        return lines.count
