"""IPython profile directories. Imports nothing of IPython or traitlets, which takes time."""

from __future__ import annotations

import os
from pathlib import Path

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
