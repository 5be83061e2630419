"""Which blocks and lines the output of many engines becomes, and how they are labelled. Pure: no screen, no clock.

Folding goes piece by piece: engines that began alike share what they began with, and part where they
differ, for good. So each engine's order is kept, and no block stands before one that came earlier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ipkernel_ext.core import messages as m
from ipkernel_ext.targets import label, summary

Output = m.Stream | m.Display

OPEN = 65536  # characters of a line without end, after which it is shown as one
TAIL = 10  # lines that are shown of those that were too many, the last ones
WIDTH = 200  # characters that count as one line


class Text(NamedTuple):
    """Adjacent text of one stream."""

    name: str
    text: str


class Rich(NamedTuple):
    """A rich output. ``value``: it is the value of the cell's last expression."""

    bundle: dict[str, Any]
    metadata: dict[str, Any]
    value: bool
    id: str = ""  # by which it can be changed later
    update: bool = False  # it takes the place of the earlier one of this id


class Block(NamedTuple):
    """A piece of output that some engines have alike, with the numbers of their cells."""

    engines: list[int]
    piece: Text | Rich
    executions: list[int | None]


def value_label(engines: Sequence[int], executions: Sequence[int | None]) -> str:
    """``Out[2:5]:``; without the number of the cell where engines differ in it."""
    which = summary(engines)
    return f"Out[{which}:{executions[0]}]:" if len(set(executions)) == 1 else f"Out[{which}]:"


def labelled_value(label: str, text: str) -> str:
    """A value behind its label; beneath it, where it has several lines."""
    return f"{label}{chr(10) if chr(10) in text else ' '}{text}"


def status_line(
    done: int, total: int, running: Sequence[int], seconds: float, others: Mapping[int, str] = MappingProxyType({})
) -> str:
    """``3 of 4 done, [2] running 14 s``.

    Parameters
    ----------
    running
        Engines that have not ended theirs.
    others
        Of those, the engines that do something else first, and what.
    """
    own = [engine for engine in running if engine not in others]
    parts = [f"{done} of {total} done"]
    if own:
        parts.append(f"{label(own)} running {seconds:.0f} s")
    if len(others) == 1:
        [(engine, what)] = others.items()
        parts.append(f"{label([engine])} waiting {seconds:.0f} s for another task" + (f": {what}" if what else ""))
    elif others:
        parts.append(f"{label(list(others))} waiting {seconds:.0f} s for other tasks")
    return ", ".join(parts)


def pieces_of(log: Sequence[Output]) -> list[tuple[Text | Rich, int | None]]:
    """An engine's output with adjacent text joined; beside each piece the number of the cell whose value it is."""
    pieces: list[tuple[Text | Rich, int | None]] = []
    texts: list[str] = []
    for i, output in enumerate(log):
        if isinstance(output, m.Display):
            value = output.execution is not None
            pieces.append((Rich(output.bundle, output.metadata, value, output.id, output.update), output.execution))
            continue
        texts.append(output.text)
        following = log[i + 1] if i + 1 < len(log) else None
        if not isinstance(following, m.Stream) or following.name != output.name:
            pieces.append((Text(output.name, "".join(texts)), None))
            texts = []
    return pieces


def engine_by_engine(logs: Mapping[int, Sequence[Output]]) -> list[Block]:
    """Each engine's output in one place, in order of the engines."""
    return [Block([engine], piece, [execution]) for engine, log in logs.items() for piece, execution in pieces_of(log)]


def fold(logs: Mapping[int, Sequence[Output]]) -> list[Block]:
    """The same, with what engines have alike in one block."""
    pieces = {engine: pieces_of(log) for engine, log in logs.items()}
    blocks: list[Block] = []
    todo = [(list(pieces), 0)]
    while todo:
        engines, depth = todo.pop()
        if depth:
            at = [pieces[engine][depth - 1] for engine in engines]
            blocks.append(Block(engines, at[0][0], [execution for _, execution in at]))
        alike: dict[str | Text, list[int]] = {}
        for engine in engines:
            if depth < len(pieces[engine]):
                piece, _ = pieces[engine][depth]
                alike.setdefault(piece if isinstance(piece, Text) else repr(piece), []).append(engine)
        todo += [(same, depth + 1) for same in reversed(alike.values())]
    return blocks


class Budget:
    """How much may be shown: so many lines at once, and so many more with each second.

    When it is used up nothing is shown until there is again a good deal of it, so that a flood is shown
    in a few batches, not in many crumbs.
    """

    def __init__(self, burst: int = 10_000, rate: int = 2_000) -> None:
        self._burst = burst
        self._rate = rate
        self._left = float(burst)
        self._at: float | None = None
        self._closed = False

    def spend(self, lines: int, now: float) -> int:
        """How many of so many lines may be shown now."""
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._closed and self._left < self._rate:
            return 0
        given = min(lines, int(self._left))
        self._left -= given
        self._closed = given < lines
        return given


class Lines:
    """The lines of one stream under one label, as they are to be shown."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._open: list[str] = []  # a line that has not ended
        self._size = 0
        self._left_out = 0
        self._tail: list[str] = []  # the last of those that were left out

    def add(self, text: str, budget: Budget, now: float) -> str:
        """What to show of some more text."""
        body, end, rest = text.rpartition("\n")
        if not end:
            self._hold(rest)
            return self._cut(budget, now) if self._size > OPEN else ""
        body = "".join([*self._open, body])
        self._open, self._size = [], 0
        self._hold(rest)
        return self._shown(body, budget, now)

    @property
    def progress(self) -> str:
        """What a bar in the line that has not ended shows; "" where that is none."""
        line = "".join(self._open)
        return _overwritten(line) if "\r" in line else ""

    def finish(self, budget: Budget, now: float) -> str:
        """What to show at the end: the line that has not ended, and the last ones of those that were left out."""
        shown = self._cut(budget, now) if self._open else ""
        return shown + self._resume(self._tail)

    def _hold(self, text: str) -> None:
        if text:
            self._open.append(text)
            self._size += len(text)

    def _cut(self, budget: Budget, now: float) -> str:
        line = "".join(self._open)
        self._open, self._size = [], 0
        return self._shown(line, budget, now)

    def _shown(self, body: str, budget: Budget, now: float) -> str:
        count = body.count("\n") + 1
        given = budget.spend(max(count, len(body) // WIDTH), now)
        if given >= count:
            return self._resume([]) + self._labelled(body.split("\n"))
        *head, rest = body.split("\n", given)
        before = self._resume([]) + self._labelled(head) if head else ""
        self._left_out += count - given
        self._tail = [*self._tail, *rest.rsplit("\n", TAIL)[-TAIL:]][-TAIL:]
        return before

    def _resume(self, tail: list[str]) -> str:
        """A line that says how many were left out, and the last of them."""
        count, self._left_out, self._tail = self._left_out - len(tail), 0, []
        said = [f"… {count:,} lines are not shown here, the result has them …"] if count > 0 else []
        return self._labelled([*said, *(line[:OPEN] for line in tail)])

    def _labelled(self, lines: Sequence[str]) -> str:
        return "".join([f"{self._label} {line if chr(13) not in line else _overwritten(line)}\n" for line in lines])


def _overwritten(line: str) -> str:
    """What a terminal shows of a line in which the cursor went back to its beginning, as progress bars do."""
    return line.rstrip("\r").rpartition("\r")[2]
