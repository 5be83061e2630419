"""The effects of one stimulus, collected by the controller's parts in the order they decide them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.effects import Effect, Log, Peer, Send
from ipkernel_ext.core.messages import TaskId
from ipkernel_ext.core.wire import Frame


class Outbox:
    """Effects, until they are taken."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self.add = self._effects.append
        self._handed: dict[Peer, tuple[m.Tasks, list[Frame]]] = {}  # what others may still join

    def send(self, peer: Peer, message: Any, frames: Sequence[Frame] = ()) -> None:
        """Send a message on a connection."""
        self.add(Send(peer, message, frames))

    def hand(self, peer: Peer, id: TaskId, attempt: int, work: m.Work, max_result: int, frame: Frame) -> None:
        """Send a balanced task, with others of the same work; after all that is sent on that connection otherwise."""
        client, number = id
        handed = self._handed.get(peer)
        if handed is not None:
            tasks, frames = handed
            if tasks.work is work and tasks.client == client and tasks.max_result == max_result:
                tasks.numbers.append(number)
                tasks.attempts.append(attempt)
                frames.append(frame)
                return
            self._close(peer, tasks, frames)
        self._handed[peer] = m.Tasks(client, [number], [attempt], work, max_result), [frame]

    def _close(self, peer: Peer, tasks: m.Tasks, frames: list[Frame]) -> None:
        if len(frames) > 1:
            self.send(peer, tasks, frames)
        else:
            id = TaskId(tasks.client, tasks.numbers[0])
            self.send(peer, m.Task(id, tasks.attempts[0], tasks.work, False, 0.0, tasks.max_result), frames)

    def log(self, text: str, level: int = logging.INFO) -> None:
        """One line for the log."""
        self.add(Log(level, text))

    def take(self) -> list[Effect]:
        """What was collected; the outbox is empty then."""
        if self._handed:
            for peer, (tasks, frames) in self._handed.items():
                self._close(peer, tasks, frames)
            self._handed.clear()
        effects = self._effects
        self._effects = []
        self.add = self._effects.append
        return effects
