"""User objects as frames, and back. The only module that pickles; the controller never imports it.

Frames are: the pickle stream in one or more segments (large ``bytes`` and ``str`` are segments of
their own, so that the stream is never copied as a whole), then the out-of-band buffers of pickle
protocol 5 (PEP 574). The first four bytes of the first frame count the segments; zero says that
the frame is one plain pickle of builtin types.

What is surely found by name on the other side is pickled plainly; all else goes through
cloudpickle, which sends functions and classes of ``__main__`` and notebooks by value. What is of a
module of the user's own goes by name and, for those who cannot import that, by value too. Frames of
large objects are those objects' own memory; ``own`` copies what somebody else could still change.

This module must not know what a task or an engine is, and must not need NumPy.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import math
import pickle
import re
import socket
import struct
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial, singledispatch, singledispatchmethod, update_wrapper
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import cloudpickle
from cloudpickle import cloudpickle as internals

from ipkernel_ext import classes, modules, versions
from ipkernel_ext.advice import advise
from ipkernel_ext.blobs import Blob, Lost
from ipkernel_ext.errors import NameNotFound, PayloadError, VersionMismatch
from ipkernel_ext.snapshots import Snapshot, snapshot

Frame = Any

LARGE = 131072
"""Bytes; what pickle writes in one piece of this size stays a piece. Pickle's own frames are smaller."""

HEAVY = 10 * 2**20
"""Bytes that a function may bring along without a warning."""

_SEGMENT = 2**20  # bytes; small pieces are joined up to this size
_IN_BAND = 4096  # bytes; smaller buffers stay in the stream
_COPIED = 4096  # bytes; a copy of less costs less than a view
_DEEP = 12  # steps into an object, to find what cannot be pickled
_CHAIN = 16  # exceptions behind an exception that go with it
_COUNT = struct.Struct("<I")
_PLAIN = _COUNT.pack(0)
_NUMBERS = frozenset({int, float, complex, bool, range, type(None)})
_SCALARS = _NUMBERS | {str, bytes}


@dataclass(frozen=True, slots=True)
class Ref:
    """A name, as an argument or anywhere inside one: an engine puts the value in its namespace in its place."""

    name: str

    def __reduce__(self) -> tuple[type[Ref], tuple[str]]:
        return Ref, (self.name,)


# ---------------------------------------------------------------- objects to frames


class StaysHere(TypeError):
    """Raised by what refuses to be pickled as a whole: of what it consists is not to be looked at."""


def dumps(obj: Any, name: str = "object") -> list[Frame]:
    """An object as frames.

    Parameters
    ----------
    name : str
        What to call the object in an error.

    Raises
    ------
    PayloadError
        It cannot be pickled; names the part that cannot, by its path inside the object.
    """
    if _plain(obj, 3):
        return [_PLAIN + pickle.dumps(obj, 5)]
    try:
        return _dump(obj)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PayloadError(_explain(obj, name, error)) from error


def dumps_within(obj: Any, limit: int, name: str = "object") -> list[bytes] | None:
    """An object as frames that are nobody else's memory; None where they would have more bytes than this.

    Raises
    ------
    PayloadError
        It cannot be pickled.
    """
    try:
        frames = _dump(obj, limit)
    except _TooHeavy:
        return None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PayloadError(_explain(obj, name, error)) from error
    return None if sum(map(len, frames)) > limit else [bytes(frame) for frame in frames]


def dumps_call(args: Sequence[Any], kwargs: dict[str, Any]) -> list[Frame]:
    """``(args, kwargs)`` as frames; an error names ``args[0]…`` or ``kwargs['x']…``.

    Raises
    ------
    PayloadError
        An argument cannot be pickled.
    """
    if not kwargs and _NUMBERS.issuperset(map(type, args)):
        return [_PLAIN + pickle.dumps((args, kwargs), 5)]
    try:
        return dumps((args, kwargs))
    except PayloadError as error:
        dumps(args, "args")
        dumps(kwargs, "kwargs")
        raise error from error.__cause__


def dumps_items(columns: Sequence[Sequence[Any]], start: int) -> list[Frame]:
    """Arguments of a map's items, a sequence for each argument, as frames.

    Parameters
    ----------
    start : int
        Index of the first item in the whole map; an error names ``items[3]``, or ``items[3][0]``, the
        first of several arguments.

    Raises
    ------
    PayloadError
        An item cannot be pickled.
    """
    try:
        return dumps(columns, name="items")
    except PayloadError as error:
        for index, item in enumerate(zip(*columns, strict=False), start):
            for place, argument in enumerate(item):
                dumps(argument, f"items[{index}]" if len(item) == 1 else f"items[{index}][{place}]")
        raise error from error.__cause__


