"""The config files of a profile."""

from __future__ import annotations

import traceback
from pathlib import Path

from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound, PyFileConfigLoader

from ipkernel_ext.config.profiles import profile_dir
from ipkernel_ext.config.settings import check


def load(name: str | None, *files: str) -> Config:
    """The config files of a profile, merged in this order; missing ones count as empty.

    Raises
    ------
    ValueError
        A file cannot be run, or has an option that does not exist; names the file.
    """
    config = Config()
    directory = profile_dir(name)
    for file in files:
        try:
            found = PyFileConfigLoader(file, path=str(directory)).load_config()
        except ConfigFileNotFound:
            continue
        except Exception as error:
            line = _line(error, directory / file)
            where = f"{directory / file}, line {line}" if line else f"{directory / file}"
            raise ValueError(f"{where}: {type(error).__name__}: {error}") from error
        try:
            check(found)
        except ValueError as error:
            raise ValueError(f"{directory / file}: {error}") from None
        config.merge(found)
    return config


def _line(error: Exception, path: Path) -> int | None:
    """The line of a config file at which it failed."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return lines[-1] if lines else None
