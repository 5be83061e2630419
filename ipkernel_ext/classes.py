"""When two classes of ``__main__`` are one and the same: they say the same.

The identity of a class follows from its name, bases, attributes and the code of its methods. So a
class that one cell defined on every engine is one class where their instances meet, and a cell that
runs again defines the class it defined before. Classes that this does not tell apart have no
identity: those made inside functions, those whose methods have closures, and those with attributes
that cannot be read as text. How anything is pickled must not be known here.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import re
import sysconfig
import types
from collections.abc import Iterable
from functools import cached_property
from typing import Any

_IGNORED = frozenset(
    {"__dict__", "__weakref__", "__firstlineno__", "__slotnames__", "__abstractmethods__", "_abc_impl"}
    | {"__annotate_func__", "__annotations_cache__"}
)
_MADE = frozenset(
    {"__new__", "__init__", "__repr__", "__eq__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__"}
    | {"__setattr__", "__delattr__", "__replace__"}
)
_ADDRESS = re.compile(r"\bat 0x[0-9a-f]+", re.IGNORECASE)
_LIBRARY = sysconfig.get_path("stdlib")
_SCALARS = (int, float, complex, str, bytes, type(None), type(Ellipsis))


class _NoText(Exception):
    """Something that cannot be read as text."""


def identity(kind: type) -> str | None:
    """What classes that say the same have in common; None where that cannot be told."""
    try:
        text = _class(kind)
    except (_NoText, RecursionError):
        return None
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _class(kind: type) -> str:
    if kind.__module__ != "__main__":
        return f"{kind.__module__}.{kind.__qualname__}"
    if "<locals>" in kind.__qualname__:
        raise _NoText
    heads = [kind.__qualname__, _class(type(kind)), *map(_class, kind.__bases__)]
    attributes = {name: value for name, value in vars(kind).items() if name not in _IGNORED}
    if attributes.keys() & {"__dataclass_fields__", "_fields"}:
        attributes = {name: value for name, value in attributes.items() if not _is_made(name, value)}
    if isinstance(kind, enum.EnumMeta):
        members: dict[str, Any] = {name: member._value_ for name, member in kind._member_map_.items()}
        heads.append(_text(members))
        attributes = {
            name: value
            for name, value in attributes.items()
            if name not in members and isinstance(value, types.FunctionType | staticmethod | classmethod)
        }
    return _listed([*heads, *(f"{name}={_text(value)}" for name, value in sorted(attributes.items()))])


def _is_made(name: str, value: Any) -> bool:
    """Whether a method of a dataclass or named tuple was made for it, from what its fields say already."""
    inner = getattr(value, "__wrapped__", value)
    code = getattr(inner, "__code__", None)
    return name in _MADE and code is not None and code.co_filename == "<string>"


def _text(value: Any) -> str:
    match value:
        case types.FunctionType():
            return _function(value)
        case staticmethod() | classmethod():
            return f"{type(value).__name__} {_text(value.__func__)}"
        case property():
            return _listed(map(_text, (value.fget, value.fset, value.fdel)))
        case cached_property():
            return f"cached {_text(value.func)}"
        case types.MemberDescriptorType() | types.GetSetDescriptorType():
            return "slot"
        case dataclasses.Field():
            names = [name for name in value.__slots__ if name not in ("metadata", "_field_type")]
            return _listed(_text(getattr(value, name)) for name in names)
        case _ if value is dataclasses.MISSING or value is getattr(dataclasses, "KW_ONLY", None):
            return type(value).__name__
        case types.CodeType():
            return _code(value)
        case type():
            return _class(value)
        case tuple() | list():
            return f"{type(value).__name__}{_listed(map(_text, value))}"
        case dict() | types.MappingProxyType():
            return _listed(sorted(f"{_text(key)}:{_text(item)}" for key, item in value.items()))
        case set() | frozenset():
            return f"{type(value).__name__}{_listed(sorted(map(_text, value)))}"
        case _ if type(value) in _SCALARS or isinstance(value, bool):
            return repr(value)
    text = repr(value)
    if _ADDRESS.search(text) or len(text) > 1000:
        raise _NoText
    return f"{type(value).__qualname__} {text}"


def _function(f: types.FunctionType) -> str:
    if f.__code__.co_filename.startswith(_LIBRARY):
        return f"{f.__name__} of {_text(getattr(f, '__wrapped__', None))}"
    if f.__closure__ and f.__code__.co_freevars != ("__class__",):
        raise _NoText
    return _listed([_code(f.__code__), _text(f.__defaults__), _text(f.__kwdefaults__)])


def _code(code: types.CodeType) -> str:
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return _listed([code.co_name, str(code.co_flags), code.co_code.hex(), repr(names), *map(_text, code.co_consts)])


def _listed(texts: Iterable[str]) -> str:
    return f"({','.join(f'{len(text)}:{text}' for text in texts)})"
