"""When a task may run, and how often: options of a call, checked before anything of it is sent.

Knows results only as the tasks they stand for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from ipkernel_ext import payload
from ipkernel_ext.core import failures
from ipkernel_ext.core.messages import Failure, TaskId
from ipkernel_ext.results import AsyncResult
from ipkernel_ext.units import a


class Conditions(NamedTuple):
    """What a submission's tasks are subject to."""

    retries: int = 0
    after: list[TaskId] = []  # noqa: RUF012 - nobody changes it
    unmet: Failure | None = None  # one of those has failed already
    timeout: float = 0.0  # seconds; 0: none


NONE = Conditions()

MOST_RETRIES = 2**31 - 1
"""What a message holds; more are as many."""


def conditions(retries: Any = 0, after: Any = None, timeout: Any = None) -> Conditions:
    """The options of a call, checked.

    Raises
    ------
    TypeError, ValueError
        One of them makes no sense; names it.
    """
    if after is None and timeout is None and type(retries) is int and retries == 0:
        return NONE
    ids, unmet = _dependencies(after)
    often = min(natural("retries", retries), MOST_RETRIES)
    return Conditions(often, ids, unmet, 0.0 if timeout is None else seconds(timeout))


class MapOptions:
    """The options of a map, checked.

    Raises
    ------
    TypeError, ValueError
        One of them makes no sense; names it.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        iterables: Sequence[Any],
        chunksize: Any,
        subject: Conditions,
        return_exceptions: bool,
        seed: Any,
    ) -> None:
        self.digest, self.function = payload.dumps_function(f)
        self.name = payload.name_of(f)
        if not iterables:
            raise TypeError("map needs at least one sequence after the function")
        for number, one in enumerate(iterables, 1):
            try:
                iter(one)
            except TypeError:
                raise TypeError(f"argument {number} of map is {a(type(one).__name__)}, which has no items") from None
        self.size = None if isinstance(chunksize, str) and chunksize == "auto" else _chunksize(chunksize)
        self.subject = subject
        self.return_exceptions = bool(return_exceptions)
        self.seed = None if seed is None else natural("seed", seed)


def _chunksize(value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"chunksize must be a positive integer or 'auto', not {value!r}")
    size: int = value.__index__()
    if size < 1:
        raise ValueError(f"chunksize must be a positive integer or 'auto', not {value!r}")
    return size


def natural(name: str, value: Any) -> int:
    """A number of 0 or more.

    Raises
    ------
    TypeError, ValueError
        It is none; names it.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    number: int = value.__index__()
    if number < 0:
        raise ValueError(f"{name} must not be negative, it is {number}")
    return number


def seconds(value: Any) -> float:
    """A time of more than 0 seconds.

    Raises
    ------
    TypeError, ValueError
        It is none.
    """
    if isinstance(value, bool) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"timeout must be a number of seconds, not {value!r}")
    number = float(value)
    if not number > 0 or math.isinf(number):
        raise ValueError(f"timeout must be a positive number of seconds, it is {value!r}")
    return number


def _dependencies(after: Any) -> tuple[list[TaskId], Failure | None]:
    """The tasks that have not ended yet, and the first that failed as a reason not to run."""
    if after is None:
        return [], None
    single = isinstance(after, AsyncResult | str | Future)
    if not single and not isinstance(after, Iterable):
        raise TypeError(f"after must be a result, a task id or a list of them, not {after!r}")
    open: dict[TaskId, None] = {}
    unmet: Failure | None = None
    for one in [after] if single else after:
        if isinstance(one, str):
            open[task_id(one)] = None
        elif isinstance(one, AsyncResult):
            for id, result in one.tasks():
                if result is None:
                    open[id] = None
                elif result.failure is not None and unmet is None:
                    unmet = failures.dependency(id, failures.brief(result.failure))
        else:
            raise TypeError(
                f"after takes results of submit, apply and map, and task ids, not {type(one).__name__}: "
                "the cluster does not hear when something else ends"
            )
    return list(open), unmet


def results_of(given: Any, call: str) -> list[AsyncResult]:
    """One result, or several, as a list.

    Raises
    ------
    TypeError
        It is none; names the call.
    """
    results = [given] if isinstance(given, AsyncResult) or not isinstance(given, Iterable) else list(given)
    for one in results:
        if not isinstance(one, AsyncResult):
            raise TypeError(f"{call} takes a result or a list of results, not {one!r}")
    return results


def task_id(text: str) -> TaskId:
    """A task's id from how ``AsyncResult.task_ids`` writes it; ValueError if it is none."""
    client, colon, number = text.rpartition(":")
    if not (client and colon and number.isdecimal()):
        raise ValueError(f"{text!r} is not the id of a task; see AsyncResult.task_ids")
    return TaskId(client, int(number))
