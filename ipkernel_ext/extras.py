"""Packages that are needed for some things only; imported when these are asked for."""

from __future__ import annotations

import importlib
from typing import Any


class ExtraMissing(ImportError):
    """A package that is needed for this only is not installed; says what to install."""


def needed(module: str, extra: str) -> Any:
    """The module.

    Raises
    ------
    ExtraMissing
        It is not installed; says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExtraMissing(f'this needs {module}: pip install "ipkernel_ext[{extra}]" ({error})') from error
