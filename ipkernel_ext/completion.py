"""Tab completion of the magics' lines and cells: options, targets, the engines' names. Pure but for what it asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from ipkernel_ext.magic_options import Option

TARGETS = ("-t", "--targets")

_MAGIC = re.compile(r"^\s*%{1,2}(?P<name>\w+)(?P<rest>(?:\s.*)?)$", re.DOTALL)
_WORD = re.compile(r"[^\s=,]*$")
_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*$")


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


def name_in_cell(text: str, naming: Iterable[str]) -> str:
    """The beginning of a name at the cursor, in a cell that goes to the engines; "" where there is none.

    Parameters
    ----------
    text : str
        The cell up to the cursor.
    naming
        Magics whose cells go there.
    """
    head, _, body = text.lstrip().partition("\n")
    match = _MAGIC.match(head)
    if match is None or not head.startswith("%%") or match["name"] not in naming:
        return ""
    found = _NAME.search(body)
    return found.group() if found else ""


def _beginning(word: str, candidates: Iterable[str]) -> list[str]:
    return sorted({candidate for candidate in candidates if candidate.startswith(word)})
