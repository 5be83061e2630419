"""One look at the cluster for all pages that are open; each is told what changed since its last message.

Nobody looks while no page is open. A page that does not take its messages has none pile up: when it comes back it
gets all rows at once, as a new page does. Looks are so far apart that the cluster spends a small part of its time
on them, however many engines it has.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from ipkernel_ext.dashboard import stream
from ipkernel_ext.dashboard.state import Facts, State, difference, seen

log = logging.getLogger("ipkernel_ext.dashboard")

PERIOD = 1.0  # seconds between two looks, at least
SHARE = 0.25  # of the time that looks may take
FRESH = 1.0  # seconds for which a look is good enough for metrics
RATES = 300  # looks whose rate is remembered
BLOCKS = 2048  # blocks of the stream that are remembered
MESSAGES = 8  # that a page may be behind


class Feed:
    """What pages are told.

    Parameters
    ----------
    look
        Asks the cluster; it may wait.
    """

    def __init__(self, look: Callable[[], Facts]) -> None:
        self._look = look
        self._state = State()
        self._facts: Facts | None = None
        self._blocks: deque[stream.Block] = deque(maxlen=BLOCKS)
        self._rates: deque[tuple[float, float]] = deque(maxlen=RATES)
        self._rate = stream.Rate()
        self._number = 0  # of the last message
        self._messages: deque[tuple[int, str]] = deque(maxlen=MESSAGES)
        self._readers = 0
        self._ended = False
        self._wanted = asyncio.Event()
        self._news = asyncio.Condition()
        self._one = asyncio.Lock()

    async def run(self) -> None:
        """Look again and again, while somebody reads."""
        while True:
            await self._wanted.wait()
            begun = time.monotonic()
            try:
                await self.look()
            except Exception:
                log.exception("a look at the cluster failed")
            took = time.monotonic() - begun
            await asyncio.sleep(max(PERIOD - took, took / SHARE - took))

    async def look(self) -> Facts:
        """Look once, and tell all readers."""
        async with self._one:
            facts = await asyncio.to_thread(self._look)
        self._facts = facts
        told = self._take(facts)
        self._number += 1
        self._messages.append((self._number, json.dumps(told, separators=(",", ":"))))
        async with self._news:
            self._news.notify_all()
        return facts

    async def facts(self) -> Facts:
        """What was seen a moment ago."""
        if self._facts is None or time.monotonic() - self._facts.at > FRESH:
            return await self.look()
        return self._facts

    def _take(self, facts: Facts) -> dict[str, Any]:
        speed = 0.0 if facts.trouble else self._rate.at(facts.clock, facts.count)
        before, self._state = self._state, seen(facts, self._state, speed)
        new = stream.blocks(facts.ended, facts.at - facts.clock)
        self._blocks.extend(new)
        self._rates.append((facts.at, speed))
        return {
            **difference(before, self._state),
            "now": round(facts.at, 3),
            "rates": [_rounded(facts.at, speed)],
            "blocks": [_written(block) for block in new],
        }

    def everything(self) -> dict[str, Any]:
        """What a new page is told."""
        return {
            **difference(State(), self._state),
            "all": True,
            "now": round(self._facts.at, 3) if self._facts else 0.0,
            "rates": [_rounded(*rate) for rate in self._rates],
            "blocks": [_written(block) for block in self._blocks],
        }

    async def _after(self, number: int) -> None:
        """Wait for a message after that one."""
        async with self._news:
            await self._news.wait_for(lambda: self._ended or self._number > number)

    async def end(self) -> None:
        """Nothing more is told: pages' messages end."""
        self._ended = True
        async with self._news:
            self._news.notify_all()

    async def messages(self) -> AsyncIterator[str]:
        """JSON of one page's messages, as they come."""
        self._readers += 1
        self._wanted.set()
        try:
            await self.facts()
            have = self._number
            yield json.dumps(self.everything(), separators=(",", ":"))
            while not self._ended:
                await self._after(have)
                missed = [message for number, message in self._messages if number > have]
                behind, have = self._number - have, self._number
                if behind > len(missed):
                    missed = [json.dumps(self.everything(), separators=(",", ":"))]
                for message in missed:
                    yield message
        finally:
            self._readers -= 1
            if not self._readers:
                self._wanted.clear()


def _rounded(at: float, rate: float) -> list[float]:
    return [round(at, 2), round(rate, 1)]


def _written(block: stream.Block) -> list[Any]:
    return [value if not isinstance(value, float) else round(value, 3) for value in block]
