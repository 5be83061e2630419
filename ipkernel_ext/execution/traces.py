"""Tracebacks as plain text that begins where the user's own code begins.

What runs user code stands above it on the stack: this package, IPython, the event loop. None of it
says anything to the user. Frames further down are left as they are, whoever they belong to.
"""

from __future__ import annotations

import codeop
import os
import traceback

import IPython

import ipkernel_ext

_LIBRARY = os.path.dirname(codeop.__file__)  # asyncio in it is not imported here: that is slow
_ABOVE = (
    *(os.path.dirname(str(package.__file__)) + os.sep for package in (ipkernel_ext, IPython)),
    *(os.path.join(_LIBRARY, package) + os.sep for package in ("asyncio", "concurrent")),
    codeop.__file__,
    "<frozen ",
)


def format_traceback(error: BaseException) -> str:
    """The traceback of an exception and of those behind it, with source lines."""
    described = traceback.TracebackException.from_exception(error)
    todo: list[traceback.TracebackException | None] = [described]
    seen: set[int] = set()
    while todo:
        part = todo.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        above = 0
        while above < len(part.stack) and part.stack[above].filename.startswith(_ABOVE):
            above += 1
        del part.stack[:above]
        todo += [part.__cause__, part.__context__, *(part.exceptions or ())]
    text = "".join(described.format())
    return text if described.stack else text.removeprefix("Traceback (most recent call last):\n")
