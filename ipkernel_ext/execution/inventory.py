"""The user's variables of one engine, described briefly: for tables, not for moving them.

Called on an engine like a user's function; reads the namespace of the shell that runs there.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from types import ModuleType
from typing import Any, NamedTuple

from IPython.core.getipython import get_ipython

COMPARED = 16 * 2**20
"""Bytes up to which values are compared by their content; larger ones by type, shape and size only."""


class Variable(NamedTuple):
    """One variable."""

    name: str
    type: str
    shape: str  # of an array or table, or the length; "" where it has none
    size: int  # bytes, as far as cheaply known
    digest: str  # equal for equal values; "" where that is not known


def variables() -> list[Variable]:
    """Those of this engine, by name."""
    shell: Any = get_ipython()
    names: list[str] = shell.keys()
    return [describe(name, shell.user_ns[name]) for name in names]


def describe(name: str, value: Any) -> Variable:
    """One variable. Code of the value's class may run, and may fail."""
    kind = type(value).__name__
    size = _size(value)
    return Variable(name, kind, _shape(value), size, _digest(value, size))


def _size(value: Any) -> int:
    try:
        return int(value.nbytes)
    except Exception:
        pass
    try:
        return sys.getsizeof(value)
    except Exception:
        return 0


def _shape(value: Any) -> str:
    if isinstance(value, type | ModuleType):
        return ""
    try:
        shape = value.shape
        if isinstance(shape, tuple):
            text = "×".join(map(str, shape))
            dtype = getattr(value, "dtype", None)
            return f"{text or 'scalar'} {dtype}" if dtype is not None else text
    except Exception:
        pass
    try:
        return str(len(value))
    except Exception:
        return ""


def _digest(value: Any, size: int) -> str:
    if size > COMPARED:
        return ""
    try:
        data = pickle.dumps(value, 5)
    except Exception:
        return ""
    return hashlib.blake2b(data, digest_size=8).hexdigest()
