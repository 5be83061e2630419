"""Warnings, at the line of the user's that is the reason for them."""

from __future__ import annotations

import sys
import warnings

_BETWEEN = ("ipkernel_ext.", "IPython.", "concurrent.futures.")
"""Packages that stand between the user's line and the reason."""


def advise(text: str) -> None:
    """Warn at the innermost line that is the user's."""
    level = 1
    frame = sys._getframe().f_back
    while frame is not None and f"{frame.f_globals.get('__name__')}.".startswith(_BETWEEN):
        level += 1
        frame = frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level + 1)
