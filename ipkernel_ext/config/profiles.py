"""IPython profile directories. Imports nothing of IPython or traitlets, which takes time."""

from __future__ import annotations

import difflib
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


def name_of(directory: Path) -> str | None:
    """The profile whose directory this is; None where it is not one that its name leads to."""
    name = directory.name.removeprefix("profile_")
    return name if directory.name != name and directory.resolve() == profile_dir(name).resolve() else None


def profiles() -> list[str]:
    """Names of the profiles there are."""
    return sorted(path.name.removeprefix("profile_") for path in ipython_dir().glob("profile_*") if path.is_dir())


def exists(name: str | None) -> bool:
    """Whether there is such a profile; the default one counts as there, since IPython makes it."""
    return name in (None, "", DEFAULT) or profile_dir(name).is_dir()


def near(name: str) -> str:
    """A question after profiles of similar names; "" where there are none."""
    found = difflib.get_close_matches(name, profiles(), 3)
    return f"Did you mean {' or '.join(map(repr, found))}?" if found else ""


def missing(name: str | None) -> str | None:
    """What to say of a profile that is not there; None where it is."""
    if name is None or exists(name):
        return None
    hint = near(name) or f"There are {', '.join(profiles()) or 'none yet'}."
    return f"there is no profile {name!r}. {hint} `ipcluster profile create {name}` makes it"


def option(name: str | None) -> str:
    """What to add to a command of ours so that it means this profile."""
    return "" if name in (None, "", DEFAULT) else f" --profile={name}"
