"""Warnings, at the line of the user's that is the reason for them."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_HERE = str(Path(__file__).parent)


def advise(text: str) -> None:
    """Warn at the innermost line that is not this package's."""
    level = 1
    frame = sys._getframe().f_back
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        level += 1
        frame = frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level + 1)
