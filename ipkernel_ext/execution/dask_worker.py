"""A worker of Dask inside an engine, in threads of its own: what it computes has the engine's memory before it.

Called on an engine like a user's functions.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from IPython.core.getipython import get_ipython

NO_PAGES: dict[str, Any] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
"""Options of what would serve web pages otherwise. Dask listens for them in any case."""

STARTS = 30.0
"""Seconds in which a worker must have found its scheduler, or ended."""


class _Running:
    """A worker and the thread of its event loop."""

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        self._address = address
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._worker: Any = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="Dask worker", daemon=True)
        self._thread.start()

    def start(self) -> str:
        """Join the scheduler; the worker's address."""
        address: str = self._do(self._start())
        return address

    async def _start(self) -> str:
        import dask
        from distributed import Worker

        with dask.config.set({"distributed.worker.http.routes": []}):
            self._worker = Worker(self._address, **NO_PAGES, **self._options)
            await self._worker
        address: str = self._worker.address
        return address

    def stop(self) -> None:
        """Leave, and end the thread."""
        try:
            if self._worker is not None:
                self._do(self._worker.close(nanny=False))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STARTS)
            if not self._thread.is_alive():
                self._loop.close()

    def _do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(STARTS)


_running: _Running | None = None


def start(address: str, options: dict[str, Any]) -> str:
    """Have this engine be a worker; its address. One that belongs to another scheduler ends before."""
    global _running
    stop()
    _running = _Running(address, options)
    try:
        return _running.start()
    except BaseException:
        stop()
        raise


def stop() -> None:
    """Have it be none."""
    global _running
    running, _running = _running, None
    if running is not None:
        running.stop()


def variable(name: str) -> Any:
    """A variable of this engine's: the object itself."""
    shell: Any = get_ipython()
    return shell.user_ns[name]
