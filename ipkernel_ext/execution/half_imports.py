"""Imports that an interrupt has cut short.

Python takes a package whose import fails out of ``sys.modules`` again, but leaves what that has imported of its
submodules. The next import finds those and does not make them attributes of the new package, so one whose own
code relies on them, as ``asyncio`` does, can never be imported again.
"""

from __future__ import annotations

import sys


def forget() -> None:
    """Forget submodules without their package, so that the next import begins anew."""
    modules = sys.modules
    for name in sorted(modules):
        package = name.rpartition(".")[0]
        if package and package not in modules:
            del modules[name]
