"""Packages that are needed for some things only; imported when these are asked for."""

from __future__ import annotations

import importlib
from typing import Any


def needed(module: str, extra: str) -> Any:
    """The module.

    Raises
    ------
    ImportError
        It is not installed; says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'this needs {module}: pip install "ipkernel_ext[{extra}]" ({error})') from error
