"""Interactive parallel computing in IPython: engines with persistent namespaces behind a controller.

``%load_ext ipkernel_ext`` gives the magics, ``launch`` and ``RemoteController`` the same in scripts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["AsyncResult", "Ref", "RemoteController", "errors", "launch"]

if TYPE_CHECKING:
    from ipkernel_ext import errors
    from ipkernel_ext.launcher import launch
    from ipkernel_ext.payload import Ref
    from ipkernel_ext.remote import RemoteController
    from ipkernel_ext.results import AsyncResult

_HOME = {
    "AsyncResult": "ipkernel_ext.results",
    "Ref": "ipkernel_ext.payload",
    "RemoteController": "ipkernel_ext.remote",
    "launch": "ipkernel_ext.launcher",
}


def __getattr__(name: str) -> Any:
    """Public names, imported when they are used: a controller needs none of them."""
    import importlib

    if name == "errors":
        return importlib.import_module("ipkernel_ext.errors")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext ipkernel_ext``: the magics, and nothing else until one is used."""
    from ipkernel_ext import magics

    magics.load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext ipkernel_ext``: disconnect, and end what autostart began."""
    from ipkernel_ext import magics

    magics.unload(ipython)
