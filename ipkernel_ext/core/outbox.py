"""The effects of one stimulus, collected by the controller's parts in the order they decide them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ipkernel_ext.core.effects import Effect, Log, Peer, Send
from ipkernel_ext.core.wire import Frame


class Outbox:
    """Effects, until they are taken."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self.add = self._effects.append

    def send(self, peer: Peer, message: Any, frames: Sequence[Frame] = ()) -> None:
        """Send a message on a connection."""
        self.add(Send(peer, message, frames))

    def log(self, text: str, level: int = logging.INFO) -> None:
        """One line for the log."""
        self.add(Log(level, text))

    def take(self) -> list[Effect]:
        """What was collected; the outbox is empty then."""
        effects = self._effects
        self._effects = []
        self.add = self._effects.append
        return effects
