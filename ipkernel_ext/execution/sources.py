"""Modules of a client's on an engine: imported from their source text, which is in memory here and nowhere on disk.

What is sent again because it was edited is loaded anew in place, as IPython's autoreload does it:
functions and classes that others hold get the new code. Called on an engine like a user's functions.

While a task runs, an import by user code that finds nothing here asks the task's client for the
module. What installed packages try to import is not asked for: they try much that is not there.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import json
import os
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple

from ipkernel_ext import modules
from ipkernel_ext.core.effects import Typed


class Source(NamedTuple):
    """A module."""

    name: str
    text: str
    file: str  # where it is on the client, for tracebacks
    is_package: bool


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Finds the modules that were sent, before any that are on this host."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        source = self.sources.get(fullname)
        if source is None:
            return None
        places = [str(Path(source.file).parent)] if source.is_package else None
        return importlib.util.spec_from_file_location(
            fullname, source.file, loader=self, submodule_search_locations=places
        )

    def get_source(self, fullname: str) -> str:
        return self.sources[fullname].text

    def get_filename(self, fullname: str) -> str:
        return self.sources[fullname].file

    def is_package(self, fullname: str) -> bool:
        return self.sources[fullname].is_package


class _Asker(importlib.abc.MetaPathFinder):
    """Asks a client for what nobody else has found.

    Attributes
    ----------
    ask
        Asks for a module by its name; None: no task runs.
    """

    ask: Callable[[str], Typed | None] | None = None

    def __init__(self) -> None:
        self.refused: set[str] = set()  # by the client of the task that runs

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if self.ask is None or path is not None or fullname in self.refused:
            return None
        if threading.current_thread() is not threading.main_thread() or not _by_user_code(sys._getframe(1)):
            return None
        self.refused.add(fullname)
        answer = self.ask(fullname)
        if answer is None or answer.text is None:
            if answer is not None and answer.why:
                raise ModuleNotFoundError(f"No module named {fullname!r} here: {answer.why}", name=fullname)
            return None
        install(Source(*source) for source in json.loads(answer.text))
        return _finder.find_spec(fullname, path, target)


_IMPORTS = ("<frozen importlib", os.path.dirname(importlib.__file__) + os.sep)
_OURS = os.path.dirname(modules.__file__) + os.sep


def _by_user_code(frame: types.FrameType | None) -> bool:
    """Whether code of the user's imports, for which this frame works."""
    while frame is not None and frame.f_code.co_filename.startswith(_IMPORTS):
        frame = frame.f_back
    if frame is None:
        return False
    file = frame.f_code.co_filename
    return not file.startswith(_OURS) and not modules.is_installed(file)


Ask = Callable[[str], Typed | None]


def ask_by(ask: Ask | None) -> Ask | None:
    """From now on modules are asked for by this; None: no task runs. By what they were asked for before."""
    before, _asker.ask = _asker.ask, ask
    if ask is not None:
        _asker.refused.clear()
        if _asker not in sys.meta_path:
            sys.meta_path.append(_asker)
    return before


_finder = _Finder()
_asker = _Asker()
_old_objects: dict[Any, Any] = {}
_stamps: dict[str, float] = {}  # of the files of modules that were found on this host


def install(sources: Iterable[Source]) -> list[str]:
    """Have these modules imported from what was sent; those that were imported already are loaded anew.

    Returns
    -------
    list of str
        Which those were.

    Raises
    ------
    Exception
        What a module raised as it was loaded anew; it stays as it was before.
    """
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    changed = []
    for source in sources:
        if _finder.sources.get(source.name) != source:
            _finder.sources[source.name] = source
            changed.append(source.name)
    again = [name for name in changed if name in sys.modules]
    errors = []
    for name in again:
        try:
            _load_anew(sys.modules[name])
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return again


def reload_edited() -> list[tuple[str, str]]:
    """Load the user's own modules anew whose files on this host were edited since this was asked last.

    Returns
    -------
    list of (str, str)
        Modules that could not be, with the traceback; they stay as they were.
    """
    failed = []
    for name, module in list(sys.modules.items()):
        if not modules.is_own(name) or getattr(module, "__loader__", None) is _finder:
            continue
        stamp = _stamp(module)
        if stamp is None or _stamps.setdefault(name, stamp) == stamp:
            continue
        _stamps[name] = stamp
        try:
            _load_anew(module)
        except Exception:
            failed.append((name, traceback.format_exc()))
    return failed


def _stamp(module: types.ModuleType) -> float | None:
    try:
        return Path(module.__file__ or "").stat().st_mtime
    except (OSError, AttributeError, TypeError):
        return None


def _load_anew(module: types.ModuleType) -> None:
    from IPython.extensions.autoreload import superreload

    anew: Callable[..., Any] = superreload
    anew(module, old_objects=_old_objects)
