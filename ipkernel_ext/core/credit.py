"""What a client has been sent and has not taken yet.

A client acknowledges each result as it reads it. One that does not, because its process is stopped or
too slow, would have results wait in the controller's memory; so beyond a limit it counts as away: the
engines keep its results, then the store does, and it gets them when it comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ipkernel_ext.core import messages as m

CREDIT = 64 * 2**20  # bytes of results that a client may be behind
STALL = 2.0  # seconds without an acknowledgement after which one that is so far behind counts as away
FEW = 64  # results; of so few, each may be large, and take its time
BRIEF = 0.2  # seconds, instead of ``STALL``, where it is behind by more


def size_of(output: m.Stream | m.Display) -> int:
    """Bytes of an output, about."""
    if isinstance(output, m.Stream):
        return len(output.text)
    return sum(len(value) for value in output.bundle.values() if isinstance(value, str | bytes))


class Credit:
    """Of one connection of a client."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}  # bytes of each result, by task number
        self._bytes = 0
        self._since = 0.0  # when it last took one, or had none to take

    def owe(self, number: int, size: int, now: float) -> None:
        """A result of so many bytes was sent."""
        if not self._sizes:
            self._since = now
        self._bytes += size - self._sizes.get(number, 0)
        self._sizes[number] = size

    def owe_all(self, numbers: Sequence[int], sizes: Iterable[int], now: float) -> None:
        """Results of so many bytes were sent, of none of which it was sent anything before."""
        if not self._sizes:
            self._since = now
        fresh = dict(zip(numbers, sizes, strict=True))
        self._bytes += sum(fresh.values())
        self._sizes.update(fresh)

    def settle(self, numbers: Iterable[int], now: float) -> None:
        """The client has taken these."""
        for number in numbers:
            self._bytes -= self._sizes.pop(number, 0)
        self._since = now

    def exhausted(self, now: float) -> bool:
        """Whether it is too far behind, and has been for too long."""
        patience = STALL if len(self._sizes) <= FEW else min(STALL, BRIEF)
        return self._bytes > CREDIT and now - self._since >= patience

    @property
    def open(self) -> int:
        """How many results it has not taken."""
        return len(self._sizes)
