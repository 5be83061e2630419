"""How many files a process may have open: agents and controllers need several for each engine and client.

Engines keep what the user has set: programs that use ``select`` break above 1,024.
"""

from __future__ import annotations

import resource


def allowed() -> int:
    """What the system allows this process now."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def allow(count: int | None = None) -> None:
    """Allow so many, or all that may be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if count is None else count, most))
