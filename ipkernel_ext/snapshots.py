"""Whether a function still is what it was, so that its pickle of then will do.

To pickle a function of the user's own takes longer than to send and to run a small task. Nothing tells when something
of what it brings along changes; but most of that cannot change without becoming another object: code, numbers, text,
what is installed, and functions that bring no more than such things along. A function that brings anything else,
an array or a list, has no snapshot, and is pickled each time.
"""

from __future__ import annotations

import builtins
import operator
import sys
import types
import weakref
from collections.abc import Callable
from itertools import repeat
from typing import Any

from ipkernel_ext import modules

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, type(...)})
_ABSENT = object()
_DEPTH = 8  # functions that use functions, and tuples in tuples
_OWNERS = (types.NoneType, types.ModuleType)
_EMPTY = object()  # a cell that has no value yet
_NEXT = object()  # between what comes from different places
_FIXED = 5
_ITSELF = operator.attrgetter("__code__", "__name__", "__qualname__", "__module__", "__doc__")
_ALONG = operator.attrgetter("__closure__", "__defaults__", "__kwdefaults__", "__dict__", "__annotations__")


_Ref = weakref.ref[types.FunctionType]

_Function = tuple[_Ref, list[str], list[Any], list[tuple[int, _Ref]]]
"""One that was looked at, the names of globals that it may read, and its parts. In the place of functions of the user's
own, which may go away, are references, which come again with their places."""

_Place = tuple[str, Any, str, Any]
"""Of something that is installed: its module's name, that module, its name in there, itself."""


class Snapshot:
    """What a function brings along, object by object, and where each was found."""

    __slots__ = ("_functions", "_installed", "_modules")

    def __init__(self) -> None:
        self._modules = len(sys.modules)  # what is imported decides which submodules go along
        self._functions: list[_Function] = []
        self._installed: dict[int, _Place] = {}

    def holds(self) -> bool:
        """Whether all of it is still there, and there is no more."""
        if len(sys.modules) != self._modules:
            return False
        for ref, names, before, own in self._functions:
            f = ref()
            if f is None:
                return False
            now = _parts(f, names)
            if len(now) != len(before):
                return False
            for place, known in own:
                if now[place] is known():
                    now[place] = known
            if not all(map(operator.is_, now, before)):
                return False
        return all(map(_is_at, self._installed.values()))

    def add_function(self, f: types.FunctionType, depth: int) -> bool:
        """One that goes along, with all that it brings. False where something of that could change unseen."""
        if any(ref() is f for ref, *_ in self._functions):
            return True
        names = _names(f.__code__)
        parts = _parts(f, names)
        own: list[tuple[int, _Ref]] = []
        self._functions.append((weakref.ref(f), names, parts, own))
        for place, part in enumerate(parts.copy()[_FIXED:], _FIXED):
            if type(part) is types.FunctionType and _place(part, types.FunctionType) is None:
                parts[place] = known = weakref.ref(part)
                own.append((place, known))
                if not (depth and self.add_function(part, depth - 1)):
                    return False
            elif not self._add(part, depth):
                return False
        return True

    def _add(self, value: Any, depth: int) -> bool:
        """A value, which is kept. A tuple would keep its functions, so it is to have none of the user's own."""
        kind = type(value)
        if kind in _ATOMS or value is _ABSENT or value is _EMPTY or value is _NEXT:
            return True
        if kind is tuple:
            return bool(depth) and all(self._add(item, depth - 1) for item in value)
        place = _place(value, kind)
        if place is not None:
            self._installed[id(value)] = place
        return place is not None


def snapshot(f: Callable[..., Any]) -> Snapshot | None:
    """What a function is made of now; None where something of that could change unseen."""
    if type(f) is not types.FunctionType:
        return None
    taken = Snapshot()
    return taken if taken.add_function(f, _DEPTH) else None


def _parts(f: types.FunctionType, names: list[str]) -> list[Any]:
    """What a function consists of, and the values that it may read."""
    parts = [*_ITSELF(f)]
    if names:
        parts += map(f.__globals__.get, names, repeat(_ABSENT))
    along = _ALONG(f)
    if any(along):
        closure, defaults, *named = along
        for cell in closure or ():
            try:
                parts.append(cell.cell_contents)
            except ValueError:
                parts.append(_EMPTY)
        parts += defaults or ()
        for values in named:
            parts.append(_NEXT)
            if values:
                parts += values
                parts += values.values()
    return parts


def _names(code: types.CodeType) -> list[str]:
    """What it may read of its globals; and names of attributes, which do no harm."""
    names = list(code.co_names)
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            names += _names(constant)
    return names


def _place(value: Any, kind: type) -> _Place | None:
    """Where something is found by its name; None for what is of the user's own."""
    if kind is types.BuiltinFunctionType:
        owner = value.__self__  # of a method, an object that can change
        return _place(builtins if owner is None else owner, types.ModuleType) if type(owner) in _OWNERS else None
    if kind is types.ModuleType:
        home, name = value.__name__, ""
    elif kind is types.FunctionType or isinstance(value, type):
        home, name = getattr(value, "__module__", None), value.__qualname__
    else:
        return None
    module = sys.modules.get(home) if isinstance(home, str) else None
    if module is None or home == "__main__" or modules.is_own(home):
        return None
    place = home, module, name, value
    return place if _is_at(place) else None


def _is_at(place: _Place) -> bool:
    home, module, name, value = place
    return sys.modules.get(home) is module and (getattr(module, name, None) if name else module) is value
