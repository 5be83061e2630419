"""Splitting a magic's line into options and what follows. Pure.

Options stand before the code only; the code is taken as it is, quotes, braces and dollars
included; ``--`` ends the options.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from IPython.core.error import UsageError


class Option(NamedTuple):
    """One option: its names, and what its value is called (None: it takes none)."""

    names: Sequence[str]
    value: str | None = None

    @property
    def key(self) -> str:
        """Under which it is found: the long name without dashes."""
        return max(self.names, key=len).lstrip("-")


TARGETS = Option(("-t", "--targets"), "engines, such as 0,2 or 0:4")

_ASKED = re.compile(r"(.*?)(%{0,2}[\w*][\w.*\[\]'\"]*)(\?\??)", re.DOTALL)

_TOKEN = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[^\s"'])+)""")

_FURTHER = re.compile(r"-?\d+(,\s*-?\d+)*,?(?=\s|$)")


def split(line: str, options: Sequence[Option]) -> tuple[dict[str, str], str]:
    """Options by key (flags with an empty value), and the rest of the line.

    Raises
    ------
    UsageError
        An option that does not exist, or lacks its value; says what there is.
    """
    known: Mapping[str, Option] = {name: option for option in options for name in option.names}
    found: dict[str, str] = {}
    rest = line.lstrip()
    while rest.startswith("-"):
        match = _TOKEN.match(rest)
        assert match is not None
        token = match.group(1)
        if token == "--":
            return found, rest[match.end() :].lstrip()
        name, equals, value = token.partition("=")
        if name not in known and re.match(r"-[A-Za-z]\S", token) and token[:2] in known and not token.startswith("--"):
            name, equals, value = token[:2], "=", token[2:]
        option = known.get(name)
        if option is None:
            raise UsageError(_unknown(name, known))
        rest = rest[match.end() :].lstrip()
        if option.value is None:
            if equals:
                raise UsageError(f"{name} takes no value")
        elif not equals:
            match = _TOKEN.match(rest)
            if match is None:
                raise UsageError(f"{name} needs {option.value}")
            value = match.group(1)
            rest = rest[match.end() :].lstrip()
        if option is TARGETS:
            _check_whole(value, rest)
        found[option.key] = _unquoted(value)
    return found, rest


def _check_whole(spec: str, rest: str) -> None:
    """``0, 1`` is ``0,`` and code that begins with 1; only the former was meant."""
    if spec.endswith(",") and (further := _FURTHER.match(rest)):
        meant = spec + re.sub(r"\s", "", further[0]).removesuffix(",")
        raise UsageError(
            f"engines are named without spaces: write -t {meant}; code that begins like that goes after --"
        )


def help_at_front(line: str, magic: str, options: Sequence[Option]) -> str:
    """``%px -t 0 x?`` as ``%px -t 0 ?x``; other lines as they are.

    IPython takes a question mark at the end of a line for one about something here.
    """
    head, _, rest = line.strip().partition(" ")
    match = _ASKED.fullmatch(rest)
    if head != f"%{magic}" or match is None:
        return line
    given, name, marks = match.groups()
    try:
        _, code = split(f"{given} {name}", options)
    except UsageError:
        return line
    return f"{head} {given}{marks}{name}\n" if code == name else line


def only_options(line: str, magic: str, options: Sequence[Option]) -> dict[str, str]:
    """Options by key, where nothing else may be on the line: what looks like engines would else mean all of them.

    Raises
    ------
    UsageError
        There is more; says how engines are named.
    """
    found, rest = split(line, options)
    if rest:
        raise UsageError(f"{magic} takes no {rest!r}; engines are named by -t: write {magic} -t 0, or -t 0,2")
    return found


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _unknown(name: str, known: Mapping[str, Option]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    if not known:
        return f"unknown option {name}: this magic has none"
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}."
    return f"unknown option {name}: {hint} What is no option but begins with a dash goes after --"


def names_as(text: str, what: str) -> list[tuple[str, str]]:
    """``x y`` or ``x as z`` as pairs (name here, name there).

    Raises
    ------
    UsageError
        Something else.
    """
    words = text.replace(",", " ").split()
    pairs = []
    while words:
        name = words.pop(0)
        other = name
        if words and words[0] == "as":
            if len(words) < 2:
                raise UsageError(f"`{name} as` needs a second name")
            other = words[1]
            del words[:2]
        for word in (name, other):
            if not word.isidentifier():
                raise UsageError(f"{word!r} is not a name; write: {what}")
        pairs.append((name, other))
    if not pairs:
        raise UsageError(f"which names? Write: {what}")
    return pairs


def seconds(text: str, option: str) -> float:
    """A time that an option gives.

    Raises
    ------
    UsageError
        It is none.
    """
    try:
        time = float(text)
    except ValueError:
        time = -1.0
    if not 0 < time < float("inf"):
        raise UsageError(f"{option} needs a positive number of seconds, not {text!r}")
    return time


def function_and_data(line: str) -> tuple[str, str]:
    """``F DATA`` of ``%map``: F is one token, or something in parentheses.

    Raises
    ------
    UsageError
        One of the two is missing.
    """
    line = line.strip()
    if line.startswith("("):
        depth = 0
        for i, character in enumerate(line):
            depth += (character == "(") - (character == ")")
            if depth == 0:
                return _both(line[: i + 1], line[i + 1 :])
        raise UsageError(f"a parenthesis is not closed in {line!r}")
    function, _, data = line.partition(" ")
    return _both(function, data)


def _both(function: str, data: str) -> tuple[str, str]:
    if not function or not data.strip():
        raise UsageError("write: %map F DATA, where F is a name or a function in parentheses, DATA an expression")
    return function, data.strip()
