"""Which modules are the user's own: not of Python, not installed, not this package.

Others are taken to be where Python is, or to be installed; of the user's own nobody knows whether
another process can import them.
"""

from __future__ import annotations

import site
import sys
import sysconfig
from functools import cache
from pathlib import Path

_PACKAGE = __name__.partition(".")[0]


def is_own(name: object) -> bool:
    """Whether a module of this name is loaded here, and is the user's own."""
    if not isinstance(name, str) or name in ("__main__", "builtins"):
        return False
    top = name.partition(".")[0]
    if top == _PACKAGE or top in sys.stdlib_module_names:
        return False
    module = sys.modules.get(name)
    if module is None:
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return getattr(module, "__spec__", None) is None  # made by hand; else built in, or a namespace
    return not is_installed(file)


@cache
def is_installed(file: str) -> bool:
    """Whether a file is Python's own, or of an installed package."""
    return any(Path(file).is_relative_to(place) for place in _installed())


@cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    places = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple({*places, *site.getsitepackages(), site.getusersitepackages()})
