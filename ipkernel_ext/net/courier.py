"""An engine as the courier of its host: takes large frames into the memory that the engines there share.

See ``couriers`` for the controller's side. It asks for a few pieces at a time, so that the connection is
never busy for long, and whoever sends knows that it goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ipkernel_ext.blobs import GRACE, Blob, Draft, Home, Pool, Sweeper
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.net.couriers import PIECE

AHEAD = 8  # pieces that are under way at a time

Word = m.PieceWanted | m.FrameTaken


class Courier:
    """What an engine has taken, and is taking.

    Parameters
    ----------
    home : Home
        Of the engines of this host.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._pool = Pool(home, 0, 0)
        self._sweeper = Sweeper(home)
        self._sweep_at: float | None = None  # while there may be something to sweep
        self._drafts: dict[int, tuple[Draft, int]] = {}  # with the size
        self._asked: dict[int, int] = {}  # up to which byte
        self._blobs: dict[int, Blob] = {}

    def receive(self, message: m.ToCourier, frames: Sequence[Frame], now: float) -> Iterable[Word]:
        """What the controller says; the answers."""
        self._sweep_at = self._sweep_at or now + GRACE
        match message:
            case m.TakeFrame(number, size, b""):
                draft = self._pool.draft(size)
                if draft is None:
                    return [m.FrameTaken(number)]
                self._drafts[number] = draft, size
                self._asked[number] = 0
                return [word for _ in range(AHEAD) for word in self._ask(number, size)]
            case m.TakeFrame(number, _, reference):
                found = self._home.open(reference)
                if not isinstance(found, Blob):
                    return [m.FrameTaken(number)]
                self._blobs[number] = found
                return [m.FrameTaken(number, reference)]
            case m.Piece(number, begin) if number in self._drafts:
                return self._write(number, begin, frames[0])
            case m.ReleaseFrame(number):
                self._blobs.pop(number, None)
                self._give_up(number)
                self._pool.tick(float("inf"))
        return ()

    def _ask(self, number: int, size: int) -> Sequence[Word]:
        begin = self._asked[number]
        if begin >= size:
            return ()
        self._asked[number] = begin + PIECE
        return [m.PieceWanted(number, begin)]

    def _write(self, number: int, begin: int, piece: Frame) -> Sequence[Word]:
        draft, size = self._drafts[number]
        try:
            blob = draft.write(begin, piece)
        except OSError:
            self._give_up(number)
            return [m.FrameTaken(number)]
        if blob is None:
            return self._ask(number, size)
        del self._drafts[number], self._asked[number]
        self._blobs[number] = blob
        return [m.FrameTaken(number, blob.reference)]

    def _give_up(self, number: int) -> None:
        self._asked.pop(number, None)
        if number in self._drafts:
            self._drafts.pop(number)[0].give_up()

    def next_deadline(self) -> float | None:
        """When ``tick`` is wanted, or None."""
        return self._sweep_at

    def tick(self, now: float) -> None:
        """Remove what engines that were killed have left."""
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep_at = now + GRACE if self._sweeper.sweep(now) or self._sweeper.waits else None

    def close(self) -> None:
        """The connection is over: what was under way comes no more; for what is there others may still come."""
        for number in list(self._drafts):
            self._give_up(number)
        self._pool.close()
        self._blobs.clear()
        self._pool = Pool(self._home, 0, 0)
