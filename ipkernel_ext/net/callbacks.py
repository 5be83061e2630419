"""The thread in which users' callbacks run, so that they may call and wait without holding up what arrives."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

PATIENCE = 2.0  # seconds for which the end waits for what runs

log = logging.getLogger("concurrent.futures")


class CallbackThread:
    """Runs callbacks in order; what they raise is logged. The thread begins with the first of them."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[Callable[[Any], object], Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, callback: Callable[[Any], object], future: Any) -> None:
        """Run this when those before have run. From one thread only."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="ipkernel_ext callbacks", daemon=True)
            self._thread.start()
        self._waiting.put((callback, future))

    def end(self) -> None:
        """Nothing more will be put."""
        self._waiting.put(None)

    def join(self) -> None:
        """Wait until all that was put has run, if it does soon; a callback may say this itself."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(PATIENCE)

    def _loop(self) -> None:
        while (entry := self._waiting.get()) is not None:
            callback, future = entry
            try:
                callback(future)
            except BaseException:
                log.exception("exception calling callback for %r", future)
            del entry, callback, future
