"""What arrives for clients that are not here, until all that belongs to a result is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from ipkernel_ext.core import failures
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.messages import TaskId
from ipkernel_ext.core.wire import Entry, Frame


class Complete(NamedTuple):
    """A result with its output before it, as it would have been sent to its client."""

    task: TaskId
    error: str  # what went wrong, "" when nothing did
    entries: list[Entry]


class _Parts:
    __slots__ = ("attempt", "outputs", "result")

    def __init__(self) -> None:
        self.attempt = 0
        self.outputs: dict[int, Any] = {}
        self.result: Entry | None = None


class Mailboxes:
    """Of all clients."""

    def __init__(self) -> None:
        self._parts: dict[TaskId, _Parts] = {}

    def take(self, message: m.Result | m.Stream | m.Display, frames: Sequence[Frame] = ()) -> Complete | None:
        """A message; what it completes."""
        task = message.task
        if task is None:
            return None
        parts = self._parts.get(task)
        if parts is None:
            parts = self._parts[task] = _Parts()
        if message.attempt != parts.attempt:
            parts.attempt = message.attempt
            parts.outputs.clear()
            parts.result = None
        if isinstance(message, m.Result):
            parts.result = message, frames
        else:
            parts.outputs[message.sequence] = message
        if parts.result is None or len(parts.outputs) < parts.result[0].outputs:
            return None
        del self._parts[task]
        failure = parts.result[0].failure
        outputs: list[Entry] = [(parts.outputs[number], ()) for number in sorted(parts.outputs)]
        return Complete(task, "" if failure is None else failures.brief(failure), [*outputs, parts.result])

    def discard(self, client: str) -> None:
        """What is incomplete of this client."""
        for task in [task for task in self._parts if task.client == client]:
            del self._parts[task]


def relabelled(entries: Sequence[Entry], alias: TaskId) -> list[Entry]:
    """The same as of another task."""
    return [(replace(message, task=alias), frames) for message, frames in entries]