def _plain(obj: Any, depth: int) -> bool:
    """Whether plain pickle does, and does it without large pieces."""
    kind = type(obj)
    if kind in _SCALARS:
        return kind in _NUMBERS or len(obj) < LARGE
    if not depth:
        return False
    if kind is tuple or kind is list:
        if len(obj) > 32:
            return False
        for item in obj:  # noqa: SIM110 - a generator, and a call for each number, cost as much as the rest
            if type(item) not in _NUMBERS and not _plain(item, depth - 1):
                return False
        return True
    if kind is dict:
        if len(obj) > 32:
            return False
        for key, value in obj.items():  # noqa: SIM110
            if type(key) is not str or not _plain(value, depth - 1):
                return False
        return True
    return False


def _by_name(obj: Any) -> bool:
    """Whether an object's class is NumPy's own and its items are no Python objects."""
    kind = type(obj)
    if kind.__module__ != "numpy":
        return False
    numpy = sys.modules.get("numpy")
    return numpy is not None and (kind is numpy.ndarray or isinstance(obj, numpy.generic)) and not obj.dtype.hasobject


def _dump(obj: Any, limit: float = math.inf) -> list[Frame]:
    buffers: list[Frame] = []
    stream = _Segments(limit)
    pickler = pickle.Pickler if _by_name(obj) else _Pickler
    pickler(stream, 5, buffer_callback=_keeper(buffers, limit)).dump(obj)
    return [*stream.finish(), *buffers]


def _keeper(buffers: list[Frame], limit: float = math.inf) -> Callable[[pickle.PickleBuffer], bool]:
    """Has a pickler put large buffers here instead of into its stream."""

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:
            return True  # not contiguous: stays in the stream
        if view.nbytes < _IN_BAND:
            return True
        if view.nbytes > limit:
            raise _TooHeavy
        buffers.append(view)
        return False

    return keep


class _Segments:
    """A file that keeps large writes apart."""

    def __init__(self, limit: float = math.inf) -> None:
        self._left = limit
        self._segments: list[Frame] = []
        self._small: list[bytes] = [b"    "]  # where the count will be
        self._size = 0

    def write(self, data: Any) -> None:
        size = len(data)
        self._left -= size
        if self._left < 0:
            raise _TooHeavy
        if size >= LARGE:
            self._close_segment()
            self._segments.append(data)
            return
        self._small.append(bytes(data))
        self._size += size
        if self._size >= _SEGMENT:
            self._close_segment()

    def _close_segment(self) -> None:
        if self._small:
            self._segments.append(self._small)
            self._small = []
            self._size = 0

    def finish(self) -> list[Frame]:
        self._close_segment()
        self._segments[0][0] = _COUNT.pack(len(self._segments))
        return [b"".join(segment) if type(segment) is list else segment for segment in self._segments]


_UNCHANGING = (bytes, Blob)


def own(frames: Iterable[Frame]) -> list[Frame]:
    """The frames, with a copy of those whose memory somebody else could still change.

    The object that was pickled must not be referred to by the caller any more, else all of its
    large parts count as somebody else's.
    """
    owned = []
    for frame in frames:
        if isinstance(frame, _UNCHANGING) or (isinstance(frame, memoryview) and _sole(frame)):
            owned.append(frame)
        else:
            owned.append(bytes(frame))
    return owned


def _sole(view: memoryview) -> bool:
    """Whether an array's memory is referred to by this view alone."""
    numpy = sys.modules.get("numpy")
    owner: Any = view.obj
    if numpy is None or type(owner) is not numpy.ndarray or not owner.flags.owndata:
        return False
    return sys.getrefcount(owner) <= _SOLE_COUNT


def _sole_count() -> int:
    """References to an object that only a view made by ``PickleBuffer.raw`` holds, as ``_sole`` counts them."""

    def count(view: memoryview) -> int:
        owner = view.obj
        return sys.getrefcount(owner)

    return count(pickle.PickleBuffer(bytearray(1)).raw())


_SOLE_COUNT = _sole_count()


# ---------------------------------------------------------------- frames to objects


