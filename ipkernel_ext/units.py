"""Numbers as people read them."""

from __future__ import annotations

UNITS = ("B", "KB", "MB", "GB", "TB")


def bytes_text(count: float) -> str:
    """A number of bytes: ``8.0 MB``."""
    unit = 0
    while count >= 1000 and unit < len(UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.0f} {UNITS[unit]}" if unit == 0 else f"{count:.1f} {UNITS[unit]}"


def count(number: int, noun: str) -> str:
    """So many of something: ``1 engine``, ``2 engines``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
