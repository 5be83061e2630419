"""User objects as frames, and back. The only module that pickles; the controller never imports it.

Frames are: the pickle stream in one or more segments (large ``bytes`` and ``str`` are segments of
their own, so that the stream is never copied as a whole), then the out-of-band buffers of pickle
protocol 5 (PEP 574). The first four bytes of the first frame count the segments.

What is surely found by name on the other side is pickled plainly; all else goes through
cloudpickle, which sends functions and classes of ``__main__`` and notebooks by value.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cloudpickle

from ipkernel_ext.errors import PayloadError

Frame = Any

LARGE = 65536  # bytes; what is written in one piece of this size stays a piece
HEAVY = 10 * 2**20  # bytes that a function may bring along without a warning

_COUNT = struct.Struct("<I")
_SCALARS = frozenset({int, float, complex, bool, str, bytes, type(None)})
_CONTAINERS = frozenset({tuple, list})


class Ref(NamedTuple):
    """A name, as an argument: resolved in the engine's namespace."""

    name: str


class _Segments(io.RawIOBase):
    """A file that keeps large writes apart."""

    def __init__(self) -> None:
        self.segments: list[Frame] = []
        self._small: list[bytes] = []

    def write(self, data: Any) -> int:
        size = len(data)
        if size >= LARGE:
            self._close_segment()
            self.segments.append(data)
        else:
            self._small.append(bytes(data))
        return size

    def _close_segment(self) -> None:
        if self._small:
            self.segments.append(b"".join(self._small))
            self._small = []

    def finish(self) -> list[Frame]:
        """The segments, the first one with their count before it."""
        self._close_segment()
        count = _COUNT.pack(len(self.segments))
        if len(self.segments[0]) < LARGE:
            self.segments[0] = count + bytes(self.segments[0])
        else:
            self.segments.insert(0, _COUNT.pack(len(self.segments) + 1))
        return self.segments


class _Reader:
    """What ``pickle.Unpickler`` reads from: segments, one after the other."""

    def __init__(self, segments: Sequence[Frame]) -> None:
        self._segments = [memoryview(segment) for segment in segments]
        self._index = 0
        self._offset = 0

    def read(self, size: int) -> bytes:
        pieces = []
        while size > 0 and self._index < len(self._segments):
            segment = self._segments[self._index]
            piece = segment[self._offset : self._offset + size]
            pieces.append(piece)
            size -= len(piece)
            self._offset += len(piece)
            if self._offset >= len(segment):
                self._index += 1
                self._offset = 0
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, target: Any) -> int:
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def readline(self) -> bytes:
        line = bytearray()
        while (byte := self.read(1)) and byte != b"\n":
            line += byte
        return bytes(line + byte)


def _plain(obj: Any, depth: int = 3) -> bool:
    """Whether plain pickle does, and does it without large pieces."""
    kind = type(obj)
    if kind in _SCALARS:
        return kind not in (str, bytes) or len(obj) < LARGE
    if not depth:
        return False
    if kind in _CONTAINERS:
        return len(obj) <= 32 and all(_plain(item, depth - 1) for item in obj)
    if kind is dict:
        return len(obj) <= 32 and all(type(k) is str and _plain(v, depth - 1) for k, v in obj.items())
    return False


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
    if _plain(obj):
        return [b"\x01\x00\x00\x00" + pickle.dumps(obj, 5)]
    buffers: list[Frame] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:
            return True  # not contiguous: stays in the stream
        if view.nbytes < LARGE // 16:
            return True
        buffers.append(view)
        return False

    stream = _Segments()
    try:
        cloudpickle.Pickler(stream, protocol=5, buffer_callback=keep).dump(obj)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise PayloadError(_explain(obj, name, error)) from error
    return [*stream.finish(), *buffers]


def loads(frames: Sequence[Frame], unpickler: Callable[..., pickle.Unpickler] = pickle.Unpickler) -> Any:
    """The object that the frames hold; its arrays are writable.

    Buffers that arrive read-only are copied; writable ones are used as they are.

    Raises
    ------
    PayloadError
        It cannot be rebuilt here; says what is missing.
    """
    (count,) = _COUNT.unpack_from(frames[0])
    first = memoryview(frames[0])[_COUNT.size :]
    segments = [first, *frames[1:count]]
    buffers = [_writable(frame) for frame in frames[count:]]
    try:
        if count == 1 and unpickler is pickle.Unpickler:
            return pickle.loads(first, buffers=buffers)
        return unpickler(_Reader(segments), buffers=buffers).load()
    except ModuleNotFoundError as error:
        raise PayloadError(
            f"cannot rebuild an object here: there is no module {error.name!r}; install it, or put its directory on sys.path"
        ) from error
    except Exception as error:
        raise PayloadError(f"cannot rebuild an object here: {type(error).__name__}: {error}") from error


