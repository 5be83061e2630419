"""The controller's store of results whose clients are not here: an SQLite file, bounded in size and time.

It lies beside the journal and, like that, outlives the controller, not the cluster.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ipkernel_ext import blobs
from ipkernel_ext.core import failures, wire
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.mailbox import Complete, Mailboxes, relabelled
from ipkernel_ext.core.messages import TaskId
from ipkernel_ext.core.wire import Entry, Frame

if TYPE_CHECKING:
    import sqlite3

LARGEST = 64 * 2**20
"""Bytes of the largest result that goes to disk: the controller serves nobody while it writes."""

_TABLES = """
pragma journal_mode = wal;
pragma synchronous = off;
create table if not exists results (
    place integer primary key autoincrement,
    client text, number integer, kept real, bytes integer, error text,
    unique (client, number));
create table if not exists parts (
    place integer, position integer, body blob, primary key (place, position)) without rowid;
"""


class Settled(NamedTuple):
    """A result that is complete."""

    task: TaskId
    error: str  # what went wrong, "" when nothing did
    stored: bool  # it is on disk, and not only laid aside because it is too large


class ResultStore:
    """Results by task id, and what has arrived of others.

    Parameters
    ----------
    path : Path or None
        Its file, made when there is something to write; None: in memory.
    limit : int
        Bytes it may hold; the oldest results are dropped to stay below.
    ttl : float
        Seconds after which a result is dropped.
    """

    def __init__(self, path: Path | None, limit: int, ttl: float) -> None:
        self._path = path
        self._limit = limit
        self._ttl = ttl
        self._db: sqlite3.Connection | None = None
        self._decode = wire.Decoder(m.ToClient).decode
        self._mailboxes = Mailboxes()
        self._complete: list[Complete] = []
        self._aside: dict[TaskId, list[Entry]] = {}  # too large for the disk; until whoever asked has them
        self._open = False  # a transaction is
        self._bytes = 0
        if path is not None and path.exists():
            self._connect()
            self._expire()

    def tasks(self) -> dict[TaskId, str]:
        """Whose results are here, and what went wrong in each ("": nothing)."""
        rows = self._rows("select client, number, error from results order by place")
        return {TaskId(client, number): error for client, number, error in rows}

    def take(self, message: m.Result | m.Stream | m.Display, frames: Sequence[Frame]) -> None:
        """A message for a client that is not here."""
        complete = self._mailboxes.take(message, frames)
        if complete is not None:
            self._complete.append(complete)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to settle, and nothing put aside."""
        return not (self._complete or self._aside)

    def settle(self) -> tuple[list[Settled], list[TaskId]]:
        """Write what is complete; that, and what had to make room for it."""
        if not self._complete:
            return [], []
        complete, self._complete = self._complete, []
        settled = [Settled(one.task, one.error, self._put(one)) for one in complete]
        dropped = [*self._expire(), *self._make_room()]
        self._commit()
        return settled, dropped

    def get(self, task: TaskId, alias: TaskId) -> list[Entry]:
        """The messages of a result, its output before it, as those of another task."""
        entries = self._aside.get(task)
        if entries is None:
            query = "select body from parts natural join results where client = ? and number = ? order by position"
            parts = [body for (body,) in self._rows(query, *task)]
            entries = (
                self._decode(parts, blobs.absent)[1]
                if parts
                else [(failures.result(task, failures.unknown_result(task)), ())]
            )
        return relabelled(entries, alias)

    def discard(self, client: str, number: int | None) -> None:
        """This result is not needed any more; None: what is incomplete of that client."""
        if number is None:
            self._mailboxes.discard(client)
            return
        query = "select place, bytes from results where client = ? and number = ?"
        for place, size in self._rows(query, client, number):
            self._begin().execute("delete from results where place = ?", (place,))
            self._begin().execute("delete from parts where place = ?", (place,))
            self._bytes -= size

    def forget_aside(self) -> None:
        """Nobody who asked is left."""
        self._aside.clear()

    def close(self) -> None:
        """Let go of the file; it stays."""
        if self._db is not None:
            self._commit()
            self._db.close()

    # ------------------------------------------------------------ the file

    def _connect(self) -> sqlite3.Connection:
        if self._db is None:
            import sqlite3

            self._db = sqlite3.connect(self._path or ":memory:", isolation_level=None)
            self._db.executescript(_TABLES)
            self._bytes = self._db.execute("select coalesce(sum(bytes), 0) from results").fetchone()[0]
        return self._db

    def _rows(self, query: str, *values: Any) -> list[Any]:
        return [] if self._db is None else self._db.execute(query, values).fetchall()

    def _begin(self) -> sqlite3.Connection:
        db = self._connect()
        if not self._open:
            db.execute("begin")
            self._open = True
        return db

    def _commit(self) -> None:
        if self._open:
            self._connect().execute("commit")
            self._open = False

    def _put(self, complete: Complete) -> bool:
        parts = wire.encode(0, complete.entries, blobs.plain)  # who wrote them into shared memory may be gone then
        size = sum(map(len, parts))
        if size > min(LARGEST, self._limit):
            self._aside[complete.task] = complete.entries
            return False
        self.discard(*complete.task)
        insert = "insert into results (client, number, kept, bytes, error) values (?, ?, ?, ?, ?)"
        place = self._begin().execute(insert, (*complete.task, time.time(), size, complete.error)).lastrowid
        rows = ((place, position, part) for position, part in enumerate(parts))
        self._begin().executemany("insert into parts values (?, ?, ?)", rows)
        self._bytes += size
        return True

    def _make_room(self) -> list[TaskId]:
        """Drop the oldest until what is here is within the limit."""
        dropped: list[TaskId] = []
        while self._bytes > self._limit:
            (oldest,) = self._rows("select client, number from results order by place limit 1")
            dropped.append(TaskId(*oldest))
            self.discard(*oldest)
        return dropped

    def _expire(self) -> list[TaskId]:
        """Drop what is too old."""
        rows = self._rows("select client, number from results where kept < ?", time.time() - self._ttl)
        old = [TaskId(*row) for row in rows]
        for task in old:
            self.discard(*task)
        self._commit()
        return old
