"""Numbers and nouns as people read them."""

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


def a(noun: str) -> str:
    """A noun with its article: ``a list``, ``an int``."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def duration(seconds: float) -> str:
    """A time: ``3.1 s``, ``14 s``, ``10 min``, ``2.5 h``."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
