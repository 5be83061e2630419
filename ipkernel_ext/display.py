"""How output, values and errors of many engines look on one screen. Knows nothing of how they came."""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import IPython

from ipkernel_ext import blocks, dialogue, targets, tracebacks, waiting
from ipkernel_ext.core import messages as m
from ipkernel_ext.errors import CompositeError, EngineLost, ParallelError
from ipkernel_ext.remote_errors import RemoteTraceback, alike, engines_of, impersonal, said
from ipkernel_ext.results import AsyncResult

STATUS_AFTER = 2.0  # seconds, after which a status line says what is still running
STREAM_AFTER = 2.0  # seconds, after which nothing is folded any more
TURN = 0.5  # seconds between looks at what is still running
TRACEBACKS = 4  # distinct errors that are shown with their traceback
TOLD = 32  # distinct errors that are shown at all
UNFOLDED = 8  # engines whose output is never folded

_NOT_THE_USERS = (*(os.path.dirname(str(path)) + os.sep for path in (__file__, IPython.__file__)), threading.__file__)


class Screen:
    """Shows output as it arrives; each line begins with its engine's label.

    Values of a cell that is done soon come at its end, in the order of the engines.

    Parameters
    ----------
    group_by : "engine" or "order", optional
        One engine after the other at the end, or all as it arrives. Default: as it arrives, but where
        there are many engines that are done soon, what they have alike is shown once, at the end.
    fold : bool
        Whether that is done.
    late
        Gives output of earlier calls.
    clock
        Seconds.
    """

    def __init__(
        self,
        *,
        group_by: str | None = None,
        fold: bool = True,
        late: Callable[[], Sequence[blocks.Output]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group_by = group_by
        self._fold = fold
        self._late = late
        self._clock = clock
        self._budget = blocks.Budget()
        self._lines: dict[tuple[str, str], blocks.Lines] = {}
        self._status = _Status()
        self._values: list[blocks.Output] = []  # to be shown in the order of the engines

    def follow(self, result: AsyncResult, limit: float = math.inf) -> None:
        """Show a result's output until it is done, and after a while what is still running.

        Parameters
        ----------
        limit : float
            Seconds after which to return although it is not done.
        """
        try:
            self._follow(result, limit)
        finally:
            self._show_values()
            self._show_late()
            self.flush()
            self._status.end()

    def _follow(self, result: AsyncResult, limit: float) -> None:
        begun = self._clock()
        last = begun + limit
        watch = result.watch()
        self._show_late()
        many = self._fold and len(result) > UNFOLDED
        if self._group_by == "engine" or (many and self._group_by is None):
            until = math.inf if self._group_by == "engine" else begun + STREAM_AFTER
            if self._wait(result, begun, min(until, last), watch):
                logs = result.logs()
                for block in blocks.fold(logs) if many else blocks.engine_by_engine(logs):
                    self._show_block(block)
                return
            if self._clock() >= last:
                return
        holds = self._group_by is None
        while not result.done() and self._clock() < last:
            for output in result.follow(min(self._clock() + TURN, last), result.asks_here):
                self._show_or_hold(output, holds)
            self._hold_dialogue(result)
            if holds and self._clock() >= begun + STREAM_AFTER:
                holds = False
                self._show_values()
            self._turn(result, begun, watch)
        for output in result.follow(until=self._clock()):
            self._show_or_hold(output, holds)

    def show(self, output: blocks.Output) -> None:
        """Show one piece."""
        engines = [output.engine]
        for piece, execution in blocks.pieces_of([output]):
            self._show_block(blocks.Block(engines, piece, [execution]))

    def _show_or_hold(self, output: blocks.Output, holds: bool) -> None:
        if holds and isinstance(output, m.Display) and output.execution is not None:
            self._values.append(output)
        else:
            self.show(output)

    def _show_values(self) -> None:
        values, self._values = self._values, []
        for output in sorted(values, key=lambda output: output.engine):
            self.show(output)

    def flush(self, label: str | None = None) -> None:
        """Show the lines that have not ended, under one label or all."""
        for key in [key for key in self._lines if label is None or key[0] == label]:
            self._write(key[1], self._lines.pop(key).finish(self._budget, self._clock()))

    def _wait(self, result: AsyncResult, begun: float, until: float, watch: waiting.Watch) -> bool:
        """Wait until it is done. False when it takes longer than that."""
        while not result.done():
            left = until - self._clock()
            if left <= 0:
                return False
            result.wait(min(TURN, left))
            self._turn(result, begun, watch)
        return True

    def _hold_dialogue(self, result: AsyncResult) -> None:
        """Where the result's tasks ask for lines, the user types them now."""
        if result.asks_here():
            self._show_values()
            self.flush()
            self._status.end()
            dialogue.hold(result, others=self.show)

    def _turn(self, result: AsyncResult, begun: float, watch: waiting.Watch) -> None:
        self._show_late()
        seconds = self._clock() - begun
        silence = watch.look()
        if seconds > STATUS_AFTER and not result.done():
            tasks = {r["engine_id"]: r["task_id"] for r in result.metadata if r["status"] == "pending"}
            tasks.pop(None, None)
            others = {id: what for id, task, what in watch.answer.get("heads", ()) if tasks.get(id, task) != task}
            status = blocks.status_line(result.progress, len(result), list(tasks), seconds, others)
            status += f"; {waiting.silent_for(silence)}" if silence else ""
            self._status.show("\n".join([*self._bars(), status]), seconds)
        elif bars := self._bars():
            self._status.show("\n".join(bars), seconds)

    def _bars(self) -> list[str]:
        """Progress bars that engines draw at this moment."""
        found = [(label, lines.progress) for (label, _), lines in self._lines.items()]
        return [f"{label} {bar}" for label, bar in sorted(found) if bar]

    def _show_late(self) -> None:
        for output in self._late():
            self.show(output)

    def _show_block(self, block: blocks.Block) -> None:
        label = targets.label(block.engines)
        if isinstance(block.piece, blocks.Text):
            name, text = block.piece
            key = label, name
            lines = self._lines.get(key)
            if lines is None:
                lines = self._lines[key] = blocks.Lines(label)
            self._write(name, lines.add(text, self._budget, self._clock()))
            return
        self.flush(label)
        rich = block.piece
        if rich.value:
            label = blocks.value_label(block.engines, block.executions)
        elif not self._budget.spend(1, self._clock()):
            self._write("stdout", f"{label} … an output is not shown here, the result has it …\n")
            return
        if rich.value and set(rich.bundle) == {"text/plain"}:
            self._write("stdout", blocks.labelled_value(label, str(rich.bundle["text/plain"])) + "\n")
            return
        from IPython.display import display

        place: dict[str, Any] = {}
        if rich.id:
            place = {"display_id": f"ipkernel_ext {label} {rich.id}", "update": rich.update}
        if not (rich.update and in_notebook()):
            self._write("stdout", f"{label}\n")
        display(rich.bundle, metadata=rich.metadata, raw=True, **place)  # type: ignore[no-untyped-call]

    def _write(self, name: str, text: str) -> None:
        if text:
            self._status.wipe()
            stream = sys.stdout if name == "stdout" else sys.stderr
            stream.write(text)
            stream.flush()


class _Status:
    """A line that says how far it is: in place on a terminal and in a notebook, elsewhere a line now and then."""

    def __init__(self) -> None:
        self._stands = False  # on the terminal
        self._next = 0.0  # seconds, from which on the next line may be written
        self._output = NotebookOutput()

    def show(self, text: str, seconds: float) -> None:
        if in_notebook():
            self._output.show(text)
        elif sys.stderr.isatty():
            self.wipe()
            text = "  ".join(text.splitlines())[: shutil.get_terminal_size().columns - 1]
            self._stands = bool(text)
            sys.stderr.write(text)
            sys.stderr.flush()
        elif seconds >= self._next:
            self._next = 2 * seconds
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def wipe(self) -> None:
        """Make room on the terminal, also where it has written ``^C`` behind it."""
        if self._stands:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._stands = False

    def end(self) -> None:
        """Nothing is under way any more."""
        self.wipe()
        self._output.end()


class NotebookOutput:
    """One output of a notebook, whose text changes."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, text: str) -> None:
        """Show another text in its place."""
        from IPython.display import display

        bundle = {"text/plain": text}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)

    def end(self) -> None:
        """Show nothing, if anything was shown."""
        if self._handle is not None:
            self.show("")


def in_notebook() -> bool:
    """Whether what is displayed can change later."""
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def describe(error: Exception, colours: str = "nocolor") -> list[str]:
    """An engine's error, or several, as lines: each distinct one once, with the engines it came from.

    The first few are told with their tracebacks, more of them in a line each, and of many how many.
    """
    members = error.exceptions if isinstance(error, CompositeError) else [error]
    groups = list(alike([e for e in members if isinstance(e, Exception)]).values())
    lines = []
    for i, same in enumerate(groups[:TOLD]):
        ids = engines_of(same)
        where = [targets.label(ids)] if ids else []
        count = [f"{len(same)} engines"] if len(same) > 1 else []
        head = " ".join([*where, *count])
        cause = same[0].__cause__
        if isinstance(cause, RemoteTraceback) and i < TRACEBACKS:
            story = str(cause.args[0]).rstrip()
            notes = getattr(same[0], "__notes__", []) if len(same) == 1 else []
            story = impersonal(story, same[0]) if len(same) > 1 else story
            lines += [f"{head}:"] if head else []
            lines += tracebacks.coloured(story, colours).split("\n")
            lines += [note for note in notes if note not in story]
            if isinstance(same[0], ParallelError) and str(same[0]) not in story:
                lines += said(same[0], short=False).split("\n")
        else:
            text = said(same[0], short=i >= TRACEBACKS)
            text = impersonal(text, same[0]) if len(same) > 1 else text
            lines += ": ".join([*([head] if head else []), text]).split("\n")
            lines += [f"  {line}" for line in _crash(same[0])] if i < TRACEBACKS else []
    if len(groups) > TOLD:
        lines.append(f"… and {len(groups) - TOLD} errors more")
    return lines


def _crash(error: Exception) -> list[str]:
    """What an engine said as it crashed, where that is more than the error says."""
    if not isinstance(error, EngineLost) or error.restarted or "\n" not in error.last_lines:
        return []
    return error.last_lines.split("\n")


def called_from(trace: TracebackType | None, colours: str = "nocolor") -> list[str]:
    """Where the user's own code made the call that failed or was interrupted, as the beginning of a traceback."""
    own = [frame for frame in traceback.extract_tb(trace) if not frame.filename.startswith(_NOT_THE_USERS)]
    text = "".join(["Traceback (most recent call last):\n", *traceback.format_list(own)]).rstrip()
    return tracebacks.coloured(text, colours).split("\n") if own else []


def came_through(trace: TracebackType | None) -> bool:
    """Whether a call of this package was under way."""
    return any(frame.f_code.co_filename.startswith(_NOT_THE_USERS[0]) for frame, _ in traceback.walk_tb(trace))


def is_refusal(error: BaseException) -> bool:
    """Whether this package has raised it to say that an argument makes no sense.

    What comes of a mistake in the package, without a ``raise``, is none.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return (
        bool(frames)
        and frames[-1].filename.startswith(_NOT_THE_USERS[0])
        and (frames[-1].line or "").startswith("raise ")
    )


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as lines whose cells are aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
