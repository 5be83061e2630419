"""Which GPUs this host has, and which of them each engine sees."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

VARIABLE = "CUDA_VISIBLE_DEVICES"
"""What says which GPUs a process sees; a batch system sets it for a job, a user for whatever is started."""


def visible(environment: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """Those that a process with this environment sees, by the names that the variable has for them."""
    given = environment.get(VARIABLE)
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    found = [re.fullmatch(r"nvidia(\d+)", path.name) for path in devices.glob("nvidia*")]
    return [str(number) for number in sorted(int(device[1]) for device in found if device is not None)]


def share(devices: Sequence[str], engines: int, place: int) -> list[str]:
    """Those of one of several engines: some of its own where there are enough, else one that it shares.

    Parameters
    ----------
    place : int
        Of the engine among those of this host; one that was started later has a higher one.
    """
    if not devices or engines < 1:
        return []
    if len(devices) < engines or place >= engines:
        return [devices[place % len(devices)]]
    each, more = divmod(len(devices), engines)
    first = place * each + min(place, more)
    return list(devices[first : first + each + (place < more)])
