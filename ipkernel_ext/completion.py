"""Tab completion of the magics' lines: options, targets, and the engines' variable names. Pure but for what it asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from ipkernel_ext.magic_options import Option

TARGETS = ("-t", "--targets")

_MAGIC = re.compile(r"^\s*%{1,2}(?P<name>\w+)(?P<rest>(?:\s.*)?)$", re.DOTALL)
_WORD = re.compile(r"[^\s=,]*$")


def complete(
    line: str,
    options: Mapping[str, Sequence[Option]],
    specs: Callable[[], Iterable[str]],
    names: Callable[[], Iterable[str]],
    naming: Iterable[str],
) -> list[str] | None:
    """What may follow; None where the line is none of these magics'.

    Parameters
    ----------
    line : str
        Up to the cursor.
    options
        By magic.
    specs
        Gives the target specifications there are.
    names
        Gives the names of the engines' variables.
    naming
        Magics whose arguments are such names.
    """
    match = _MAGIC.match(line)
    if match is None or match["name"] not in options or not match["rest"]:
        return None
    found = _WORD.search(line)
    assert found is not None
    word = found.group()
    before = line[: found.start()].rstrip(" =").split()
    last = before[-1] if before else ""
    if last in TARGETS:
        return _beginning(word, specs())
    if word.startswith("-"):
        return _beginning(word, [name for option in options[match["name"]] for name in option.names])
    if match["name"] in naming or last in ("--pull", "--gather"):
        return _beginning(word, names())
    return None


def _beginning(word: str, candidates: Iterable[str]) -> list[str]:
    return sorted({candidate for candidate in candidates if candidate.startswith(word)})
