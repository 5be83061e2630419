"""Cutting a sequence for several engines, joining the pieces again, and taking a part.

Pure; NumPy, pandas, Arrow and SciPy are used where they are loaded already.
"""

from __future__ import annotations

import itertools
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from ipkernel_ext.units import a


def cut(sequence: Any, count: int) -> list[Any]:
    """``count`` consecutive pieces, as ``numpy.array_split`` cuts: the first ones are longer by one.

    Raises
    ------
    TypeError
        It has no length, or cannot be sliced.
    """
    kind = a(type(sequence).__name__)
    sparse = _sparse(sequence)
    if sparse is not None and sequence.ndim == 2:
        return [piece.asformat(sequence.format) for piece in _slices(sequence.tocsr(), sequence.shape[0], count)]
    try:
        length = len(sequence)
    except TypeError:
        raise TypeError(f"cannot scatter {kind}: it has no length; make a list of it first") from None
    if isinstance(sequence, dict | set | frozenset):
        raise TypeError(f"cannot scatter {kind}: it has no order; make a list of it first")
    slicing = getattr(sequence, "iloc", sequence)  # pandas slices rows by position there
    try:
        pieces = _slices(slicing, length, count)
    except TypeError:
        raise TypeError(f"cannot scatter {kind}: it cannot be sliced; make a list of it first") from None
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(sequence, numpy.ndarray) and sequence.flags.fnc:
        return [numpy.asanyarray(piece, order="F") for piece in pieces]
    return pieces


def _slices(sequence: Any, length: int, count: int) -> list[Any]:
    size, longer = divmod(length, count)
    bounds = [i * size + min(i, longer) for i in range(count + 1)]
    return [sequence[a:b] for a, b in itertools.pairwise(bounds)]


def _sparse(obj: Any) -> Any:
    """The package of a sparse matrix or array; None for all else."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse if sparse is not None and sparse.issparse(obj) else None


def length(value: Any) -> int | None:
    """How many items there are along the first axis; None for what ``join`` does not join."""
    if not any(find(value) is not None for find in _FINDERS):
        return None
    return int(value.shape[0]) if _sparse(value) is not None else len(value)


def take(sequence: Any, first: int | slice, rest: tuple[Any, ...] = ()) -> Any:
    """An item or a slice along the first axis, of tables by position; ``rest`` goes along the other axes."""
    arrow = sys.modules.get("pyarrow")
    if _sparse(sequence) is not None:
        sequence = sequence.tocsr()
    elif arrow is not None and isinstance(sequence, arrow.Table | arrow.RecordBatch | arrow.ChunkedArray):
        positions = range(len(sequence))[first]
        if isinstance(positions, range):
            return sequence.take(list(positions))
        return sequence[positions] if isinstance(sequence, arrow.ChunkedArray) else sequence.slice(positions, 1)
    else:
        sequence = getattr(sequence, "iloc", sequence)
    return sequence[(first, *rest)] if rest else sequence[first]


def join(pieces: Sequence[Any]) -> Any:
    """The pieces joined along their first axis.

    Raises
    ------
    TypeError
        They are not sequences, or not of one kind; ``pull`` gets such values one by one.
    """
    if not pieces:
        return []
    first = pieces[0]
    for find in _FINDERS:
        found = find(first)
        if found is None:
            continue
        kinds, joining = found
        if not all(isinstance(piece, kinds) for piece in pieces):
            different = ", ".join(sorted({type(piece).__name__ for piece in pieces}))
            raise TypeError(
                f"cannot join values of different types ({different}); use pull, which gives them one by one"
            )
        return joining(pieces)
    raise TypeError(f"cannot join {type(first).__name__} values of the engines; use pull, which gives them one by one")


Joining = tuple[Any, Callable[[Sequence[Any]], Any]] | None
"""The types that may come together, and how they are joined; None: they are none of these."""


def _arrays(first: Any) -> Joining:
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(first, numpy.ndarray) or first.ndim == 0:
        return None

    def concatenate(pieces: Sequence[Any]) -> Any:
        dtype, kind = pieces[0].dtype, type(pieces[0])
        one = all(piece.dtype == dtype for piece in pieces)
        return numpy.concatenate(pieces, dtype=dtype if one else None).view(kind)  # without it the byte order gets lost

    def concatenate_masked(pieces: Sequence[Any]) -> Any:
        masks = [piece.mask for piece in pieces]
        mask = masks[0]
        if any(mask is not numpy.ma.nomask for mask in masks):
            mask = numpy.concatenate([numpy.ma.getmaskarray(piece) for piece in pieces])
        data = concatenate([numpy.ma.getdata(piece) for piece in pieces])
        return numpy.ma.MaskedArray(data, mask, fill_value=first.fill_value)

    masked = isinstance(first, numpy.ma.MaskedArray)
    return numpy.ndarray, concatenate_masked if masked else concatenate


def _pandas(first: Any) -> Joining:
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return None
    if isinstance(first, pandas.DataFrame):
        return pandas.DataFrame, pandas.concat
    if isinstance(first, pandas.Series):
        return pandas.Series, pandas.concat
    if isinstance(first, pandas.Index):
        return pandas.Index, lambda pieces: first.append(list(pieces[1:]))
    if isinstance(first, pandas.api.extensions.ExtensionArray):
        return type(first), lambda pieces: pandas.concat([pandas.Series(piece) for piece in pieces]).array
    return None


def _arrow(first: Any) -> Joining:
    arrow = sys.modules.get("pyarrow")
    if arrow is None:
        return None
    if isinstance(first, arrow.Table):
        return arrow.Table, arrow.concat_tables
    if isinstance(first, arrow.RecordBatch):
        return arrow.RecordBatch, arrow.concat_batches
    if isinstance(first, arrow.ChunkedArray):
        return arrow.ChunkedArray, lambda pieces: arrow.chunked_array(
            [chunk for piece in pieces for chunk in piece.chunks], first.type
        )
    if isinstance(first, arrow.Array):
        return arrow.Array, arrow.concat_arrays
    return None


def _matrices(first: Any) -> Joining:
    sparse = _sparse(first)
    if sparse is None or first.ndim != 2:
        return None
    return (sparse.spmatrix, sparse.sparray), lambda pieces: sparse.vstack(pieces, format=first.format)


def _builtins(first: Any) -> Joining:
    if isinstance(first, str):
        return str, "".join
    if isinstance(first, bytes | bytearray):
        return bytes | bytearray, type(first)().join
    if isinstance(first, tuple):
        return tuple, lambda pieces: tuple(itertools.chain.from_iterable(pieces))
    if isinstance(first, list | range):
        return list | range, lambda pieces: list(itertools.chain.from_iterable(pieces))
    if isinstance(first, array):
        return array, lambda pieces: array(first.typecode, itertools.chain.from_iterable(pieces))
    return None


_FINDERS = (_arrays, _pandas, _arrow, _matrices, _builtins)
