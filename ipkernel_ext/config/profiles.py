"""IPython profile directories and the config files in them. Imports nothing of IPython, which is slow."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound, PyFileConfigLoader

from ipkernel_ext.config.settings import check

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