class Unpickler(pickle.Unpickler):
    """Says what is missing, makes arrays writable whose original was not, and knows classes again."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            found = super().find_class(module, name)
        except ModuleNotFoundError as error:
            raise PayloadError(
                f"cannot rebuild {module}.{name} here: there is no module {error.name!r}; "
                "install it, or put its directory on sys.path"
            ) from error
        except AttributeError as error:
            raise PayloadError(
                f"cannot rebuild {module}.{name} here: module {module!r} has no {name!r} here; "
                "the two sides have different versions of it"
            ) from error
        if name == "_frombuffer" and module.startswith("numpy."):
            return partial(_from_writable, found)
        if module == internals.__name__ and name in _CLASS_PARTS:
            return partial(_CLASS_PARTS[name], found)
        return found


def _from_writable(build: Callable[..., Any], buffer: Any, *rest: Any) -> Any:
    if type(buffer) is not bytearray:
        view = memoryview(buffer)
        if view.readonly:
            original = view.obj if view.nbytes else None
            buffer = original if type(original) is bytearray and len(original) == view.nbytes else bytearray(view)
    return build(buffer, *rest)


_arrived: WeakSet[type] = WeakSet()
"""Classes that were made here from what came by value; they follow the definition that came last."""


def _make_class(make: Callable[..., type], *args: Any) -> type:
    identity = args[-2]
    known: type | None = internals._DYNAMIC_CLASS_TRACKER_BY_ID.get(identity)
    here = getattr(sys.modules.get("__main__"), args[1], None)
    if here is not known and isinstance(here, type) and classes.identity(here) == identity:
        known = here
    elif known is None:
        known = make(*args)
        _arrived.add(known)
    _track(known, identity)
    return known


def _set_class(setstate: Callable[..., Any], kind: type, state: Any) -> type:
    if kind in _arrived:
        setstate(kind, state)
    return kind


_CLASS_PARTS: dict[str, Callable[..., Any]] = {
    "_make_skeleton_class": _make_class,
    "_make_skeleton_enum": _make_class,
    "_class_setstate": _set_class,
}


def _track(kind: type, identity: str) -> None:
    with internals._DYNAMIC_CLASS_TRACKER_LOCK:
        internals._DYNAMIC_CLASS_TRACKER_BY_CLASS[kind] = identity
        internals._DYNAMIC_CLASS_TRACKER_BY_ID[identity] = kind


def _identify(kind: type) -> None:
    """Have a class of ``__main__`` known by what it says, where that can be told."""
    if kind.__module__ != "__main__" or kind in internals._DYNAMIC_CLASS_TRACKER_BY_CLASS:
        return
    identity = classes.identity(kind)
    if identity is not None:
        _track(kind, identity)


def loads(frames: Sequence[Frame], unpickler: Callable[..., pickle.Unpickler] = Unpickler, *args: Any) -> Any:
    """The object that the frames hold; its arrays are writable.

    Parameters
    ----------
    unpickler, *args
        Makes what rebuilds all but builtin types: of these, the stream, and ``buffers``.

    Buffers that arrive read-only are copied; writable ones become the arrays' memory as they are,
    so such frames are good for one object only.

    Raises
    ------
    PayloadError
        It cannot be rebuilt here; says what is missing. What was raised is its cause.
    VersionMismatch
        It holds byte code of another Python.
    """
    try:
        first = frames[0]
        if first[:4] == _PLAIN:
            return pickle.loads(first[4:] if len(first) < _COPIED else memoryview(first)[4:])
        first = memoryview(first)
        (count,) = _COUNT.unpack_from(first)
        if count == 1:
            stream: Any = io.BytesIO(first[4:])
        else:
            stream = _Reader([first[4:], *(memoryview(frame) for frame in frames[1:count])])
        buffers = [_writable(frame) for frame in frames[count:]]
        return unpickler(*args, stream, buffers=buffers).load()
    except (KeyboardInterrupt, NameNotFound, PayloadError, VersionMismatch):
        raise
    except BaseException as error:
        lost = next((frame for frame in frames if isinstance(frame, Lost)), None)
        if lost is not None:
            raise PayloadError(f"cannot rebuild an object here: of {lost.size} bytes of it, {lost.why}") from None
        raise PayloadError(f"cannot rebuild an object here: {type(error).__name__}: {_text(error)}") from error


def _writable(frame: Frame) -> Any:
    view = memoryview(frame)
    return bytearray(view) if view.readonly else view


class _Reader:
    """What an unpickler reads from: segments, one after the other."""

    def __init__(self, segments: list[memoryview]) -> None:
        self._segments = segments
        self._index = 0
        self._offset = 0

    def read(self, size: int) -> bytes:
        pieces = list(self._pieces(size))
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, target: Any) -> int:
        done = 0
        for piece in self._pieces(len(target)):
            target[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def readline(self) -> bytes:
        line = bytearray()
        while (byte := self.read(1)) and byte != b"\n":
            line += byte
        return bytes(line + byte)

    def _pieces(self, size: int) -> Iterable[memoryview]:
        while size > 0 and self._index < len(self._segments):
            segment = self._segments[self._index]
            piece = segment[self._offset : self._offset + size]
            size -= len(piece)
            self._offset += len(piece)
            if self._offset >= len(segment):
                self._index += 1
                self._offset = 0
            yield piece


# ---------------------------------------------------------------- functions

REMEMBERED = 2**16  # bytes of a function's pickle, beyond which it is made anew each time

_known: WeakKeyDictionary[Any, tuple[str, list[Frame]]] = WeakKeyDictionary()
_pickled: WeakKeyDictionary[Any, tuple[Snapshot, tuple[str, list[Frame]]]] = WeakKeyDictionary()


def name_of(f: Callable[..., Any]) -> str:
    """A function's name, for people; of one inside another, its own."""
    name = getattr(f, "__qualname__", None)
    return name.rpartition("<locals>.")[2] if isinstance(name, str) else type(f).__name__


