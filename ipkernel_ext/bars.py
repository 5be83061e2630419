"""Progress bars of tqdm that Ctrl-C leaves as they should be.

Its own lose a KeyboardInterrupt that comes while one of them is finalized, so that the call that was to end goes on;
and they take locks in Python functions, in which an interrupt leaves them taken, for a thread of theirs to wait for.
"""

from __future__ import annotations

import functools
import threading
from typing import Any


def bar(total: int | None, **options: Any) -> Any:
    """A bar, to be closed by ``with``; tqdm's where the session is, in a notebook its widget."""
    from tqdm.auto import tqdm

    return _kind(tqdm)(total=total, **options)


@functools.cache
def _kind(base: Any) -> Any:
    kind: Any = type("Bar", (base,), {"__del__": lambda self: None, "monitor_interval": 0})
    kind.set_lock(threading.RLock())
    return kind
