"""The config files of a profile as they are first written: each option of ours, commented out, with its default.

Their text is made from the classes in ``settings``, so it cannot say anything else than they do. What
a user or another package wrote is never changed: files of the same names may belong to both.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from traitlets import TraitType
from traitlets.config import Configurable

from ipkernel_ext.config import elsewhere, profiles, settings

FILES: dict[str, tuple[type[Configurable], ...]] = {
    "ipcontroller_config.py": (settings.ParallelController,),
    "ipengine_config.py": (settings.ParallelEngine,),
    "ipcluster_config.py": (settings.ParallelCluster, *elsewhere.CLASSES),
    "ipython_config.py": (settings.ParallelMagics,),
}
"""Which classes are read from which file. The command that reads a file has the file's first word as its name."""

OURS = ("ipcontroller_config.py", "ipengine_config.py", "ipcluster_config.py")
"""Those that ``ipcluster profile create`` writes; the last of ``FILES`` is IPython's own."""

MARK = "# ipkernel_ext: "
"""Begins the line by which our section of a file is known again."""


def file_of(kind: type[Configurable]) -> str:
    """Name of the config file that a class's options go into."""
    return next(file for file, kinds in FILES.items() if kind in kinds)


def default(trait: TraitType[Any, Any]) -> str:
    """Default of an option, as Python source."""
    return trait.default_value_repr()


def section(file: str) -> str:
    """Our part of a config file; comments only."""
    lines = [f"{MARK}options of {file.partition('_')[0]}. Uncomment a line to change one.", ""]
    for kind in FILES[file]:
        lines += [f"# {inspect.getdoc(kind)}", "", *_options(kind)]
    return "\n".join(lines).rstrip() + "\n"


def _options(kind: type[Configurable]) -> Iterator[str]:
    for name, trait in sorted(kind.class_own_traits(config=True).items()):
        yield f"# {' '.join(str(trait.help).split())} Takes {settings.allowed(trait)}."
        yield f"# c.{kind.__name__}.{name} = {default(trait)}"
        yield ""


def create(name: str) -> Iterator[str]:
    """Make a profile as IPython makes it, unless it is there, and write the config files; what was done, line by line.

    Raises
    ------
    ValueError
        This is not the name of a profile.
    """
    made = make_profile(name)
    directory = profiles.profile_dir(name)
    yield f"made profile {name!r}: {directory}" if made else f"profile {name!r} is there: {directory}"
    for file in OURS:
        yield f"{_write(directory / file)} {directory / file}"


def make_profile(name: str) -> bool:
    """Make a profile's directory by IPython's own library, so that IPython finds it. False: it was there.

    Raises
    ------
    ValueError
        This is not the name of a profile.
    """
    if not re.fullmatch(r"\w[\w.+@-]*", name):
        raise ValueError(
            f"{name!r} is no name for a profile: letters, digits and _ . + @ - are, a first letter or digit"
        )
    directory = profiles.profile_dir(name)
    if directory.is_dir():
        return False
    from IPython.core.profiledir import ProfileDir

    profiles.ipython_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    ProfileDir(location=str(directory))
    return True


def make_if_missing(name: str) -> str | None:
    """For what starts a cluster in a profile: make it where it is not there; what to tell the user of that."""
    if profiles.exists(name):
        return None
    near = profiles.near(name)
    make_profile(name)
    return f"profile {name!r} is new; `ipcluster profile create {name}` adds its config files. {near}".rstrip()


def _write(path: Path) -> str:
    """Write or complete one file; what was done, in words."""
    text = section(path.name)
    try:
        with path.open("x", encoding="utf-8") as new:
            new.write(f"c = get_config()  # noqa: F821\n\n{text}")
        return "wrote"
    except FileExistsError:
        old = path.read_bytes()
    if MARK.encode() in old:
        return "left as it is, our options are in it:"
    with path.open("ab") as there:
        there.write((b"" if old.endswith(b"\n") or not old else b"\n") + b"\n" + text.encode())
    return "added our options, commented out, at the end of"
