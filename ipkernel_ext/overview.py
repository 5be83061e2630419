"""What ``%engines`` shows: a table of the engines, once or anew in its place."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.display import NotebookOutput, columns, in_notebook
from ipkernel_ext.units import bytes_text, duration

UNKNOWN = "–"


def engines_table(engines: Sequence[m.EngineRecord], queue: dict[Any, Any]) -> str:
    """A line for each engine.

    Parameters
    ----------
    engines, queue
        As from ``rc.engines`` and ``rc.queue_status()``.
    """
    rows: list[tuple[str, ...]] = [("id", "host", "pid", "state", "running", "queued", "done", "cpu", "memory")]
    for engine in engines:
        load = queue.get(engine.id, {"running": 0, "queued": 0, "done": 0})
        busy = engine.state == "ready" and (engine.task or load["running"])
        rows.append(
            (
                str(engine.id),
                engine.host or UNKNOWN,
                str(engine.pid or UNKNOWN),
                "busy" if busy else engine.state,
                _running(engine),
                str(load["queued"]),
                str(load["done"]),
                UNKNOWN if engine.cpu is None else f"{engine.cpu:.0f} %",
                UNKNOWN if engine.rss is None else bytes_text(engine.rss),
            )
        )
    return columns(rows)


def _running(engine: m.EngineRecord) -> str:
    if not engine.task:
        return ""
    return f"{engine.running or f'task {engine.task}'}, {duration(engine.seconds)}"


class Live:
    """Text that is shown anew in its place on a terminal and in a notebook, elsewhere one below the other.

    On a terminal as much of it as there is room for: what has left the screen cannot be written over.
    """

    def __init__(self) -> None:
        self._lines = 0  # that stand on the terminal
        self._output = NotebookOutput()

    def show(self, text: str) -> None:
        """Show this instead of what was shown before."""
        if in_notebook():
            self._output.show(text)
        elif sys.stdout.isatty():
            width, height = shutil.get_terminal_size()
            lines = [line[: width - 1] for line in fitting(text.splitlines(), height - 1)]
            back = f"\x1b[{self._lines}F" if self._lines else ""
            sys.stdout.write(f"{back}\x1b[J" + "".join(f"{line}\n" for line in lines))
            sys.stdout.flush()
            self._lines = len(lines)
        else:
            print(text, flush=True)


def fitting(lines: Sequence[str], height: int) -> list[str]:
    """As many lines as there is room for, and how many there are more."""
    if len(lines) <= height:
        return list(lines)
    return [*lines[: height - 1], f"… and {len(lines) - height + 1} more"]
