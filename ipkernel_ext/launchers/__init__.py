"""Where engines can be started other than on this machine: a small class for each place, in a file of that name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ipkernel_ext.launchers.launcher import Launcher, LaunchOrder


def make(where: str, settings: Mapping[str, Any], order: LaunchOrder) -> Launcher:
    """The launcher for a place. It has started nothing yet.

    Raises
    ------
    ValueError
        Something in the settings cannot be; the message names the option.
    """
    module = importlib.import_module(f"ipkernel_ext.launchers.{where}")
    made: Launcher = module.launcher(settings, order)
    return made
