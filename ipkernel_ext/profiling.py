"""A profile of many engines: their samples merged, as a table and as a page of flame graphs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ipkernel_ext import flame, tracebacks
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.looking import SILENT
from ipkernel_ext.display import columns
from ipkernel_ext.errors import NoAnswer
from ipkernel_ext.units import count

LIMIT = 86400.0  # seconds, after which engines end a profile whose client is gone
ROWS = 20  # functions in the table that is shown

Told = Sequence[tuple[int, Mapping[str, Any]]]
Stacks = dict[tuple[str, ...], tuple[float, float]]
"""Labels from the outermost on; seconds of computing and of waiting."""


class Profile:
    """Samples of engines; made by ``RemoteController.profile``, begins at once.

    Parameters
    ----------
    look
        Asks the engines.
    interval : float
        Seconds between two samples of an engine.

    Attributes
    ----------
    stacks : dict
        By stack, a tuple of labels from the outermost on: seconds of computing and of waiting, of all engines.
    engines : dict
        By engine id: seconds of computing, of waiting, and between tasks.
    silent : list of str
        What is said of engines that told nothing.
    """

    def __init__(self, look: Callable[[m.Inspection], Told], interval: float) -> None:
        if not 0 < interval < 60:
            raise ValueError(f"an interval has more than 0 and less than 60 seconds, not {interval!r}")
        self._look = look
        self._name = uuid.uuid4().hex[:12]
        self._running = True
        self.stacks: Stacks = {}
        self.engines: dict[int, tuple[float, float, float]] = {}
        told = look(m.Sample(self._name, interval, LIMIT))
        self.silent = [parts[SILENT] for _, parts in told if SILENT in parts]
        if told and len(self.silent) == len(told):
            raise NoAnswer("; ".join(self.silent))

    def stop(self) -> Profile:
        """End it, and fetch what was seen; gives the profile itself."""
        if self._running:
            told = self._look(m.Sampled(self._name))
            self._running = False
            self.silent = [parts[SILENT] for _, parts in told if SILENT in parts]
            self.stacks, self.engines = merged(told)
        return self

    def __enter__(self) -> Profile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def table(self, rows: int | None = ROWS) -> str:
        """Functions, those that took the most time of their own first; seconds of all engines together."""
        self.stop()
        functions = by_function(self.stacks)
        ordered = sorted(functions.items(), key=lambda item: (-item[1][0] - item[1][1], item[0]))
        head = ("computing", "waiting", "with callees", "function")
        lines = [(_seconds(own[0]), _seconds(own[1]), _seconds(own[2]), name) for name, own in ordered[:rows]]
        more = len(ordered) - len(lines)
        return "\n".join([*self._head(), columns([head, *lines]), *([f"… and {more} more"] if more else [])])

    def _head(self) -> list[str]:
        computing, waiting, idle = (sum(engine[part] for engine in self.engines.values()) for part in range(3))
        engines = count(len(self.engines), "engine")
        return [
            f"{engines}: {_seconds(computing)} computing, {_seconds(waiting)} waiting, {_seconds(idle)} between tasks",
            *self.silent,
        ]

    def html(self) -> str:
        """The page: flame graphs of computing and of waiting. It needs nothing from anywhere else."""
        self.stop()
        graphs = [
            ("Computing", {stack: spent[0] for stack, spent in self.stacks.items()}),
            ("Waiting", {stack: spent[1] for stack, spent in self.stacks.items()}),
        ]
        return flame.page("\n".join(self._head()), graphs)

    def save(self, path: str | Path) -> Path:
        """Write the page to a file; its path."""
        path = Path(path).expanduser()
        path.write_text(self.html(), encoding="utf-8")
        return path

    def __repr__(self) -> str:
        return "<Profile: under way; stop() ends it>" if self._running else self.table()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


def merged(told: Iterable[tuple[int, Mapping[str, Any]]]) -> tuple[Stacks, dict[int, tuple[float, float, float]]]:
    """Samples of engines, together and in sums for each."""
    stacks: Stacks = {}
    engines = {}
    for engine, parts in told:
        if "stacks" not in parts:
            continue
        labels = [tracebacks.anywhere(label) for label in parts["labels"]]
        for numbers, computing, waiting in parts["stacks"]:
            stack = tuple(labels[number] for number in numbers)
            before = stacks.get(stack, (0.0, 0.0))
            stacks[stack] = before[0] + computing, before[1] + waiting
        computing = sum(part[1] for part in parts["stacks"])
        waiting = sum(part[2] for part in parts["stacks"])
        engines[engine] = computing, waiting, parts["idle"]
    return stacks, engines


def by_function(stacks: Stacks) -> dict[str, tuple[float, float, float]]:
    """By function: its own seconds of computing and of waiting, and all with those that it called."""
    functions: dict[str, list[float]] = {}
    for stack, (computing, waiting) in stacks.items():
        own = functions.setdefault(stack[-1], [0.0, 0.0, 0.0])
        own[0] += computing
        own[1] += waiting
        for name in set(stack):
            functions.setdefault(name, [0.0, 0.0, 0.0])[2] += computing + waiting
    return {name: (own[0], own[1], own[2]) for name, own in functions.items()}


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"
