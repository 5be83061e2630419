"""Whether functions draw from the global random generators, which nobody has seeded for them.

Looking at a generator's state costs more than a small task. So a function is looked at in its first run, in its second,
its fourth, and so on, and all of them together only so often in a second. What a task is must not be known here.
"""

from __future__ import annotations

import random
import sys
import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ipkernel_ext import payload

KEPT = 512  # functions
BURST = 16  # looks, at most, that follow on each other
PAUSE = 0.01  # seconds for each look, in the long run
DEEP = 4  # functions that call each other, by name

_SEEDING = frozenset({"seed", "setstate", "set_state"})


Look = Callable[[Callable[..., Any]], bool]
"""Whether the function, which has run now, is known to draw."""


class Draws:
    """Which functions draw.

    Parameters
    ----------
    clock
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._runs: dict[str, list[int]] = {}  # by digest: how many, and the next that is to be looked at
        self._found: set[str] = set()
        self._paid = -BURST * PAUSE  # until when looks are paid for

    def look(self, digest: str) -> Look | None:
        """A function is about to run. None: it is not looked at this time."""
        if digest in self._found:
            return _known
        runs = self._runs.get(digest)
        if runs is None:
            runs = self._runs[digest] = [0, 1]
            if len(self._runs) > KEPT:
                del self._runs[next(iter(self._runs))]
        runs[0] += 1
        if runs[0] < runs[1] or not self._may():
            return None
        runs[1] = 2 * runs[0]
        return partial(self._has_drawn, digest, _states())

    def _may(self) -> bool:
        now = self._clock()
        paid = max(self._paid, now - BURST * PAUSE) + PAUSE
        if paid > now:
            return False
        self._paid = paid
        return True

    def _has_drawn(self, digest: str, before: tuple[Any, Any], function: Callable[..., Any]) -> bool:
        ours, numpys = _states()
        drew = ours != before[0] or (before[1] is not None and numpys != before[1])
        if not drew or _seeds(function):
            return False
        if len(self._found) >= KEPT:
            self._found.clear()
        self._found.add(digest)
        return True


def _known(_: Callable[..., Any]) -> bool:
    return True


def _states() -> tuple[Any, Any]:
    numpy = sys.modules.get("numpy.random")
    return random.getstate(), None if numpy is None else _plain(numpy.get_state(legacy=False))


def _plain(state: Any) -> Any:
    """A state of NumPy's as something that can be compared."""
    if isinstance(state, dict):
        return [_plain(value) for value in state.values()]
    return state.tobytes() if hasattr(state, "tobytes") else state


def _seeds(function: Callable[..., Any]) -> bool:
    return any(_SEEDING.intersection(code.co_names) for code in _codes(function, DEEP, set()))


def _codes(function: Any, deep: int, seen: set[int]) -> Iterator[types.CodeType]:
    """The code of a function, and of those that it calls by a global name."""
    if isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        function = type(function).__call__
    if not isinstance(function, types.FunctionType) or id(function) in seen or not deep:
        return
    seen.add(id(function))
    for code in payload.codes(function.__code__):
        yield code
        for name in code.co_names:
            yield from _codes(function.__globals__.get(name), deep - 1, seen)
