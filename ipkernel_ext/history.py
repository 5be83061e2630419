"""What a client has called, numbered from 1, and the results as long as somebody may want them.

A result that nobody has collected is kept; one that was collected only while the user has it, or
while it is among the latest. How results travel must not be known here.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ipkernel_ext.errors import ResultExpired
from ipkernel_ext.results import AsyncResult

LATEST = 20
"""How many results are kept although they were collected: as many as an engine keeps in ``Out``."""

REMEMBERED = 10_000
"""How many calls are remembered."""


class Call(NamedTuple):
    """One call."""

    number: int
    kind: str  # execute, run, apply, map
    text: str  # code, path, or name of the function
    engine_ids: tuple[int, ...] | None  # None: balanced

    def __repr__(self) -> str:
        return f"{self.number}: {self.kind} {self.text.strip().splitlines()[0] if self.text.strip() else ''}"


class History:
    """The calls of one client. May be used from several threads."""

    def __init__(self) -> None:
        self._calls: deque[tuple[Call, Callable[[], AsyncResult | None]]] = deque(maxlen=REMEMBERED)
        self._uncollected: dict[int, AsyncResult] = {}
        self._latest: deque[AsyncResult] = deque(maxlen=LATEST)
        self._count = 0
        self._lock = threading.Lock()

    def add(self, kind: str, text: str, result: AsyncResult) -> AsyncResult | None:
        """Remember a call. The one that is not among the latest any more is given back: to free it may take a while."""
        engines = tuple(id for id in result.engine_ids if id is not None) if result.addressed else None
        with self._lock:
            self._count += 1
            number = self._count
            self._calls.append((Call(number, kind, text, engines), weakref.ref(result)))
            oldest = self._latest[0] if len(self._latest) == LATEST else None
            self._latest.append(result)
            self._uncollected[number] = result
        result.when_collected = lambda: self._uncollected.pop(number, None)
        return oldest

    @property
    def calls(self) -> list[Call]:
        """All that is remembered, the oldest first."""
        with self._lock:
            return [call for call, _ in self._calls]

    def get(self, which: int | str | None) -> AsyncResult:
        """The result of a call: by its number, a negative one counting from the end, or by a task's id; None: the last.

        Raises
        ------
        LookupError
            There is no such call of this client.
        ResultExpired
            It was collected, and has been dropped.
        """
        with self._lock:
            calls = list(self._calls)
        for call, result in reversed(calls):
            there = result()
            if isinstance(which, str):
                if there is not None and which in there.task_ids:
                    return there
            elif which is None or which in (call.number, call.number - self._count - 1):
                if there is not None:
                    return there
                raise ResultExpired(
                    f"the result of call {call.number} was collected and has been dropped; "
                    f"of those collected the latest {LATEST} are kept"
                )
        if isinstance(which, str):
            raise LookupError(
                f"no task {which!r} of this client is under way or in its history; "
                f"a result of `submit` that has come is only with whoever has kept it"
            )
        if not calls:
            raise LookupError("this client has called nothing yet")
        raise LookupError(
            f"there is no call {which!r} of this client; its calls are {calls[0][0].number} to {self._count}"
        )
