"""Engines as guests of a cluster that somebody else runs, such as Dask's.

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

from ipkernel_ext.launchers.launcher import LaunchOrder, State, ranges

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

    def counts(self, name: str) -> tuple[int, int]:
        """Of the outposts of this name: how many run, and how many wait for room. Raises LaunchError."""

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
        self._groups: dict[str, list[int]] = {}  # sizes, by name
        self._begun: dict[str, bool] = {}  # whether they were seen to run

    def start(self, numbers: Sequence[int]) -> None:
        """Deal the engines out among its processes."""
        if not numbers:
            return
        places = self._host.places(len(numbers))
        groups = [numbers[place::places] for place in range(places)]
        name = f"{os.getpid()}-{time.monotonic_ns()}"
        connection = Path(self._order.connection).read_text()
        self._host.begin(name, self._order.outpost, connection, [ranges(group) for group in groups])
        self._groups[name] = [len(group) for group in groups]

    def state(self) -> State:
        """Ask it."""
        expected = pending = 0
        ended = ""
        for name, sizes in list(self._groups.items()):
            up, waiting = self._host.counts(name)
            if up:
                self._begun[name] = True
            if not up and not waiting and self._begun.get(name):
                del self._groups[name]
                ended = "the processes that had the engines, or the engines themselves, have ended"
                continue
            expected += sum(sizes)
            pending += sum(sorted(sizes)[:waiting])
        waits = f"{pending} engines wait for room in that cluster" if pending else ""
        return State(expected, pending, waits, ended)

    def keep(self, ids: Sequence[int], pending: int) -> None:
        """Those that wait for room stay; they end when they come too late."""

    def stop(self) -> None:
        """End all, and leave."""
        for name in self._groups:
            self._host.end(name)
        self._host.close()
