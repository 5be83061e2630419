"""The values of variables that engines have told of while they were busy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ipkernel_ext import payload
from ipkernel_ext.core.looking import SILENT
from ipkernel_ext.errors import NameNotFound, NoAnswer, PayloadError
from ipkernel_ext.remote_errors import composite

LARGEST = 4 * 2**20  # bytes of a value that is brought here
TOGETHER = 64 * 2**20  # bytes of all values of one call


class InWords(str):
    """What a value looks like on its engine, where the value itself did not come.

    Attributes
    ----------
    note : str
        Why it did not.
    """

    note: str

    def __new__(cls, text: str, note: str) -> InWords:
        words = super().__new__(cls, text)
        words.note = note
        return words

    def __repr__(self) -> str:
        return f"{self!s}  # not the value: {self.note}"


def limit(engines: int) -> int:
    """Bytes that each engine's value may have."""
    return min(LARGEST, TOGETHER // max(1, engines))


def value_of(engine: int, told: Mapping[str, Any]) -> Any:
    """What an engine told of a variable.

    Raises
    ------
    NameNotFound
        It does not have it; names close ones.
    NoAnswer
        It told nothing.
    """
    if "value" in told:
        try:
            return payload.loads(told["value"])
        except PayloadError as error:
            return InWords(f"<a value of engine {engine}>", str(error))
    if "words" in told:
        return InWords(told["words"], told["why"])
    raise NameNotFound(told["missing"]) if "missing" in told else NoAnswer(told[SILENT])


def given(told: Sequence[tuple[int, Mapping[str, Any]]], single: bool, return_exceptions: bool) -> Any:
    """What a call gives: the value of one engine, or a list.

    Raises
    ------
    CompositeError
        Of several engines, some do not have it or told nothing.
    """
    if single:
        return value_of(*told[0])
    values = [_value_or_error(engine, parts) for engine, parts in told]
    failed = [value for value in values if isinstance(value, _Missing)]
    if failed and not return_exceptions:
        raise composite([missing.error for missing in failed], len(told))
    return [value.error if isinstance(value, _Missing) else value for value in values]


class _Missing:
    """An error in the place of a value, which may be an error too."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _value_or_error(engine: int, told: Mapping[str, Any]) -> Any:
    try:
        return value_of(engine, told)
    except (NameNotFound, NoAnswer) as error:
        error.engine_id = engine  # type: ignore[union-attr]
        return _Missing(error)
