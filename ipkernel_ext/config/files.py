"""The config files of a profile."""

from __future__ import annotations

import ast
import traceback
from pathlib import Path

from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound, PyFileConfigLoader

from ipkernel_ext.config.profiles import profile_dir
from ipkernel_ext.config.settings import OptionError, check


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
