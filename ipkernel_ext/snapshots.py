"""Whether a function still is what it was, so that its pickle of then will do.

To pickle a function of the user's own takes longer than to send and to run a small task. Nothing tells when something
of what it brings along changes; but most of that cannot change without becoming another object: code, numbers, text,
what is installed, and functions that bring no more than such things along. A function that brings anything else,
an array or a list, has no snapshot, and is pickled each time.
"""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from ipkernel_ext import modules

Snapshot = tuple[Any, ...]
"""What a function brings along; compared object by object."""

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, type(...)})
_ABSENT = object()
_DEPTH = 8  # functions that use functions, and tuples in tuples
_EMPTY = object()  # a cell that has no value yet


def snapshot(f: Callable[..., Any]) -> Snapshot | None:
    """What a function is made of now; None where something of that could change unseen."""
    if type(f) is not types.FunctionType:
        return None
    parts: list[Any] = [len(sys.modules)]  # what is imported decides which submodules go along
    return tuple(parts) if _add_function(f, parts, {f: 0}, _DEPTH) else None


def same(one: Snapshot, other: Snapshot) -> bool:
    """Whether two snapshots are of the same things."""
    return len(one) == len(other) and one[0] == other[0] and all(map(operator.is_, one[1:], other[1:]))


def _add_function(f: types.FunctionType, parts: list[Any], seen: dict[Any, int], depth: int) -> bool:
    parts += (f.__code__, f.__name__, f.__qualname__, f.__module__, f.__doc__)
    values = [f.__globals__.get(name, _ABSENT) for name in _names(f.__code__)]
    for cell in f.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:
            values.append(_EMPTY)
    for named in (f.__kwdefaults__, f.__dict__, f.__annotations__):
        parts.append(None if not named else len(named))
        if named:
            parts += named
            values += named.values()
    values += f.__defaults__ or ()
    return _add_all(values, parts, seen, depth)


def _names(code: types.CodeType) -> list[str]:
    """What it may read of its globals; and names of attributes, which do no harm."""
    names = list(code.co_names)
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            names += _names(constant)
    return names


def _add_all(values: Iterable[Any], parts: list[Any], seen: dict[Any, int], depth: int) -> bool:
    parts.append(_EMPTY)  # what follows are the values
    for value in values:
        kind = type(value)
        if kind in _ATOMS or value is _ABSENT or value is _EMPTY or _is_installed(value, kind):
            parts.append(value)
        elif kind is types.FunctionType and depth:
            if value in seen:
                parts += value.__code__, seen[value]  # which of those that have this code
                continue
            seen[value] = len(seen)
            if not _add_function(value, parts, seen, depth - 1):
                return False
        elif kind is tuple and depth:
            parts.append(len(value))
            if not _add_all(value, parts, seen, depth - 1):
                return False
        else:
            return False
    return True


def _is_installed(value: Any, kind: type) -> bool:
    """Whether it goes by its name, and is nothing of the user's own."""
    if kind is types.BuiltinFunctionType:
        owner = value.__self__  # of a method, an object that can change
        return owner is None or (type(owner) is types.ModuleType and _is_installed(owner, types.ModuleType))
    if kind is types.ModuleType:
        home = value.__name__
        return sys.modules.get(home) is value and home != "__main__" and not modules.is_own(home)
    if kind is types.FunctionType or isinstance(value, type):
        home = getattr(value, "__module__", None)
        if not isinstance(home, str) or home == "__main__" or home not in sys.modules or modules.is_own(home):
            return False
        return getattr(sys.modules[home], value.__qualname__, None) is value
    return False
