"""Handles of values that stay on the engines: what they are first, and then only the part that is asked for.

The engines' pieces count as one sequence, as ``gather`` would join them: ``A[i]`` is the item that
``A.gather()[i]`` is. What an engine has that cannot be joined, a number or a dictionary, is one item.
How calls travel must not be known here.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ipkernel_ext import sequences
from ipkernel_ext.execution import portions
from ipkernel_ext.payload import Ref
from ipkernel_ext.targets import Chosen, summary
from ipkernel_ext.units import a, bytes_text, count

if TYPE_CHECKING:
    from ipkernel_ext.views import Engines

SHOWN = 8
"""Engines that a repr tells apart."""

_NOTHING = object()


class Place(NamedTuple):
    """A part of one of several pieces that count as one sequence."""

    piece: int
    part: int | slice


class RemoteValue:
    """A variable of the engines, without its value; made by ``rc.remote_value("A")``.

    ``A[3]``, ``A[10:20]`` and ``A[:, 0]`` fetch that part alone, from the engines that have it. As an argument of a
    call it is a ``Ref``: the function gets the engine's own value. Each use asks the engines anew; ``repr`` shows
    what was last heard.

    Attributes
    ----------
    name : str
    ids : list of int
        The engines.
    """

    def __init__(self, engines: Engines, name: str, chosen: Chosen) -> None:
        self.name = name
        self.ids = list(chosen.ids)
        self._engines = engines
        self._single = chosen.single
        self._known: list[portions.Description] = []
        self.describe()

    def describe(self) -> list[portions.Description]:
        """Of each engine's piece ``type``, ``length``, ``shape``, ``dtype``, ``nbytes`` and a short ``text``.

        Raises
        ------
        NameNotFound
            An engine has no such variable.
        """
        self._known = self._everywhere(portions.describe)
        return self._known

    @property
    def types(self) -> list[str]:
        """Names of the pieces' types, by engine."""
        return [piece.type for piece in self.describe()]

    @property
    def shapes(self) -> list[tuple[int, ...] | None]:
        """Shapes of the pieces, by engine; None for what has none."""
        return [piece.shape for piece in self.describe()]

    @property
    def dtypes(self) -> list[str]:
        """Dtypes of the pieces, by engine, as text; "" for what has none."""
        return [piece.dtype for piece in self.describe()]

    @property
    def sizes(self) -> list[int]:
        """Bytes of the pieces, by engine, as far as cheaply known."""
        return [piece.nbytes for piece in self.describe()]

    @property
    def nbytes(self) -> int:
        """Bytes of all pieces together."""
        return sum(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the pieces as one.

        Raises
        ------
        ValueError
            They do not fit together.
        """
        return _joined_shape(self.describe())

    @property
    def dtype(self) -> str:
        """That of all pieces, as text.

        Raises
        ------
        ValueError
            They have different ones.
        """
        dtypes = dict.fromkeys(self.dtypes)
        if len(dtypes) != 1:
            raise ValueError(f"the pieces of {self.name} have different dtypes: {', '.join(dtypes)}")
        return next(iter(dtypes))

    @property
    def ndim(self) -> int:
        """Axes of the pieces as one."""
        return len(self.shape)

    def __len__(self) -> int:
        return sum(_lengths(self.describe()))

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: Any) -> Any:
        """An item by index, or a slice; a tuple goes along several axes.

        Raises
        ------
        IndexError
            There is no such item.
        TypeError
            The key is something else; ``gather`` it, or compute on the engines.
        """
        pieces = self.describe()
        first, rest = _split_key(key, pieces)
        lengths = _lengths(pieces)
        if not isinstance(first, slice):
            place = find(lengths, first)
            return self._portion(pieces, place, rest)
        places = spread(lengths, first) or [Place(0, slice(0, 0))]
        parts = [self._portion(pieces, place, rest, block=False) for place in places]
        values = [part.get() for part in parts]
        if all(pieces[place.piece].length is None for place in places):
            return values if len(spread(lengths, first)) else []
        return values[0] if len(values) == 1 else sequences.join(values)

    def __iter__(self) -> Iterator[Any]:
        """The items, of which one piece at a time is fetched."""
        for id, piece in zip(self.ids, self.describe(), strict=True):
            value = self._call(portions.portion, id, None, ())
            if piece.length is None:
                yield value
            else:
                yield from (sequences.take(value, i) for i in range(piece.length))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """All of it here, as an array: what NumPy's functions need of an argument."""
        import numpy

        return numpy.asarray(self.gather(), dtype)

    def gather(self) -> Any:
        """All pieces here, joined along the first axis, as ``rc.gather`` does."""
        return self._engines.gather(self.name, targets=self.ids, block=True)

    def reduce(self, f: Callable[[Any, Any], Any], initial: Any = _NOTHING) -> Any:
        """``functools.reduce(f, A)``, of which each engine does its piece, and only what that gives travels.

        Parameters
        ----------
        f
            A function of two items that may be grouped in any way (associative), such as ``operator.add``, ``max`` or
            ``numpy.maximum``. ``sum`` stands for ``operator.add``.
        initial
            Stands before the items.

        Raises
        ------
        TypeError
            There are no items, and no ``initial``; or ``f`` is a function of one argument.
        """
        f = _of_two(f)
        reduced = self._everywhere(portions.reduce, f)
        values = [each.value for each in reduced if not each.empty]
        if initial is not _NOTHING:
            values.insert(0, initial)
        if not values:
            raise TypeError(f"{self.name} has no items to reduce, and there is no initial value")
        return functools.reduce(f, values)

    def to_dask(self) -> Any:
        """A Dask array, dataframe or series whose chunks are the engines' pieces themselves; nothing is moved.

        What changes a piece in place is seen by both; another value under the name is not.

        Raises
        ------
        RuntimeError
            The engines are no workers of Dask; ``become_dask`` makes them so.
        TypeError
            The pieces are neither arrays nor tables.
        """
        cluster = self._engines._link.dask
        if cluster is None:
            raise RuntimeError("the engines are no workers of Dask yet: become_dask() makes them so")
        return cluster.collection(self)

    def __reduce__(self) -> tuple[type[Ref], tuple[str]]:
        return Ref, (self.name,)

    def __repr__(self) -> str:
        return described(self.name, self.ids, self._known)

    def _portion(self, pieces: Sequence[portions.Description], place: Place, rest: Any, block: bool = True) -> Any:
        whole = pieces[place.piece].length is None
        return self._call(
            portions.portion, self.ids[place.piece], None if whole else place.part, () if whole else rest, block=block
        )

    def _everywhere(self, f: Callable[..., Any], *args: Any) -> list[Any]:
        """What the function of the engine's value and these gives, by engine."""
        if self._single:
            return [self._call(f, self.ids[0], *args)]
        every: list[Any] = self._call(f, self.ids, *args)
        return every

    def _call(self, f: Callable[..., Any], targets: int | list[int], *args: Any, block: bool = True) -> Any:
        return self._engines._quietly(f, Ref(self.name), *args, targets=targets, block=block)


def find(lengths: Sequence[int], index: Any) -> Place:
    """Where an item is, whose index counts over all pieces.

    Raises
    ------
    IndexError
        There are not so many.
    """
    whole = sum(lengths)
    at = operator.index(index)
    if not -whole <= at < whole:
        raise IndexError(f"index {at} of {count(whole, 'item')}")
    at %= whole
    for piece, length in enumerate(lengths):
        if at < length:
            return Place(piece, at)
        at -= length
    raise AssertionError("the index was checked")


def spread(lengths: Sequence[int], part: slice) -> list[Place]:
    """Which parts of which pieces a slice over all of them is, in its order."""
    wanted = range(*part.indices(sum(lengths)))
    places = []
    for piece, (offset, length) in enumerate(zip(itertools.accumulate(lengths, initial=0), lengths, strict=False)):
        there = _within(wanted, offset, offset + length)
        if there:
            begin, end = there[0] - offset, there[-1] - offset + there.step
            places.append(Place(piece, slice(begin, end if end >= 0 else None, there.step)))
    return places if wanted.step > 0 else places[::-1]


def _within(numbers: range, low: int, high: int) -> range:
    """Those of the numbers that are in ``[low, high)``."""
    if numbers.step < 0:
        return _within(numbers[::-1], low, high)[::-1]
    start, step = numbers.start, numbers.step
    begin = max(0, -((start - low) // step))
    end = max(0, -((start - high) // step))
    return numbers[begin:end]


def _lengths(pieces: Sequence[portions.Description]) -> list[int]:
    return [1 if piece.length is None else piece.length for piece in pieces]


def _split_key(key: Any, pieces: Sequence[portions.Description]) -> tuple[int | slice, tuple[Any, ...]]:
    """A key as what goes along the first axis, and what along the others."""
    keys = key if isinstance(key, tuple) else (key,)
    if any(one is Ellipsis for one in keys):
        at = next(i for i, one in enumerate(keys) if one is Ellipsis)
        free = len(_joined_shape(pieces)) - (len(keys) - 1)
        keys = (*keys[:at], *[slice(None)] * free, *keys[at + 1 :])
    first, *rest = keys or (slice(None),)
    if not isinstance(first, slice) and not hasattr(first, "__index__"):
        raise TypeError(
            "a remote value is indexed by an integer or a slice, or a tuple of them, "
            f"not by {a(type(first).__name__)}: gather() brings all of it, "
            "and a function that gets it as an argument computes on the engines"
        )
    return first, tuple(rest)


def _joined_shape(pieces: Sequence[portions.Description]) -> tuple[int, ...]:
    shapes = dict.fromkeys(_shape_of(piece) for piece in pieces)
    behind = {shape[1:] for shape in shapes if shape is not None}
    if None in shapes or len(behind) != 1:
        raise ValueError(f"the pieces have shapes that make no single one: {', '.join(map(str, shapes))}")
    return sum(_lengths(pieces)), *behind.pop()


def _shape_of(piece: portions.Description) -> tuple[int, ...] | None:
    if piece.length is None:
        return None
    return piece.shape or (piece.length,)


def _of_two(f: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    if f is sum:
        return operator.add
    try:
        inspect.signature(f).bind(None, None)
    except ValueError:
        return f  # it does not say what it takes
    except TypeError:
        raise _of_one(f) from None
    needed = [
        parameter
        for parameter in inspect.signature(f).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) == 1:
        raise _of_one(f)
    return f


def _of_one(f: Callable[..., Any]) -> TypeError:
    return TypeError(
        f"reduce takes a function of two items, such as operator.add, max or numpy.maximum, not {f!r}; "
        "what a function of a whole piece gives is rc.apply(f, A)"
    )


def described(name: str, ids: Sequence[int], pieces: Sequence[portions.Description]) -> str:
    """The text that a handle is shown as."""
    where = f"engine {ids[0]}" if len(ids) == 1 else f"engines {summary(ids)}"
    lines = [f"{id}: {_piece_text(piece)}" for id, piece in zip(ids, pieces, strict=True)]
    try:
        whole = f"{pieces[0].type} {_shape_text(_joined_shape(pieces))}"
        dtypes = {piece.dtype for piece in pieces}
        kinds = {piece.type for piece in pieces}
        if len(dtypes) == 1 and len(kinds) == 1:
            head = f"<RemoteValue {name}: {' '.join([whole, *(d for d in dtypes if d)])}"
            return f"{head}, {bytes_text(sum(piece.nbytes for piece in pieces))} on {where}>"
    except ValueError:
        pass
    more = [f"… and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n  ".join([f"<RemoteValue {name} on {where}", *lines[:SHOWN], *more]) + ">"


def _piece_text(piece: portions.Description) -> str:
    if piece.length is None:
        return f"{piece.type} {piece.text}"
    shape = _shape_of(piece)
    assert shape is not None
    return " ".join(filter(None, [piece.type, _shape_text(shape), piece.dtype, bytes_text(piece.nbytes)]))


def _shape_text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) if len(shape) > 1 else f"of {count(shape[0], 'item')}"