def dumps_function(f: Callable[..., Any]) -> tuple[str, list[Frame]]:
    """A function as (digest, frames). One that is importable by name goes by name.

    Warns when it brings more than 10 MB along.

    Raises
    ------
    TypeError
        It cannot be called.
    PayloadError
        It, or something it brings along, cannot be pickled.
    """
    may_be_known = type(f) is types.FunctionType and not internals._PICKLE_BY_VALUE_MODULES
    before = _pickled.get(f) if may_be_known else None
    if before is not None and before[0].holds():
        return before[1]
    if not callable(f):
        raise TypeError(f"{f!r} is not callable")
    importable = _importable(f) and not modules.is_own(f.__module__)
    if importable:
        known = _known.get(f)
        if known is not None:
            return known
    taken = snapshot(f) if may_be_known and not importable else None
    frames = own(dumps(f, name=getattr(f, "__name__", "function")))  # by this digest others will have it for long
    digest = hashlib.blake2b(digest_size=8)
    size = 0
    for frame in frames:
        digest.update(frame)
        size += len(frame)
    if size > HEAVY:
        advise(_weight(f, size))
    result = digest.hexdigest(), frames
    if importable:
        _known[f] = result
    elif taken is not None and size <= REMEMBERED:
        _pickled[f] = taken, result
    return result


def _importable(f: Any) -> bool:
    """Whether a function is surely found by its name, also on the other side."""
    if type(f) is not types.BuiltinFunctionType and type(f) is not types.FunctionType:
        return False
    module = f.__module__
    if module is None or module == "__main__" or internals._PICKLE_BY_VALUE_MODULES:
        return False
    home = sys.modules.get(module)
    return home is not None and getattr(home, f.__qualname__, None) is f


def _weight(f: Any, size: int) -> str:
    function = getattr(f, "__name__", repr(f))
    if not callable(f):
        return f"module {function} weighs more than {size / 1e6:.0f} MB"
    sizes: dict[str, int] = {}
    for name, (value, _) in _brought(f).items():
        try:
            sizes[name] = sum(len(frame) for frame in dumps(value))
        except PayloadError:
            continue
    if not sizes or max(sizes.values()) < size // 2:
        return f"function {function} weighs {size / 1e6:.0f} MB; push what it needs and name it by Ref instead"
    name = max(sizes, key=lambda name: sizes[name])
    return (
        f"function {function} brings {name!r} along, {sizes[name] / 1e6:.0f} MB; "
        f"push it once and pass Ref({name!r}) instead"
    )


# ---------------------------------------------------------------- modules of the user's own

_Value = tuple[bytes | None, str]
"""Something by value, or why it cannot go so."""

_by_value: WeakKeyDictionary[Any, tuple[Any, _Value]] = WeakKeyDictionary()


def _value_of(obj: Any) -> _Value:
    """A function, class or module by value, with what it uses of the user's own modules."""
    stamp = _stamp(obj)
    known = _by_value.get(obj)
    if known is None or known[0] != stamp:
        known = _by_value[obj] = stamp, _pickle_value(obj)
    return known[1]


def _pickle_value(obj: Any) -> _Value:
    stream = _Light()
    try:
        _Pickler(stream, 5, by_value=True).dump(obj)
    except KeyboardInterrupt:
        raise
    except _TooHeavy:
        return None, _weight(obj, HEAVY)
    except BaseException as error:
        return None, _explain(obj, _named(obj), error)
    return stream.getvalue(), ""


class _TooHeavy(Exception):
    """It weighs more than goes along unasked."""


class _Light(io.BytesIO):
    """Refuses what is heavy before it is copied."""

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > HEAVY:
            raise _TooHeavy
        return super().write(data)


def _stamp(obj: Any) -> Any:
    """What changes when something of the user's own modules is defined anew."""
    if _is_dispatcher(obj):
        return [id(implementation) for implementation in obj.registry.values()]
    if isinstance(obj, types.FunctionType):
        return obj.__code__, [id(value) for value, _ in _brought(obj).values()]
    return [id(value) for value in vars(obj).values()]


