"""MPI jobs: each has one block of engine ids, so that an engine's id follows from its rank.

A block is reserved at the first hello of any rank: 0 to size - 1 if all of those are free, else the
next ids that were never given. So it does not matter in which order ranks come. Ids of ranks that
are not here are *seats*; they are enlisted under names that tell job and rank, so that the next
life of the controller finds the block again whoever comes first. A block ends with the last of its
ranks.

Ranks that share a job's name are one job. Where MPI names no job, ranks with the same parent process
are one, and ranks of another host join the oldest nameless job of their size that has none of that
host and lacks their rank. So two nameless jobs of one size that start at once over several hosts can
be taken for each other; within one host nothing is guessed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import pairwise

from ipkernel_ext.core.effects import Enlist
from ipkernel_ext.core.messages import EngineRecord
from ipkernel_ext.core.outbox import Outbox
from ipkernel_ext.core.roster import Engine, Roster

_SEAT = " "  # begins the name of a seat; boots have no spaces
_NAMED, _NAMELESS = "j", "p"  # begin a key


class Block:
    """The ids of one job."""

    def __init__(self, key: str, base: int, size: int) -> None:
        self.key = key
        self.base = base
        self.size = size
        self.here: dict[int, str] = {}  # rank: boot
        self.hosts: set[str] = set()

    @property
    def ids(self) -> range:
        """Its ids, by rank."""
        return range(self.base, self.base + self.size)

    def seat(self, id: int) -> str:
        """What this id is enlisted under while its rank is not here."""
        return f"{_SEAT}{self.key}.{id - self.base}"


class Jobs:
    """The blocks.

    Parameters
    ----------
    enlisted
        Engine id to boot or seat, as an earlier life left it.
    """

    def __init__(self, out: Outbox, roster: Roster, enlisted: Mapping[int, str]) -> None:
        self._out = out
        self._roster = roster
        self._blocks: dict[str, Block] = {}  # by key; one of several hosts may have several keys
        for id, name in sorted(enlisted.items()):
            if is_seat(name):
                key, _, rank = name.removeprefix(_SEAT).partition(".")
                block = self._blocks.setdefault(key, Block(key, id - int(rank), 0))
                block.size = int(rank) + 1  # at least; its ranks know better
        roster.next_id = max([roster.next_id, *(block.ids.stop for block in self._blocks.values())])

    # ------------------------------------------------------------ questions

    def is_free(self, id: int, rank: int | None = None) -> bool:
        """Whether an engine of this rank may have this id: nobody has it, or only a seat of that rank."""
        block = next((block for block in self._all() if id in block.ids), None)
        return self._is_unused(id) and (block is None or id - block.base == rank)

    def _is_unused(self, id: int) -> bool:
        return id >= 0 and id not in self._roster.engines and self._roster.vacancy(id) is None

    def _all(self) -> Iterable[Block]:
        return dict.fromkeys(self._blocks.values())

    def _find(self, record: EngineRecord) -> Block | None:
        """The block of this engine's job, if there is one."""
        if not _is_rank(record):
            return None
        key = _key(record)
        if key in self._blocks or record.job:
            return self._blocks.get(key)
        for block in self._all():
            alike = block.key.startswith(_NAMELESS) and block.size == record.size
            if alike and block.here and record.rank not in block.here and record.host not in block.hosts:
                return block
        return None

    def seat_of(self, id: int) -> str | None:
        """What an id that nobody has is to be enlisted under: its rank's seat, while others of its job are here."""
        block = next((block for block in self._all() if id in block.ids and block.here), None)
        return None if block is None else block.seat(id)

    def place_of(self, record: EngineRecord) -> int:
        """The id that follows from the ranks of its job that are here; -1 where none are."""
        block = self._find(record)
        return -1 if block is None or not block.here or record.rank is None else block.base + record.rank

    # ------------------------------------------------------------ ranks come and go

    def id_for(self, record: EngineRecord) -> int:
        """An id for an engine that has had none; reserves its job's block."""
        if not _is_rank(record):
            return self._roster.next_id
        assert record.rank is not None
        block = self._find(record) or self._reserve(record)
        id = block.base + record.rank
        return id if self._is_unused(id) else self._roster.next_id

    def _reserve(self, record: EngineRecord) -> Block:
        assert record.size is not None
        first = range(record.size)
        base = 0 if all(map(self.is_free, first)) else self._roster.next_id
        return self._enter(record, base)

    def _enter(self, record: EngineRecord, base: int) -> Block:
        assert record.size is not None
        block = Block(_key(record), base, record.size)
        self._blocks[block.key] = block
        self._enlist(block)
        return block

    def _enlist(self, block: Block) -> None:
        self._roster.next_id = max(self._roster.next_id, block.ids.stop)
        for id in reversed(block.ids):  # the last one first: it tells how many there are
            if self._is_unused(id):
                self._out.add(Enlist(id, block.seat(id)))

    def join(self, engine: Engine) -> None:
        """An engine has its id; if that is its rank's, it is one of the job."""
        record = engine.record
        if not _is_rank(record):
            return
        assert record.rank is not None and record.size is not None
        base = engine.id - record.rank
        block = self._find(record) or next((block for block in self._all() if block.base == base), None)
        if block is None and self._would_fit(engine):
            block = self._enter(record, base)
        if block is None or block.base != base:
            return
        block.size = record.size
        if not block.here:
            self._enlist(block)  # the earlier life may have been killed while it did
        block.here[record.rank] = engine.boot
        block.hosts.add(record.host)
        self._blocks[_key(record)] = block

    def _would_fit(self, engine: Engine) -> bool:
        """Whether the block that follows from the id of an earlier life is nobody else's."""
        record = engine.record
        assert record.rank is not None and record.size is not None
        base = engine.id - record.rank
        ids = range(base, base + record.size)
        engines = self._roster.engines
        return (
            base >= 0
            and not any(id in engines for id in ids if id != engine.id)
            and not any(block.ids.start < ids.stop and ids.start < block.ids.stop for block in self._all())
        )

    def leave(self, engine: Engine) -> str | None:
        """An engine is gone; the seat under which its id is kept for its job, while others of that are here.

        It is for the caller to enlist, in one go: between two steps the controller may be killed.
        """
        rank = engine.record.rank
        block = next((b for b in self._all() if rank is not None and b.here.get(rank) == engine.boot), None)
        if block is None or rank is None:
            return None
        del block.here[rank]
        if block.here:
            return block.seat(engine.id)
        self._drop(block)
        return None

    def _drop(self, block: Block) -> None:
        for key in [key for key, other in self._blocks.items() if other is block]:
            del self._blocks[key]
        for id in block.ids:
            if self._is_unused(id):
                self._out.add(Enlist(id, None))

    def end_recovery(self) -> None:
        """Jobs of the earlier life of which nobody came are not waited for any more."""
        for block in list(self._all()):
            if not block.here:
                self._drop(block)

    def check(self) -> None:
        """Assert that blocks do not overlap and hold who is here."""
        blocks = sorted(self._all(), key=lambda block: block.base)
        for one, following in pairwise(blocks):
            assert one.ids.stop <= following.base, f"blocks {one.ids} and {following.ids}"
        for block in blocks:
            for rank, boot in block.here.items():
                assert self._roster.engines[block.base + rank].boot == boot, f"rank {rank} of {block.key}"


def is_seat(name: str) -> bool:
    """Whether an id is enlisted for a rank that is not here, rather than for a boot."""
    return name.startswith(_SEAT)


def _is_rank(record: EngineRecord) -> bool:
    return record.rank is not None and record.size is not None and record.rank < record.size


def _key(record: EngineRecord) -> str:
    """Short enough that the name of a seat is no longer than that of a boot."""
    job = record.job or f"{record.parent} {record.host}"
    kind = _NAMED if record.job else _NAMELESS
    return kind + hashlib.blake2b(f"{record.size} {job}".encode(), digest_size=4).hexdigest()
