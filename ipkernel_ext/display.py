"""How output, values and errors of many engines look on one screen. Knows nothing of how they came."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from ipkernel_ext import targets
from ipkernel_ext.core import messages as m
from ipkernel_ext.errors import CompositeError
from ipkernel_ext.results import AsyncResult, RemoteTraceback, alike

STATUS_AFTER = 2.0  # seconds, after which a status line says what is still running


class Screen:
    """Shows output as it arrives; each line begins with its engine's label."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, str], str] = {}  # lines that have not ended
        self._status = ""

    def show(self, output: m.Stream | m.Display) -> None:
        """Show one piece."""
        self._wipe_status()
        if isinstance(output, m.Stream):
            self._text(output.engine, output.name, output.text)
        else:
            self.flush(output.engine)
            self._rich(output)

    def _text(self, engine: int, name: str, text: str) -> None:
        *lines, rest = (self._open.pop((engine, name), "") + text).split("\n")
        if lines:
            stream = sys.stdout if name == "stdout" else sys.stderr
            stream.write("".join(f"[{engine}] {line}\n" for line in lines))
            stream.flush()
        if rest:
            self._open[engine, name] = rest

    def flush(self, engine: int | None = None) -> None:
        """Show the lines that have not ended, of one engine or of all."""
        for key in [key for key in self._open if engine is None or key[0] == engine]:
            self._text(*key, "\n")

    def _rich(self, output: m.Display) -> None:
        text = str(output.bundle.get("text/plain", ""))
        if output.execution is not None and set(output.bundle) == {"text/plain"}:
            print(labelled(output.engine, output.execution, text), flush=True)
            return
        from IPython.display import display

        label = f"[{output.engine}]" if output.execution is None else f"Out[{output.engine}:{output.execution}]:"
        print(label, flush=True)
        display(output.bundle, metadata=output.metadata, raw=True)  # type: ignore[no-untyped-call]

    def follow(self, result: AsyncResult, until: float | None = None) -> None:
        """Show a result's output until it is done, and after a while what is still running.

        Parameters
        ----------
        until : float, optional
            Of the monotonic clock, when to return although it is not done.
        """
        begun = time.monotonic()
        while not result.done():
            now = time.monotonic()
            if until is not None and now >= until:
                self._wipe_status()
                return
            for output in result.follow(until=min(now + 0.5, until or math.inf)):
                self.show(output)
            if not result.done() and time.monotonic() - begun > STATUS_AFTER:
                self._show_status(result, time.monotonic() - begun)
        for output in result.follow():
            self.show(output)
        self._wipe_status()
        self.flush()

    def _show_status(self, result: AsyncResult, seconds: float) -> None:
        if not sys.stderr.isatty():
            return
        running = [r["engine_id"] for r in result.metadata if r["status"] == "pending" and r["engine_id"] is not None]
        self._wipe_status()
        self._status = f"{result.progress} of {len(result)} done, [{targets.summary(running)}] running {seconds:.0f} s"
        sys.stderr.write(self._status)
        sys.stderr.flush()

    def _wipe_status(self) -> None:
        if self._status:
            sys.stderr.write("\r" + " " * len(self._status) + "\r")
            sys.stderr.flush()
            self._status = ""


def labelled(engine: int, execution: int, text: str) -> str:
    """A value as ``Out[2:5]: 4``."""
    return f"Out[{engine}:{execution}]:{chr(10) if chr(10) in text else ' '}{text}"


def describe(error: Exception) -> list[str]:
    """An engine's error, or several, as lines: each distinct one once, with the engines it came from."""
    members = error.exceptions if isinstance(error, CompositeError) else [error]
    lines = []
    for same in alike([e for e in members if isinstance(e, Exception)]).values():
        ids = [e.engine_id for e in same if hasattr(e, "engine_id")]
        first = same[0]
        where = f"[{targets.summary(ids)}] " if ids else ""
        count = f"{len(same)} engines: " if len(same) > 1 else ""
        cause = first.__cause__
        if isinstance(cause, RemoteTraceback):
            lines += [f"{where}{count}", *str(cause.args[0]).rstrip().split("\n")]
        else:
            lines.append(f"{where}{count}{type(first).__name__}: {first}")
    return lines


def engines_table(engines: Sequence[m.EngineRecord], queue: dict[Any, Any]) -> str:
    """The table of ``%engines``."""
    rows: list[tuple[str, ...]] = [("id", "host", "pid", "state", "running", "queued", "done")]
    for engine in engines:
        load = queue.get(engine.id, {"running": 0, "queued": 0, "done": 0})
        state = "busy" if engine.state == "ready" and load["running"] else engine.state
        rows.append(
            (
                str(engine.id),
                engine.host,
                str(engine.pid),
                state,
                *(str(load[k]) for k in ("running", "queued", "done")),
            )
        )
    return columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as lines whose cells are aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
