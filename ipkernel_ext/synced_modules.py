"""Modules of the user's own, sent to engines as source text, and again when they were edited.

Which files a module consists of is found out here, and nothing is sent that does not compile.
Compiled modules are not sent: they are built for one machine. What an engine does with a source is
``execution.sources``' business.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import itertools
import json
import sys
import traceback
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ipkernel_ext import modules
from ipkernel_ext.errors import CompositeError, PayloadError
from ipkernel_ext.execution import sources
from ipkernel_ext.execution.sources import Source
from ipkernel_ext.results import AsyncResult
from ipkernel_ext.targets import Chosen

if TYPE_CHECKING:
    from ipkernel_ext.views import Engines

_COMPILED = (*importlib.machinery.EXTENSION_SUFFIXES, ".so", ".pyd", ".dll")


class Synced(NamedTuple):
    """What was sent.

    Attributes
    ----------
    sent : list of str
        Modules that were new to an engine, or edited.
    reloaded : list of str
        Those of them that an engine had imported already and has loaded anew.
    """

    sent: list[str]
    reloaded: list[str]


class SyncedModules:
    """What one client has sent to which engines."""

    def __init__(self) -> None:
        self._roots: dict[Path, None] = {}
        self._seen: dict[Path, tuple[float, int]] = {}  # of each file: when it was changed, and its size
        self._sent: dict[str, dict[str, Source]] = {}  # by an engine's boot

    def add(self, what: str | Path | types.ModuleType) -> None:
        """Send this from now on.

        Raises
        ------
        FileNotFoundError, PayloadError, SyntaxError
            It is not there, cannot be sent, or does not compile; nothing is sent.
        """
        root = root_of(what)
        collected(root)
        self._roots[root] = None

    def edited(self) -> bool:
        """Whether a file was changed, or is new, since this was asked last."""
        now = {file: (file.stat().st_mtime, file.stat().st_size) for root in self._roots for file in files(root)}
        before, self._seen = self._seen, now
        return now != before

    def send(self, engines: Engines, chosen: Chosen, boots: dict[int, str]) -> Synced:
        """Send engines what they do not have yet."""
        self.edited()
        every = {source.name: source for root in self._roots for source in collected(root)}
        sent: dict[str, None] = {}
        under_way = []
        for id in chosen.ids:
            has = self._sent.setdefault(boots[id], {})
            news = [source for name, source in every.items() if has.get(name) != source]
            if news:
                sent.update(dict.fromkeys(source.name for source in news))
                under_way.append((has, news, engines._quietly(sources.install, news, targets=id, block=False)))
        reloaded: dict[str, None] = {}
        errors = []
        for has, news, result in under_way:
            has.update((source.name, source) for source in news)
            try:
                reloaded.update(dict.fromkeys(result.get()))
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0] if chosen.single else CompositeError("engines could not load what was edited", errors)
        return Synced(list(sent), list(reloaded))

    def answer(self, name: str) -> tuple[str | None, str]:
        """What an engine is given that has not found a module: its sources as JSON, or None, and why.

        Only modules of the user's own are sent; from then on their edits are, too.
        """
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None, ""
        if spec is None or spec.origin in (None, "built-in", "frozen"):
            return None, ""
        if modules.is_installed(str(spec.origin)):
            return None, f"its client has installed it ({spec.origin}); install it where the engine is, too"
        try:
            self.add(name)
            return json.dumps(collected(root_of(name))), ""
        except (OSError, PayloadError, SyntaxError) as error:
            notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
            return None, f"its client has it, but {error}{notes}"

    def behind(self, boots: Iterable[str]) -> bool:
        """Whether something was edited, or one of these has nothing yet."""
        return bool(self._roots) and (any(boot not in self._sent for boot in boots) or self.edited())


class Follower:
    """Has engines follow edits: of what was sent to them, and of the user's own modules that are on their hosts."""

    def __init__(self) -> None:
        self._looking: AsyncResult | None = None

    def follow(self, engines: Engines, patience: float) -> list[str]:
        """Send what was edited, and have engines look for themselves.

        Parameters
        ----------
        patience : float
            Seconds to wait for engines that look; they do so before what is sent to them next.

        Returns
        -------
        list of str
            What could not be loaded, and why.
        """
        problems = []
        try:
            engines._follow_synced()
        except Exception as error:
            problems.append("".join(traceback.format_exception_only(error)).strip())
        if self._looking is None or self._looking.done():
            problems += self._told()
            self._looking = engines._quietly(sources.reload_edited, targets=list(engines.ids), block=False)
        if patience and self._looking.wait(patience):
            problems += self._told()
        return problems

    def _told(self) -> list[str]:
        """What those that looked could not load."""
        looked, self._looking = self._looking, None
        if looked is None or not looked.successful():
            return []
        failed = dict.fromkeys(itertools.chain.from_iterable(looked.get()))
        return [f"{name} stays as it was:\n{text}" for name, text in failed]


