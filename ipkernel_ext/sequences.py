"""Cutting a sequence for several engines, and joining the pieces again.

Pure; NumPy, pandas and Arrow are used where they are loaded already.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Any


def cut(sequence: Any, count: int) -> list[Any]:
    """``count`` consecutive pieces, as ``numpy.array_split`` cuts: the first ones are longer by one.

    Raises
    ------
    TypeError
        It has no length, or cannot be sliced.
    """
    try:
        length = len(sequence)
    except TypeError:
        raise TypeError(
            f"cannot scatter a {type(sequence).__name__}: it has no length; make a list of it first"
        ) from None
    if isinstance(sequence, dict | set | frozenset):
        raise TypeError(f"cannot scatter a {type(sequence).__name__}: it has no order; make a list of it first")
    slicing = getattr(sequence, "iloc", sequence)  # pandas slices rows by position there
    size, longer = divmod(length, count)
    bounds = [i * size + min(i, longer) for i in range(count + 1)]
    try:
        return [slicing[a:b] for a, b in itertools.pairwise(bounds)]
    except TypeError:
        raise TypeError(
            f"cannot scatter a {type(sequence).__name__}: it cannot be sliced; make a list of it first"
        ) from None


def join(pieces: Sequence[Any]) -> Any:
    """The pieces joined along their first axis.

    Raises
    ------
    TypeError
        They are not sequences; ``pull`` gets such values one by one.
    """
    if not pieces:
        return []
    first = pieces[0]
    numpy = sys.modules.get("numpy")
    pandas = sys.modules.get("pandas")
    arrow = sys.modules.get("pyarrow")
    if numpy is not None and isinstance(first, numpy.ndarray) and first.ndim > 0:
        if isinstance(first, numpy.ma.MaskedArray):
            return numpy.ma.concatenate(pieces)
        return numpy.concatenate(pieces)
    if pandas is not None and isinstance(first, pandas.DataFrame | pandas.Series):
        return pandas.concat(pieces)
    if arrow is not None and isinstance(first, arrow.Table):
        return arrow.concat_tables(pieces)
    if isinstance(first, str):
        return "".join(pieces)
    if isinstance(first, bytes | bytearray):
        return type(first)().join(pieces)
    if isinstance(first, tuple):
        return tuple(item for piece in pieces for item in piece)
    if isinstance(first, list | range):
        return [item for piece in pieces for item in piece]
    raise TypeError(f"cannot join {type(first).__name__} values of the engines; use pull, which gives them one by one")