def _writable(frame: Frame) -> Any:
    view = memoryview(frame)
    return bytearray(view) if view.readonly else view


def dumps_function(f: Callable[..., Any]) -> tuple[str, list[Frame]]:
    """A function as (digest, frames).

    Raises
    ------
    TypeError
        It cannot be called.
    PayloadError
        It, or something it brings along, cannot be pickled.
    """
    if not callable(f):
        raise TypeError(f"{f!r} is not callable")
    frames = dumps(f, name=getattr(f, "__name__", "function"))
    digest = hashlib.blake2b(digest_size=8)
    size = 0
    for frame in frames:
        digest.update(frame)
        size += len(frame)
    if size > HEAVY:
        warnings.warn(f"{_heaviest(f)}; push it once and name it by Ref instead", UserWarning, stacklevel=4)
    return digest.hexdigest(), frames


def dumps_exception(error: BaseException) -> list[Frame] | None:
    """An exception as frames, or None where it could not be rebuilt from them."""
    try:
        frames = dumps(error)
        rebuilt = loads(frames)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return None
    return frames if type(rebuilt).__name__ == type(error).__name__ else None


def _brought(f: Any) -> dict[str, Any]:
    """The globals and closure variables that a function brings along, by name."""
    f = getattr(f, "__func__", f)
    if not isinstance(f, types.FunctionType):
        return {}
    names = [name for code in codes(f.__code__) for name in code.co_names]
    brought = {name: f.__globals__[name] for name in names if name in f.__globals__}
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=False):
        try:
            brought[name] = cell.cell_contents
        except ValueError:
            continue  # not bound yet
    return brought


def codes(code: types.CodeType) -> list[types.CodeType]:
    """The code object and those of the functions defined in it."""
    found = [code]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.extend(codes(constant))
    return found


def _heaviest(f: Any) -> str:
    sizes = {}
    for name, value in _brought(f).items():
        try:
            sizes[name] = sum(len(frame) for frame in dumps(value))
        except PayloadError:
            continue
    if not sizes:
        return f"function {getattr(f, '__name__', f)} is more than {HEAVY // 2**20} MB"
    name = max(sizes, key=lambda name: sizes[name])
    return f"function {getattr(f, '__name__', f)} brings {name!r} along, {sizes[name] / 1e6:.0f} MB"


def _explain(obj: Any, name: str, error: BaseException) -> str:
    path, culprit = _find(obj, name, set(), 6)
    why = str(error) if culprit is obj else str(_pickle_error(culprit) or error)
    return f"cannot pickle {path}: {why.splitlines()[0] if why else type(error).__name__}"


def _pickle_error(obj: Any) -> BaseException | None:
    try:
        cloudpickle.dumps(obj, 5)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return error
    return None


def _find(obj: Any, path: str, seen: set[int], depth: int) -> tuple[str, Any]:
    """The smallest part of an object that cannot be pickled, by path."""
    seen.add(id(obj))
    if depth:
        for part, inner in _parts(obj, path):
            if id(inner) not in seen and type(inner) not in _SCALARS and _pickle_error(inner) is not None:
                return _find(inner, part, seen, depth - 1)
    return path, obj


def _parts(obj: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(obj, dict):
        return [(f"{path}[{key!r}]", value) for key, value in obj.items()]
    if isinstance(obj, list | tuple):
        return [(f"{path}[{i}]", value) for i, value in enumerate(obj)]
    if isinstance(obj, set | frozenset):
        return [(f"{path}{{…}}", value) for value in obj]
    if isinstance(obj, types.FunctionType | types.MethodType):
        return [(f"{path}, which uses {name!r}", value) for name, value in _brought(obj).items()]
    attributes = getattr(obj, "__dict__", None)
    if isinstance(attributes, dict):
        return [(f"{path}.{name}", value) for name, value in attributes.items()]
    return []