def root_of(what: str | Path | types.ModuleType) -> Path:
    """The file, or the directory of the whole package or of several modules, that something names.

    Parameters
    ----------
    what
        A module; the path of one, of a package or of a directory of them; or an importable name.
    """
    if isinstance(what, types.ModuleType):
        return _root_of_module(what)
    path = Path(what).expanduser()
    if not path.exists():
        if isinstance(what, str) and all(part.isidentifier() for part in what.split(".")):
            return _root_of_module(_found(what))
        raise FileNotFoundError(f"there is no module, package or directory {path}")
    path = path.resolve()
    if path.name.endswith(_COMPILED):
        raise _compiled(path.name, path)
    if path.is_file() and path.suffix != ".py":
        raise PayloadError(f"{path} is no Python module: its name does not end in .py")
    return _whole(path)


def _found(name: str) -> types.ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    top = name.partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise FileNotFoundError(f"there is neither a file nor a module {name!r} here")
    return importlib.util.module_from_spec(spec)


def _root_of_module(module: types.ModuleType) -> Path:
    file = getattr(module, "__file__", None)
    places = list(getattr(module, "__path__", ()))
    if file is None and places:
        raise PayloadError(f"{module.__name__} is a package without an __init__.py: add one, or sync what is in it")
    if file is None:
        raise PayloadError(f"module {module.__name__} has no source file, so it cannot be sent")
    if file.endswith(_COMPILED):
        raise _compiled(module.__name__, Path(file))
    return _whole(Path(file).resolve())


def _whole(path: Path) -> Path:
    """The whole package that a file or directory is part of."""
    if path.name == "__init__.py":
        path = path.parent
    while (path.parent / "__init__.py").exists():
        path = path.parent
    return path


def _compiled(name: str, file: Path) -> PayloadError:
    return PayloadError(
        f"{name} has a C extension, {file.name}, which is built for one machine and cannot be sent: "
        "install it on the engines' hosts, and sync only modules that are Python"
    )


def files(root: Path) -> Iterator[Path]:
    """The files of the modules below.

    Raises
    ------
    PayloadError
        One of them is compiled.
    """
    if root.is_file():
        yield root
        return
    packages = (root / "__init__.py").exists()
    for path in sorted(root.iterdir()):
        if path.name.startswith((".", "__pycache__")):
            continue
        if path.name.endswith(_COMPILED) and packages:
            raise _compiled(f"package {root.name}", path)
        if path.suffix == ".py" and path.stem.isidentifier() | (path.stem == "__init__"):
            yield path
        elif path.is_dir() and path.name.isidentifier() and (packages or (path / "__init__.py").exists()):
            yield from files(path)


def collected(root: Path) -> list[Source]:
    """The modules below, packages before what is in them.

    Raises
    ------
    SyntaxError
        One does not compile; its file and line are in the message.
    """
    base = root if root.is_dir() and not (root / "__init__.py").exists() else root.parent
    found = [_read(file, base) for file in files(root)]
    if not found:
        raise PayloadError(f"there is no Python module in {root}")
    return sorted(found, key=lambda source: source.name)


def _read(file: Path, base: Path) -> Source:
    parts = file.relative_to(base).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    try:
        text = importlib.util.decode_source(file.read_bytes())
        compile(text, str(file), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        if not isinstance(error, SyntaxError):
            raise PayloadError(f"{file} cannot be read as Python: {error}") from error
        error.add_note(f"in {file}, line {error.lineno}; nothing was sent, the engines have what they had")
        raise
    return Source(name, text, str(file), is_package)
