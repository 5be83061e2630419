"""Which engines a target specification means. Pure: a specification and a roster in, ids out.

Rule: on a whole cluster a non-negative integer is an engine id, negative ones and slices count
along the ids; on a view every index counts along the view's ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ipkernel_ext.core.messages import EngineRecord
from ipkernel_ext.errors import NoSuchEngine

Spec = int | str | slice | Sequence[int]
"""``"all"``, an index, a list of indices, a slice, or text: ``"0,2"``, ``"0:4"``, ``"host:a"``, ``"tag:gpu"``."""

_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?(?::(-?\d+)?)?")
_INDEX = re.compile(r"-?\d+")


class Chosen(NamedTuple):
    """Engine ids, and whether exactly one was named as such (then a call gives a value, not a list)."""

    ids: list[int]
    single: bool


def parse(text: str) -> Spec:
    """A specification from its text, as after ``-t``.

    Raises
    ------
    ValueError
        It is none.
    """
    text = text.strip()
    if text == "all" or text.startswith(("host:", "tag:")):
        return text
    if _INDEX.fullmatch(text):
        return int(text)
    match = _SLICE.fullmatch(text)
    if match:
        return slice(*(int(part) if part else None for part in match.groups()))
    parts = [part.strip() for part in text.removesuffix(",").split(",")]
    if all(_INDEX.fullmatch(part) for part in parts):
        return [int(part) for part in parts]
    raise ValueError(f"targets {text!r} are not understood: write all, 0, 0,2, 0:4, ::2, -1, host:NAME or tag:NAME")


def as_text(spec: Spec) -> str:
    """A specification as ``parse`` takes it.

    Raises
    ------
    NoSuchEngine
        It names no engine at all.
    """
    if isinstance(spec, str):
        return spec
    if isinstance(spec, slice):
        parts = ["" if part is None else str(part) for part in (spec.start, spec.stop, spec.step)]
        return ":".join(parts if spec.step is not None else parts[:2])
    if isinstance(spec, Sequence):
        if not spec:
            raise NoSuchEngine("these targets are no engine at all")
        return "".join(f"{id}," for id in spec)  # with a comma it stays a list, also of one
    return str(spec)


def choose(spec: Spec, ids: Sequence[int], engines: Mapping[int, EngineRecord], *, along: bool = False) -> Chosen:
    """The engines that a specification means.

    Parameters
    ----------
    spec
        See ``Spec``.
    ids : sequence of int
        The engines to choose from, in order.
    along : bool
        Integers count along ``ids``, as on a view; otherwise non-negative ones are engine ids.

    Raises
    ------
    NoSuchEngine
        An engine that is not there; the message lists those that are.
    TypeError, ValueError
        Not a specification.
    """
    spec = checked(spec)
    if isinstance(spec, str):
        return Chosen(_named(spec, ids, engines), False)
    if isinstance(spec, slice):
        return Chosen(list(ids[spec]), False)
    if isinstance(spec, int):
        return Chosen([_one(spec, ids, along)], True)
    return Chosen(list(dict.fromkeys(_one(index, ids, along) for index in spec)), False)


def checked(spec: Any) -> Spec:
    """A specification as integers, a slice, or the text of a host, a tag or all.

    Raises
    ------
    TypeError, ValueError
        It is none.
    """
    if isinstance(spec, str):
        return parse(spec)
    if isinstance(spec, slice):
        return spec
    if isinstance(spec, Iterable):
        return [_integer(part, "a list of targets holds integers") for part in spec]
    return _integer(spec, "targets must be 'all', an integer, a slice, a list of integers or a string")


def _integer(value: Any, what: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what}, not {value!r}")
    return int(value.__index__())


def _one(index: int, ids: Sequence[int], along: bool) -> int:
    if along or index < 0:
        if -len(ids) <= index < len(ids):
            return ids[index]
    elif index in ids:
        return index
    what = f"index {index} is out of range" if along or index < 0 else f"engine {index} does not exist"
    there = f"the engines are {summary(ids)}" if ids else "there are no engines"
    raise NoSuchEngine(f"{what}; {there}")


def _named(spec: str, ids: Sequence[int], engines: Mapping[int, EngineRecord]) -> list[int]:
    if spec == "all":
        return list(ids)
    kind, _, name = spec.partition(":")
    if kind == "host":
        chosen = [id for id in ids if engines[id].host == name]
        known: set[Any] = {engines[id].host for id in ids}
    else:
        chosen = [id for id in ids if name in engines[id].tags]
        known = {tag for id in ids for tag in engines[id].tags}
    if not chosen:
        there = ", ".join(sorted(known)) or "none"
        raise NoSuchEngine(f"no engine has {kind} {name!r}; there is {there}")
    return chosen


def summary(ids: Iterable[int]) -> str:
    """Ids as short text: ``0-3, 7``."""
    runs: list[list[int]] = []
    for id in sorted(ids):
        if runs and id == runs[-1][1] + 1:
            runs[-1][1] = id
        else:
            runs.append([id, id])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def named(ids: Iterable[int]) -> str:
    """Ids as words: ``engine 0``, ``engines 0-3, 7``, ``no engines``."""
    ids = list(ids)
    return f"engine{'' if len(ids) == 1 else 's'} {summary(ids)}" if ids else "no engines"


def label(ids: Iterable[int]) -> str:
    """``[2]``, or ``[0-127]``."""
    return f"[{summary(ids)}]"
