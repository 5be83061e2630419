"""IPython profile directories and the config files in them. Imports nothing of IPython, which is slow."""

from __future__ import annotations

import os
from pathlib import Path

from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound, PyFileConfigLoader

DEFAULT = "default"


def ipython_dir() -> Path:
    """IPython's own directory."""
    return Path(os.environ.get("IPYTHONDIR") or "~/.ipython").expanduser()


def profile_dir(name: str | None = None) -> Path:
    """Directory of a profile, which need not exist."""
    return ipython_dir() / f"profile_{name or DEFAULT}"


def profiles() -> list[str]:
    """Names of the profiles there are."""
    return sorted(path.name.removeprefix("profile_") for path in ipython_dir().glob("profile_*") if path.is_dir())


def load(name: str | None, *files: str) -> Config:
    """The config files of a profile, merged in this order; missing ones count as empty."""
    config = Config()
    for file in files:
        try:
            config.merge(PyFileConfigLoader(file, path=str(profile_dir(name))).load_config())
        except ConfigFileNotFound:
            continue
    return config