def _named(obj: Any) -> str:
    return obj.__name__ if isinstance(obj, types.ModuleType) else f"{obj.__module__}.{obj.__qualname__}"


def _find_named(module: str, name: str, value: bytes | None, why: str) -> Any:
    """What goes by this name here; else what was sent along."""
    try:
        found: Any = importlib.import_module(module)
        for part in name.split(".") if name else ():
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise PayloadError(f"cannot import {module} here: there is no module {error.name!r}") from error
        missing = f"there is no module {error.name!r}"
    except AttributeError:
        missing = f"module {module!r} has no {name!r} here"
    else:
        return found
    if value is None:
        raise PayloadError(
            f"cannot rebuild {module}{name and '.'}{name} here: {missing}, and it could not be sent along: {why}"
        )
    return _rebuild(value)


@lru_cache(512)
def _rebuild(value: bytes) -> Any:
    return Unpickler(io.BytesIO(value)).load()


def codes(code: types.CodeType) -> list[types.CodeType]:
    """The code object and those of the functions defined in it."""
    found = [code]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.extend(codes(constant))
    return found


def _brought(f: types.FunctionType) -> dict[str, tuple[Any, str]]:
    """What a function brings along, by name: the value, and what the name is."""
    if not isinstance(f, types.FunctionType):
        return {}
    names = [name for code in codes(f.__code__) for name in code.co_names]
    brought = {name: (f.__globals__[name], "a global") for name in names if name in f.__globals__}
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=False):
        try:
            brought[name] = (cell.cell_contents, "a variable")
        except ValueError:
            continue  # not bound yet
    return brought


# ---------------------------------------------------------------- exceptions


