"""``ipcluster top``: the dashboard's twin in a terminal.

What a key does and what is shown then are functions of the view before; the loop at the end reads keys, looks and
draws.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ipkernel_ext.dashboard import stream
from ipkernel_ext.dashboard.looking import Looker
from ipkernel_ext.dashboard.state import Facts, Row, State, seen
from ipkernel_ext.errors import ParallelError
from ipkernel_ext.units import bytes_text, count, duration

PERIOD = 1.0  # seconds between two looks
SHARE = 0.25  # of the time that looks may take
AROUND = 6  # lines besides the engines'
SORTS = "id", "cpu", "memory", "queued", "state"
KEYS = "↑ ↓ choose   i interrupt   r restart   I R all   s sort   q quit"
STYLES = {"busy": "bold cyan", "ready": "green", "unresponsive": "bold red", "overrun": "bold red"}


@dataclass(frozen=True)
class View:
    """What is shown, apart from the cluster itself.

    Attributes
    ----------
    chosen
        Id of the engine that keys are about; None: the first.
    sort
        What engines are sorted by.
    asking
        Engines of which it was asked whether to restart them.
    said
        What came of the last key.
    """

    chosen: int | None = None
    sort: str = "id"
    asking: tuple[int, ...] = ()
    said: str = ""


@dataclass(frozen=True)
class Order:
    """What is to be done with engines: ``interrupt`` or ``restart``; or ``quit``."""

    what: str
    engines: tuple[int, ...] = ()


def rows(state: State, view: View) -> list[Row]:
    """The engines in their order: largest numbers first, ids and states as they are."""
    by_id = sorted(state.engines.values(), key=lambda row: row["id"])
    if view.sort in ("id", "state"):
        return sorted(by_id, key=lambda row: row[view.sort])
    return sorted(by_id, key=lambda row: -(row[view.sort] or 0))


def pressed(key: str, view: View, state: State) -> tuple[View, Order | None]:
    """What a key makes of the view, and what is to be done."""
    ids = [row["id"] for row in rows(state, view)]
    chosen = view.chosen if view.chosen in ids else next(iter(ids), None)
    if view.asking:
        order = Order("restart", view.asking) if key == "y" else None
        return replace(view, asking=(), said="" if order else "nothing was restarted"), order
    if key in ("q", "\x03"):
        return view, Order("quit")
    if key == "s":
        return replace(view, sort=SORTS[(SORTS.index(view.sort) + 1) % len(SORTS)]), None
    if chosen is None:
        return view, None
    if key in ("up", "down", "k", "j"):
        step = -1 if key in ("up", "k") else 1
        return replace(view, chosen=ids[max(0, min(len(ids) - 1, ids.index(chosen) + step))], said=""), None
    those = tuple(sorted(ids)) if key in ("I", "R") else (chosen,)
    if key in ("i", "I"):
        return view, Order("interrupt", those)
    if key in ("r", "R"):
        return replace(view, asking=those, said=""), None
    return view, None


# ---------------------------------------------------------------- what is shown


def frame(state: State, view: View, at: float, height: int | None = None, keys: bool = True) -> RenderableType:
    """All of it.

    Parameters
    ----------
    at
        Seconds, by the clock of the state.
    height
        Lines that there are; None: as many as are needed.
    keys
        Whether to say what keys do.
    """
    shown = rows(state, view)
    ids = [row["id"] for row in shown]
    chosen = view.chosen if view.chosen in ids else next(iter(ids), None)
    first = 0
    if height is not None:
        room = max(1, height - AROUND)
        place = ids.index(chosen) if chosen is not None else 0
        first = max(0, min(place - room // 2, len(shown) - room))
        shown = shown[first : first + room]
    parts: list[RenderableType] = [
        _head(state.cluster, len(ids), view.sort),
        _table(shown, chosen if keys else None, at),
    ]
    if keys:
        more = len(ids) - len(shown)
        parts.append(Text(f"engines {first + 1} to {first + len(shown)} of {len(ids)}" if more else "", "dim"))
        parts.append(_foot(view))
    return Group(*parts)


def _head(cluster: Row, engines: int, sort: str) -> Text:
    text = Text()
    if cluster.get("trouble"):
        text.append(f"{cluster['trouble']}\n", "bold red")
    if "states" not in cluster:
        return text
    states = ", ".join(f"{number} {state}" for state, number in cluster["states"].items())
    text.append(count(engines, "engine"), "bold")
    text.append(f" ({states})" if states else "")
    text.append(f"   {cluster['running']} running, {cluster['queued']} queued, {cluster['done']} done")
    text.append(f"   {cluster['rate']:.1f} tasks/s", "bold")
    text.append(f"   CPU {cluster['cpu']} %   memory {bytes_text(cluster['memory'])}\n")
    text.append(f"controller pid {cluster['pid']} on {cluster['host']}, engines by {sort}", "dim")
    return text


def _table(shown: list[Row], chosen: int | None, at: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    for name in ("id", "host", "pid", "state"):
        table.add_column(name, justify="right" if name in ("id", "pid") else "left", no_wrap=True)
    table.add_column("running", ratio=1, no_wrap=True, overflow="ellipsis")
    for name in ("queued", "done", "cpu", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in shown:
        running = f"{row['running']}, {duration(at - row['since'])}" if row["task"] else ""
        table.add_row(
            str(row["id"]),
            row["host"] or "–",
            str(row["pid"] or "–"),
            Text(row["state"], STYLES.get(row["state"], "yellow")),
            Text(running),
            str(row["queued"]),
            str(row["done"]),
            "–" if row["cpu"] is None else f"{row['cpu']} %",
            "–" if row["memory"] is None else bytes_text(row["memory"]),
            style="reverse" if row["id"] == chosen else "",
        )
    return table


def _foot(view: View) -> Text:
    if view.asking:
        those = f"engine {view.asking[0]}" if len(view.asking) == 1 else f"all {len(view.asking)} engines"
        return Text(f"restart {those}? Variables there are lost.  y yes   any other key no", "bold yellow")
    return Text(view.said) if view.said else Text(KEYS, "dim")


# ---------------------------------------------------------------- the loop


class Watcher:
    """Looks again and again, and remembers what the rows need of earlier looks."""

    def __init__(self, look: Callable[[], Facts]) -> None:
        self._look = look
        self._rate = stream.Rate()
        self.state = State()

    def look(self) -> None:
        """Look once."""
        facts = self._look()
        speed = 0.0 if facts.trouble else self._rate.at(facts.clock, facts.count)
        self.state = seen(facts, self.state, speed)


def once(looker: Looker) -> None:
    """Print how it is."""
    watcher = Watcher(looker.look)
    watcher.look()
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 120
    console.print(frame(watcher.state, View(), time.monotonic(), keys=False))


def run(looker: Looker) -> None:
    """Show it anew until a key ends it."""
    watcher, view, console = Watcher(looker.look), View(), Console(highlight=False)
    said: deque[str] = deque(maxlen=1)  # of what was done meanwhile
    due = 0.0
    with _keys() as read, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            if time.monotonic() >= due:
                begun = time.monotonic()
                watcher.look()
                due = time.monotonic() + max(PERIOD, (time.monotonic() - begun) / SHARE)
            if said:
                view = replace(view, said=said.pop())
            live.update(frame(watcher.state, view, time.monotonic(), console.size.height), refresh=True)
            for key in read(min(0.5, max(0.0, due - time.monotonic()))):
                view, order = pressed(key, view, watcher.state)
                if order is not None and order.what == "quit":
                    return
                if order is not None:
                    threading.Thread(target=_do, args=(looker, order, said), daemon=True).start()


def _do(looker: Looker, order: Order, said: deque[str]) -> None:
    """In a thread: to restart takes a while, and what is shown goes on."""
    call = looker.interrupt if order.what == "interrupt" else looker.restart
    try:
        said.append(call(order.engines))
    except (ParallelError, TimeoutError) as error:
        said.append(str(error))


ARROWS = {"\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down"}


def split(typed: str) -> list[str]:
    """Keys in what a terminal sent; arrows by their names."""
    keys: list[str] = []
    while typed:
        arrow = ARROWS.get(typed[:3])
        keys.append(arrow or typed[0])
        typed = typed[3 if arrow else 1 :]
    return keys


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], list[str]]]:
    """What reads the keys that come within some seconds."""
    terminal = sys.stdin.fileno()
    before: Any = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:

        def read(seconds: float) -> list[str]:
            ready, _, _ = select.select([terminal], [], [], seconds)
            return split(os.read(terminal, 1024).decode(errors="replace")) if ready else []

        yield read
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
