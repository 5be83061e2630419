"""Versions of packages on this side. Called here and, like a user's function, on engines."""

from __future__ import annotations

import sys
from collections.abc import Iterable

PYTHON = "Python"


def imported() -> dict[str, str]:
    """Versions of Python and of the installed packages that this process has imported."""
    from importlib import metadata  # slow to import, and seldom needed

    loaded = {name.partition(".")[0] for name in list(sys.modules)}
    homes = metadata.packages_distributions()
    return versions(sorted({home for name in loaded for home in homes.get(name, ())}))


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of some packages; "" for what is not installed."""
    return {PYTHON: ".".join(map(str, sys.version_info[:3])), **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
