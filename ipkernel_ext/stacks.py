"""What engines tell of where their code is, and how many stacks look as one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from traceback import FrameSummary, StackSummary
from typing import Any, NamedTuple

from ipkernel_ext import targets, tracebacks
from ipkernel_ext.core.looking import SILENT


class Thread(NamedTuple):
    """A thread of an engine that runs user code."""

    name: str
    """\"\" for the one that runs tasks."""

    frames: StackSummary
    """From the outermost of user code."""


class Stack:
    """Where the code of one engine was at a moment.

    Attributes
    ----------
    engine_id : int
    frames : traceback.StackSummary
        Of the thread that runs tasks, from the outermost of user code; empty between tasks.
    threads : list of Thread
        Others that user code has started.
    note : str
        Why nothing is known; "" where something is.
    """

    def __init__(self, engine_id: int, threads: Sequence[Thread] = (), note: str = "") -> None:
        self.engine_id = engine_id
        self.frames = next((thread.frames for thread in threads if not thread.name), StackSummary())
        self.threads = [thread for thread in threads if thread.name]
        self.note = note

    @property
    def text(self) -> str:
        """As in a traceback, without the engine."""
        if self.note:
            return self.note
        parts = [formatted(self.frames) or "no user code runs"]
        parts += [f"thread {thread.name}:\n{formatted(thread.frames)}" for thread in self.threads]
        return "\n".join(parts)

    def __repr__(self) -> str:
        return shown([self])


class StackList(list[Stack]):
    """Of several engines, in their order; equal ones are shown once."""

    def __repr__(self) -> str:
        return shown(self)


def formatted(frames: StackSummary) -> str:
    """Frames as in a traceback, with source lines where they are known on either side."""
    return tracebacks.with_source("".join(frames.format()).rstrip("\n"))


def stack_of(engine: int, told: Mapping[str, Any]) -> Stack:
    """From what an engine told."""
    if "threads" not in told:
        return Stack(engine, note=told[SILENT])
    threads = [
        Thread(
            name,
            StackSummary.from_list([FrameSummary(file, line, f, line=source) for file, line, f, source in frames]),
        )
        for name, frames in told["threads"]
    ]
    return Stack(engine, threads)


def shown(stacks: Iterable[Stack]) -> str:
    """All of them, equal ones once with the engines they are of."""
    alike: dict[str, tuple[str, list[int]]] = {}
    for stack in stacks:
        text = stack.text.replace(f"engine {stack.engine_id} ", "it ") if stack.note else stack.text
        alike.setdefault(tracebacks.anywhere(text), (text, []))[1].append(stack.engine_id)
    blocks = []
    for text, ids in alike.values():
        label = targets.label(ids)
        blocks.append(f"{label}\n{text}" if "\n" in text or text.startswith(" ") else f"{label} {text}")
    return "\n".join(blocks)
