"""Batches of joblib's on an engine, and the large arguments that several of them have in common.

Such an argument is sent to each engine once, and held there; in the batches something stands in for
it. Called on an engine like a user's functions.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Call = tuple[Any, Sequence[Any], dict[str, Any]]

_held: dict[str, Any] = {}


class StandIn(NamedTuple):
    """What stands for an argument that engines hold."""

    token: str


class NotHeld(Exception):
    """This engine does not hold an argument: it began after that was sent."""


def hold(token: str, value: Any) -> None:
    """Hold an argument. Of an array all batches get the same memory, so that is made read-only."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        value.flags.writeable = False
    _held[token] = value


def drop(tokens: Iterable[str]) -> None:
    """These arguments are not needed any more."""
    for token in tokens:
        _held.pop(token, None)


def prepare(modules: Iterable[str]) -> None:
    """Import modules, while nobody interrupts: one that was interrupted as it was imported may be broken for good."""
    for module in modules:
        with contextlib.suppress(ImportError):  # said by the call that needs it
            importlib.import_module(module)


def run(batch: Any) -> Any:
    """Call a batch of joblib's.

    Raises
    ------
    NotHeld
        An argument is not here; nothing was called.
    """
    batch.items = [
        (f, [_found(arg) for arg in args], {name: _found(arg) for name, arg in kwargs.items()})
        for f, args, kwargs in batch.items
    ]
    return batch()


def _found(argument: Any) -> Any:
    if type(argument) is not StandIn:
        return argument
    if argument.token not in _held:
        raise NotHeld(argument.token)
    value = _held[argument.token]
    numpy = sys.modules.get("numpy")
    return value if numpy is not None and isinstance(value, numpy.ndarray) else value.copy()
