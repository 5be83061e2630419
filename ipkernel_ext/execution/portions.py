"""What a value on an engine looks like, and portions of it: for handles that leave the value where it is.

Called on an engine like a user's functions, with the value as argument.
"""

from __future__ import annotations

import functools
import reprlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ipkernel_ext import sequences


class Description(NamedTuple):
    """One engine's value."""

    type: str
    length: int | None  # items along the first axis; None: it is one item
    shape: tuple[int, ...] | None
    dtype: str  # "" where it has none
    nbytes: int  # as far as cheaply known
    text: str  # a short repr, of what is one item


class Reduced(NamedTuple):
    """What the items of one engine were combined to; ``empty``: there were none."""

    empty: bool
    value: Any = None


def describe(value: Any) -> Description:
    """The value, without its items."""
    length = sequences.length(value)
    return Description(
        type(value).__name__, length, _shape(value), _dtype(value), _size(value), "" if length else reprlib.repr(value)
    )


def portion(value: Any, first: int | slice | None, rest: tuple[Any, ...]) -> Any:
    """An item or a slice along the first axis, and of that a part along the others; None: all of it."""
    return value if first is None else sequences.take(value, first, rest)


def reduce(value: Any, f: Callable[[Any, Any], Any]) -> Reduced:
    """The items combined by a function of two; a value that has none is one item itself."""
    length = sequences.length(value)
    if length is None:
        return Reduced(False, value)
    if not length:
        return Reduced(True)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(f, numpy.ufunc) and isinstance(value, numpy.ndarray):
        return Reduced(False, f.reduce(value, axis=0))
    items: Sequence[Any] = value if isinstance(value, str | list | tuple) else _Items(value, length)
    return Reduced(False, functools.reduce(f, items))


class _Items(Sequence[Any]):
    """The items of something along its first axis."""

    def __init__(self, value: Any, length: int) -> None:
        self._value, self._length = value, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and not 0 <= index < self._length:
            raise IndexError(index)
        return sequences.take(self._value, index)


def _shape(value: Any) -> tuple[int, ...] | None:
    try:
        return tuple(map(int, value.shape))
    except Exception:
        return None


def _dtype(value: Any) -> str:
    try:
        return str(value.dtype)
    except Exception:
        return ""


def _size(value: Any) -> int:
    measures: list[Callable[[], Any]] = [
        lambda: value.nbytes,
        lambda: value.memory_usage().sum(),  # pandas, in whole tables
        lambda: value.data.nbytes,  # SciPy
    ]
    for measure in measures:
        try:
            return int(measure())
        except Exception:
            continue
    return sys.getsizeof(value, 0)
