"""Engines' tracebacks as a client shows them: with the source lines that only it knows, and in colour.

A function that went by value from a cell or a script has its source here, not on the engine. Text in,
text out; what an engine is must not be known here.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

_FRAME = re.compile(r'(?P<indent>[ |]*)File "(?P<file>.+)", line (?P<number>\d+), in ')

_CELL = re.compile(r"<ipython-input-\d+-")

_STYLES = {"linux": "monokai", "lightbg": "default"}


def _line_of(file: str, number: int) -> str:
    """A line of a cell or of a Python file; an engine does not choose what other files are read here."""
    return linecache.getline(file, number) if file in linecache.cache or file.endswith((".py", ".ipy")) else ""


def with_source(text: str, line_of: Callable[[str, int], str] = _line_of) -> str:
    """The traceback, with source lines for the frames that have none, where they are known here.

    Parameters
    ----------
    line_of
        The line of a file and its number; "" where that is not known.
    """
    lines = text.split("\n")
    filled: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        filled.append(line)
        frame = _FRAME.match(line)
        if frame is None or following.startswith(frame["indent"] + "  "):
            continue
        source = line_of(frame["file"], int(frame["number"])).strip()
        if source:
            filled.append(f"{frame['indent']}  {source}")
    return "\n".join(filled)


def anywhere(text: str) -> str:
    """The text without the numbers of cells, which differ between engines that run the same code."""
    return _CELL.sub("<ipython-input-", text)


def coloured(text: str, colours: str) -> str:
    """The traceback in the colours that a shell of IPython has been given.

    Parameters
    ----------
    colours : str
        ``InteractiveShell.colors``.
    """
    if colours.lower() == "nocolor":
        return text
    from pygments import highlight
    from pygments.formatters import Terminal256Formatter
    from pygments.lexers import PythonTracebackLexer

    shown = highlight(f"{text}\n", PythonTracebackLexer(stripnl=False), Terminal256Formatter(style=_style(colours)))
    return str(shown).removesuffix("\n")


@cache
def _neutral() -> Any:
    """A style for any ground: of the colours that terminals and notebooks have by name, and choose the shades of."""
    from pygments.style import Style
    from pygments.token import Comment, Generic, Keyword, Name, Number, Operator, String, Token

    class Neutral(Style):  # type: ignore[misc]
        styles: ClassVar[dict[Any, str]] = {
            Token: "",
            Comment: "italic",
            Generic.Error: "ansired",
            Generic.Traceback: "ansiblue",
            Keyword: "ansigreen",
            Name.Builtin: "ansigreen",
            Number: "ansigreen",
            Operator.Word: "ansigreen",
            String: "ansimagenta",
        }

    return Neutral


def _style(colours: str) -> Any:
    if colours.lower() == "neutral":
        return _neutral()
    try:
        from IPython.utils.PyColorize import theme_table

        return theme_table[colours].as_pygments_style()
    except (ImportError, KeyError, AttributeError):  # IPython before 9
        return _STYLES.get(colours.lower(), "default")
