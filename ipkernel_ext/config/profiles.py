"""IPython profile directories and the config files in them. Imports nothing of IPython, which is slow."""

from __future__ import annotations

import ast
import difflib
import os
import traceback
from pathlib import Path

from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound, PyFileConfigLoader

from ipkernel_ext.config.settings import OptionError, check

DEFAULT = "default"


def ipython_dir() -> Path:
    """IPython's own directory."""
    return Path(os.environ.get("IPYTHONDIR") or "~/.ipython").expanduser()


def profile_dir(name: str | None = None) -> Path:
    """Directory of a profile, which need not exist.

    Raises
    ------
    ValueError
        A path, where a name is wanted.
    """
    name = name or DEFAULT
    if "/" in name or os.sep in name or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a profile; there are {', '.join(profiles()) or 'none yet'}")
    return ipython_dir() / f"profile_{name}"


def profiles() -> list[str]:
    """Names of the profiles there are."""
    return sorted(path.name.removeprefix("profile_") for path in ipython_dir().glob("profile_*") if path.is_dir())


def missing(name: str | None) -> str | None:
    """What to say of a profile that is not there; None where it is, and of the default one, which need not be."""
    if name in (None, "", DEFAULT) or profile_dir(name).is_dir():
        return None
    there = profiles()
    near = difflib.get_close_matches(name, there, 3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(there) or 'none yet'}"
    return f"there is no profile {name!r}: {hint}; `ipcluster profile create {name}` makes it"


def load(name: str | None, *files: str) -> Config:
    """The config files of a profile, merged in this order; missing ones count as empty.

    Raises
    ------
    ValueError
        A file cannot be run, or an option in it is not right; names the file and, where it can be found, the line.
    """
    config = Config()
    directory = profile_dir(name)
    for file in files:
        try:
            found = PyFileConfigLoader(file, path=str(directory)).load_config()
        except ConfigFileNotFound:
            continue
        except Exception as error:
            where = _where(directory / file, _line(error, directory / file))
            raise ValueError(f"{where}: {type(error).__name__}: {error}") from error
        try:
            check(found)
        except OptionError as error:
            raise ValueError(f"{_where(directory / file, _line_of(error.option, directory / file))}: {error}") from None
        config.merge(found)
    return config


def _where(path: Path, line: int | None) -> str:
    return f"{path}, line {line}" if line else str(path)


def _line_of(option: str, path: Path) -> int | None:
    """The last line of a config file that names this option. None: it is set in another way, or by another file."""
    names = option.split(".")
    nodes = ast.walk(ast.parse(path.read_bytes()))
    lines = [
        node.lineno
        for node in nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node).split(".")[-len(names) :] == names
    ]
    return max(lines, default=None)


def _line(error: Exception, path: Path) -> int | None:
    """The line of a config file at which it failed."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return lines[-1] if lines else None