def dumps_exception(error: BaseException) -> list[Frame] | None:
    """An exception as frames, or None where it could not be rebuilt from them.

    Its notes, cause and context go with it where they can be pickled; its traceback does not.
    """
    try:
        frames = _dump(error)
        rebuilt = loads(frames)
        same = type(rebuilt) is type(error) and _text(rebuilt) == _text(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
    return own(frames) if same else None


# ---------------------------------------------------------------- pieces of Arrow objects

_SPARE = 65536  # bytes that a piece may bring of what it was cut from


def _reduce_piece(obj: Any) -> Any:
    """How to pickle a piece of an Arrow object without what it was cut from; None where that is not needed.

    Arrow itself pickles the memory that a piece points into as a whole.
    """
    arrow = sys.modules["pyarrow"]
    if not isinstance(obj, arrow.Array | arrow.ChunkedArray | arrow.RecordBatch | arrow.Table):
        return None
    if obj.get_total_buffer_size() <= 2 * obj.nbytes + _SPARE:
        return None
    if isinstance(obj, arrow.Table):
        table = obj
    elif isinstance(obj, arrow.RecordBatch):
        table = arrow.Table.from_batches([obj])
    else:
        table = arrow.Table.from_arrays([obj], names=["piece"])
    sink = arrow.BufferOutputStream()
    try:
        with arrow.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    except arrow.ArrowException:  # a type that Arrow cannot write
        return None
    kind = next(kind for kind in _ARROW_PIECES if isinstance(obj, getattr(arrow, kind)))
    return _rebuild_piece, (kind, pickle.PickleBuffer(sink.getvalue()))


def _rebuild_piece(kind: str, buffer: Any) -> Any:
    import pyarrow

    table = pyarrow.ipc.open_stream(buffer).read_all()
    match kind:
        case "Table":
            return table
        case "RecordBatch":
            columns = [column.combine_chunks() for column in table.columns]
            return pyarrow.RecordBatch.from_arrays(columns, schema=table.schema)
        case "ChunkedArray":
            return table.column(0)
        case _:
            return table.column(0).combine_chunks()


_ARROW_PIECES = ("Table", "RecordBatch", "ChunkedArray", "Array")


# ---------------------------------------------------------------- how objects are pickled

_reduce_code = cloudpickle.Pickler.dispatch_table[types.CodeType]


_MAKER = f"Python {versions.minor(versions.HERE.python)} with cloudpickle {versions.HERE.cloudpickle.split('.')[0]}"
"""Whose byte code this is; that of another one could crash the interpreter."""


def _new_code(
    maker: str, name: str, build: Callable[..., types.CodeType], args: tuple[Any, ...], filename: str
) -> types.CodeType:
    if maker != _MAKER:
        raise VersionMismatch(
            f"cannot rebuild {name} by value: it was made by {maker}, "
            f"and this is {_MAKER}, on host {socket.gethostname()}. Use the same versions on both sides, "
            "or put it into a module that both sides can import"
        )
    return build(*args).replace(co_filename=filename)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Cloudpickle's, and some things more.

    What is of the user's own modules goes by name and by value, or ``by_value`` alone, cached
    functions go without their cache, those that dispatch by type with what is registered for them,
    exceptions get across whose ``__init__`` does not take their ``args``, code keeps the name of its
    file, for tracebacks, and says who made it, and a piece of an Arrow object does not bring the whole along.
    """

    def __init__(
        self,
        file: Any,
        protocol: int,
        buffer_callback: Any = None,
        portable: dict[int, BaseException | None] | None = None,
        by_value: bool = False,
    ) -> None:
        super().__init__(file, protocol=protocol, buffer_callback=buffer_callback)
        self._by_value = by_value
        self._portable: dict[int, BaseException | None] = {} if portable is None else portable

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _NAMED):
            return self._reduce_named(obj)
        if isinstance(obj, BaseException):
            return self._reduce_exception(obj)
        if type(obj) is types.CodeType:
            return _new_code, (_MAKER, obj.co_qualname, *_reduce_code(obj), obj.co_filename)
        if type(obj) is singledispatchmethod:
            return _new_dispatching_method, (), obj.dispatcher, None, None, _set_dispatching_method
        if type(obj).__module__ == "pyarrow.lib" and (reduced := _reduce_piece(obj)) is not None:
            return reduced
        return super().reducer_override(obj)

    def _reduce_named(self, obj: Any) -> Any:
        """What has a name in a module, or is a module."""
        home: Any
        if isinstance(obj, types.ModuleType):
            home, name = obj.__name__, ""
            by_name = obj is sys.modules.get(home)
        else:
            home, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", "")
            by_name = internals._lookup_module_and_qualname(obj, name) is not None
        own = by_name and modules.is_own(home) and home not in internals.list_registry_pickle_by_value()
        if own and not self._by_value:
            return _find_named, (home, name, *_value_of(obj))
        if isinstance(obj, _CACHING) and (own or not by_name):
            return _cache, (obj.__wrapped__, obj.cache_parameters())
        if _is_dispatcher(obj) and (own or not by_name):
            return _reduce_dispatcher(obj)
        if isinstance(obj, types.FunctionType) and obj.__code__ is _BOUND_DISPATCHER:
            return _reduce_bound_dispatcher(obj)
        if isinstance(obj, types.ModuleType) and own:
            return (
                types.ModuleType,
                (home,),
                {name: value for name, value in vars(obj).items() if name not in _OF_IMPORT},
            )
        if isinstance(obj, types.FunctionType) and own:
            return self._dynamic_function_reduce(obj)
        if isinstance(obj, type) and own:
            return _with_slots(obj, internals._dynamic_class_reduce(obj))
        if isinstance(obj, type):
            _identify(obj)
        return _with_slots(obj, super().reducer_override(obj))

    def _reduce_exception(self, error: BaseException) -> Any:
        reduced = error.__reduce_ex__(5)
        if not isinstance(reduced, tuple) or len(reduced) > 3:
            return reduced
        build, args, *state = reduced
        chain = [self._linked(error.__cause__), self._linked(error.__context__), error.__suppress_context__]
        chain.append(None if state else getattr(error, "__notes__", None))
        if not _rebuilds(error, build, args):
            build, args = _new_exception, (type(error), error.args)
        return build, args, (state[0] if state else None, chain), None, None, _set_exception

    def _linked(self, error: BaseException | None) -> BaseException | None:
        """The exception behind another one, if it can be pickled."""
        if error is None:
            return None
        if id(error) not in self._portable:
            self._portable[id(error)] = None  # while it is found out, and for a chain that is a ring
            if len(self._portable) <= _CHAIN and _pickle_error(error, self._portable) is None:
                self._portable[id(error)] = error
        return self._portable[id(error)]


_DISPATCHER = singledispatch(len).__code__  # type: ignore[attr-defined]
_OF_DISPATCHER = frozenset({"register", "dispatch", "registry", "_clear_cache", "__wrapped__"})


def _is_dispatcher(obj: Any) -> bool:
    """Whether ``functools.singledispatch`` made it, which keeps weak references behind it."""
    return isinstance(obj, types.FunctionType) and obj.__code__ is _DISPATCHER


def _reduce_dispatcher(f: Any) -> Any:
    more = {name: value for name, value in vars(f).items() if name not in _OF_DISPATCHER}
    return _new_dispatcher, (), (f.__wrapped__, list(f.registry.items()), more), None, None, _set_dispatcher


def _new_dispatcher() -> Any:
    return singledispatch(len)


def _set_dispatcher(f: Any, state: tuple[Callable[..., Any], list[tuple[type, Callable[..., Any]]], Any]) -> None:
    wrapped, registry, more = state
    update_wrapper(f, wrapped)
    for kind, implementation in registry:
        f.register(kind, implementation)
    vars(f).update(more)


def _new_dispatching_method() -> singledispatchmethod[Any]:
    return singledispatchmethod(len)


def _set_dispatching_method(method: singledispatchmethod[Any], dispatcher: Any) -> None:
    method.dispatcher, method.func = dispatcher, dispatcher.__wrapped__


_BOUND_DISPATCHER = singledispatchmethod(len).__get__(None, object).__code__


def _reduce_bound_dispatcher(f: Any) -> Any:
    held = dict(zip(f.__code__.co_freevars, f.__closure__, strict=True))
    return singledispatchmethod.__get__, (f.register.__self__, held["obj"].cell_contents, held["cls"].cell_contents)


_CACHING = type(lru_cache(len))
_NAMED = (type, types.FunctionType, types.ModuleType, _CACHING)


def _cache(f: Callable[..., Any], parameters: dict[str, Any]) -> Callable[..., Any]:
    cached: Callable[..., Any] = lru_cache(**parameters)(f)
    return cached


def _with_slots(kind: Any, reduced: Any) -> Any:
    """A class by value that is made with its slots; else its instances would have a ``__dict__`` there."""
    if isinstance(reduced, tuple) and reduced[0] is internals._make_skeleton_class and vars(kind).get("__slots__"):
        constructor, name, bases, kwargs, *rest = reduced[1]
        return reduced[0], (constructor, name, bases, kwargs | {"__slots__": kind.__slots__}, *rest), *reduced[2:]
    return reduced


_OF_IMPORT = frozenset({"__builtins__", "__spec__", "__loader__", "__cached__", "__path__"})


def _rebuilds(error: BaseException, build: Any, args: tuple[Any, ...]) -> bool:
    """Whether calling the exception's class with its ``args`` gives it again."""
    if build is not type(error) or type(error).__init__ in _TRUE_INITS:
        return True
    try:
        rebuilt = build(*args)
        return type(rebuilt) is type(error) and repr(rebuilt.args) == repr(error.args)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return False


_TRUE_INITS = frozenset({BaseException.__init__, Exception.__init__})


def _new_exception(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An exception made without its own ``__init__``, by that of the builtin class it derives from."""
    builtin: Any = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    error: BaseException = builtin.__new__(kind, *args)
    builtin.__init__(error, *args)
    error.args = args
    return error


def _set_exception(error: BaseException, state: tuple[Any, Any]) -> None:
    own_state, (cause, context, suppress, notes) = state
    if own_state is not None:
        error.__setstate__(own_state)
    if notes is not None:
        error.__notes__ = notes
    error.__cause__ = cause
    error.__context__ = context
    error.__suppress_context__ = suppress


# ---------------------------------------------------------------- a namespace, name by name


def dumps_apart(
    variables: dict[str, Any], namespace: Any
) -> tuple[list[tuple[list[str], list[Frame]]], dict[str, str]]:
    """Variables as frames, each ``{name: value}`` on its own, or together where they share an object.

    Functions whose globals are the namespace go without them, so that those of the namespace that
    they come into are theirs.

    Returns
    -------
    groups
        Names and frames.
    why
        By name, why it cannot be pickled, with the path inside the object.
    """
    alone: dict[str, list[Frame]] = {}
    why: dict[str, str] = {}
    owners: dict[int, str] = {}
    shared = {name: name for name in variables}
    memos = []  # keep what they have seen, so that no id comes twice
    for name, value in variables.items():
        try:
            alone[name], memo = _dump_variables({name: value}, namespace)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            why[name] = _explain(value, name, error)
            continue
        memos.append(memo)
        for id, (_, obj) in memo.items():
            if not isinstance(obj, _IMMUTABLE) and (owner := owners.setdefault(id, name)) is not name:
                shared[_first(shared, name)] = _first(shared, owner)
    groups: dict[str, list[str]] = {}
    for name in alone:
        groups.setdefault(_first(shared, name), []).append(name)
    together = [
        (names, alone[names[0]] if len(names) == 1 else _dump_variables({n: variables[n] for n in names}, namespace)[0])
        for names in groups.values()
    ]
    return together, why


_CELL = re.compile(r"^<ipython-input-\d+-")
_IMMUTABLE = (str, bytes, tuple, frozenset, type, types.ModuleType, types.FunctionType, types.CodeType)


def _first(shared: dict[str, str], name: str) -> str:
    while shared[name] != name:
        name = shared[name]
    return name


def _dump_variables(variables: dict[str, Any], namespace: Any) -> tuple[list[Frame], dict[int, tuple[int, Any]]]:
    """The frames, and what was memorized while they were made."""
    buffers: list[Frame] = []
    stream = _Segments()
    pickler = _VariablesPickler(stream, 5, _keeper(buffers))
    pickler.namespace = namespace
    pickler.dump(variables)
    memo: dict[int, tuple[int, Any]] = pickler.memo.copy()
    memo.pop(id(variables), None)
    return [*stream.finish(), *buffers], memo


class _VariablesPickler(_Pickler):
    """For variables of a namespace.

    Its own functions do not bring its other variables along, and cells are named without their number, so that
    two namespaces in which the same cell was run are alike.
    """

    namespace: Any = None

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is types.CodeType:
            return super().reducer_override(obj.replace(co_filename=_CELL.sub("<ipython-input-", obj.co_filename)))
        return super().reducer_override(obj)

    def _dynamic_function_reduce(self, func: Any) -> Any:
        reduced = super()._dynamic_function_reduce(func)
        if func.__globals__ is self.namespace:
            reduced[2][1]["__globals__"] = {}
        return reduced


# ---------------------------------------------------------------- what cannot be pickled, and where it is


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any) -> None:
        pass


def _pickle_error(obj: Any, portable: dict[int, BaseException | None] | None = None) -> BaseException | None:
    try:
        _Pickler(_Nowhere(), 5, lambda buffer: None, portable).dump(obj)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return error
    return None


def _explain(obj: Any, name: str, error: BaseException) -> str:
    path, use = name, ""
    if not isinstance(error, RecursionError | MemoryError) and not isinstance(error.__cause__, RecursionError):
        try:
            path, use, error = _find(obj, name, error)
        except Exception:  # user code was asked; the first error says enough
            path = name
    why = _text(error).split("\n")[0] or type(error).__name__
    if type(error) not in (TypeError, StaysHere, pickle.PicklingError):
        why = f"{type(error).__name__}: {why}"
    return f"cannot pickle {path}{use}: {why}"


def _find(obj: Any, path: str, error: BaseException) -> tuple[str, str, BaseException]:
    """The smallest part of an object that cannot be pickled: its path, who uses it, and why not."""
    use = ""
    seen = {id(obj)}
    for _ in range(_DEEP):
        parts = [part for part in _parts(obj, path, use) if type(part[0]) not in _SCALARS and id(part[0]) not in seen]
        while len(parts) > 1:
            half = parts[: len(parts) // 2]
            parts = half if _pickle_error([part[0] for part in half]) is not None else parts[len(half) :]
        why = _pickle_error(parts[0][0]) if parts else None
        if why is None:
            break
        obj, path, use = parts[0]
        error = why
        seen.add(id(obj))
    return path, use, error


def _refuses(obj: Any) -> bool:
    """Whether it is pickled as a whole or not at all, and so not."""
    try:
        obj.__reduce__()
    except StaysHere:
        return True
    except KeyboardInterrupt:
        raise
    except BaseException:  # of the user's classes, which may raise anything; their parts say more
        pass
    return False


Part = tuple[Any, str, str]


def _parts(obj: Any, path: str, use: str) -> list[Part]:
    """The parts of an object: each with its path, and who uses it."""
    if isinstance(obj, dict):
        keys = [(key, f"{path} (a key)", use) for key in obj]
        return [*keys, *((value, f"{path}[{_short(key)}]", use) for key, value in obj.items())]
    if isinstance(obj, list | tuple):
        return [(value, f"{path}[{i}]", use) for i, value in enumerate(obj)]
    if isinstance(obj, set | frozenset):
        return [(value, f"{path} (a member)", use) for value in obj]
    if isinstance(obj, types.MethodType):
        return [(obj.__self__, f"{path}.__self__", use), (obj.__func__, f"{path}.__func__", use)]
    if isinstance(obj, partial):
        return [(getattr(obj, name), f"{path}.{name}", use) for name in ("func", "args", "keywords")]
    if isinstance(obj, types.FunctionType):
        brought = [(value, name, f", {what} that {path} uses{use}") for name, (value, what) in _brought(obj).items()]
        defaults = [(value, f"{path} (a default)", use) for value in obj.__defaults__ or ()]
        return [*brought, *defaults]
    if _refuses(obj):
        return []
    parts = [(getattr(obj, name), f"{path}.{name}", use) for name in _slots(type(obj)) if hasattr(obj, name)]
    if isinstance(obj, BaseException):
        parts.append((obj.args, f"{path}.args", use))
    attributes = getattr(obj, "__dict__", None)
    if isinstance(attributes, dict | types.MappingProxyType):
        parts += [(value, f"{path}.{name}", use) for name, value in attributes.items()]
    return parts


def _slots(kind: type) -> list[str]:
    found: list[str] = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        found += [slots] if isinstance(slots, str) else list(slots)
    return [name for name in found if name not in ("__dict__", "__weakref__")]


def _short(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 40 else text[:37] + "…"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"
