"""Engines as guests of a cluster that somebody else runs, Dask's or Ray's.

Its processes start an outpost each, as a child of theirs that ends with them; so engines have processes
of their own, where user code has the main thread, on the hosts and with the Python of that cluster.
``begin``, ``runs`` and ``end`` are what is done there; they are sent by name, so this package has to be
installed there too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ipkernel_ext.launchers.launcher import LaunchError, LaunchOrder, State, ranges
from ipkernel_ext.units import count

END = 5.0  # seconds that an outpost has to end
PAUSE = 1.0  # seconds between two looks

_outposts: dict[str, tuple[subprocess.Popen[bytes], str]] = {}
"""By name, those of this process, with their directories."""


def begin(name: str, orders: dict[str, Any], connection: str, numbers: str) -> None:
    """Start an outpost as a child of this process, and return."""
    directory = tempfile.mkdtemp(prefix="ipkernel_ext-guest-")
    file = os.path.join(directory, "engine.json")
    orders = {**orders, "owned": True, "setup": {**orders["setup"], "connection": file}}
    for path, text in ((file, connection), (os.path.join(directory, "orders.json"), json.dumps(orders))):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as opened:
            opened.write(text)
    with open(os.path.join(directory, "log"), "wb") as log:
        outpost = subprocess.Popen(
            [sys.executable, "-m", "ipkernel_ext.nursery.outpost", os.path.join(directory, "orders.json"), numbers],
            stdin=subprocess.PIPE,  # its end is this process's
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _outposts[name] = outpost, directory


def runs(name: str) -> bool:
    """Whether it does, in this process."""
    return name in _outposts and _outposts[name][0].poll() is None


def end(name: str) -> None:
    """End it; returns when it is gone."""
    if name not in _outposts:
        return
    outpost, directory = _outposts.pop(name)
    assert outpost.stdin is not None
    with contextlib.suppress(OSError):
        outpost.stdin.close()
    outpost.terminate()
    try:
        outpost.wait(END)
    except subprocess.TimeoutExpired:
        outpost.kill()
        outpost.wait()
    shutil.rmtree(directory, ignore_errors=True)


class Host(Protocol):
    """The other cluster."""

    def begin(self, name: str, orders: dict[str, Any], connection: str, groups: Sequence[str]) -> None:
        """Have an outpost begun in as many of its processes as there are groups. Raises LaunchError."""

    def states(self, name: str) -> list[str]:
        """Of the outposts of this name, in the order of their groups: pending, running or ended. Raises LaunchError."""

    def places(self, count: int) -> int:
        """In how many processes so many engines are to be."""

    def end(self, name: str) -> None:
        """End the outposts of this name."""

    def close(self) -> None:
        """Leave."""


class Guests:
    """Engines there."""

    fixed = ""
    pause = PAUSE

    def __init__(self, host: Host, order: LaunchOrder) -> None:
        self._host = host
        self._order = order
        self._groups: dict[str, list[list[int]]] = {}  # the engines of each outpost that is thought to run, by name

    def start(self, numbers: Sequence[int]) -> None:
        """Deal the engines out among its processes."""
        if not numbers:
            return
        places = self._host.places(len(numbers))
        groups = [list(numbers[place::places]) for place in range(places)]
        name = f"{os.getpid()}-{time.monotonic_ns()}"
        connection = Path(self._order.connection).read_text()
        self._host.begin(name, self._order.outpost, connection, [ranges(group) for group in groups])
        self._groups[name] = groups

    def state(self) -> State:
        """Ask it."""
        expected = pending = 0
        ended: list[str] = []
        for name, groups in list(self._groups.items()):
            try:
                states = self._host.states(name)
            except LaunchError as error:
                del self._groups[name]
                ended.append(str(error))
                continue
            gone = [group for group, state in zip(groups, states, strict=True) if state == "ended"]
            if numbers := [number for group in gone for number in group]:
                ended.append(f"the processes that had engines {ranges(numbers)}, or these engines, have ended")
            for group in gone:
                group.clear()
            expected += sum(map(len, groups))
            pending += sum(len(group) for group, state in zip(groups, states, strict=True) if state == "pending")
        waits = f"{count(pending, 'engine')} {'waits' if pending == 1 else 'wait'} for room in that cluster"
        return State(expected, pending, waits if pending else "", "\n".join(ended))

    def keep(self, ids: Sequence[int], pending: int) -> None:
        """Those that wait for room stay; they end when they come too late."""
        for name, groups in self._groups.items():
            with contextlib.suppress(LaunchError):
                for group, state in zip(groups, self._host.states(name), strict=True):
                    if state == "running":
                        group[:] = [number for number in group if number in ids]

    def stop(self) -> None:
        """End all, and leave."""
        for name in self._groups:
            self._host.end(name)
        self._host.close()
