"""Engines' variables in a file, and back from it.

The file begins with a line that says its format. Then come the engines' variables as frames of
``payload``, group by group, as the engines have written them; what is where is in a table in JSON
behind them, and the file ends with that table's place and digest, so that a truncated one is told
from a whole one. It is written under another name, and renamed when it is on the disk.

The client never holds more than a block while it writes. It does not unpickle what goes back to an
engine as it was; it does for what is cut anew for another number of engines, one variable at a time.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from ipkernel_ext import __version__, payload, sequences
from ipkernel_ext.advice import advise
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.errors import CheckpointError, CompositeError
from ipkernel_ext.execution import saving
from ipkernel_ext.results import AsyncResult
from ipkernel_ext.targets import Chosen, summary
from ipkernel_ext.units import bytes_text, count

if TYPE_CHECKING:
    from ipkernel_ext.views import Engines

FORMAT = 1
BLOCK = 8 * 2**20
"""Bytes that come from an engine at once."""

UNDER_WAY = 64 * 2**20
"""Bytes that are sent to engines before it is waited for them."""

_HEAD = "ipkernel_ext checkpoint, format {}, written by version {}\n"
_HEADS = re.compile(rb"ipkernel_ext checkpoint, format (\d+), written by version (\S+)\n")
_LONGEST_HEAD = 200
_END = struct.Struct("<Q16s8s")  # bytes of the table, its digest, and a mark
_MARK = b"\nthe end"


class Skipped(NamedTuple):
    """A variable that was left out."""

    name: str
    engines: list[int]
    why: str


class Checkpoint(NamedTuple):
    """What was saved, or restored.

    Attributes
    ----------
    path : Path
    names : dict
        The variables' names by engine.
    skipped : list of Skipped
        Those that were left out, and why.
    nbytes : int
        Of the variables, as they are in the file.
    """

    path: Path
    names: dict[int, list[str]]
    skipped: list[Skipped]
    nbytes: int

    def __repr__(self) -> str:
        different = {name for names in self.names.values() for name in names}
        head = f"<Checkpoint {self.path}: {count(len(different), 'variable')} of {count(len(self.names), 'engine')}"
        lines = [f"{head}, {bytes_text(self.nbytes)}", *(f"left out {_told(each)}" for each in self.skipped)]
        return "\n  ".join(lines) + ">"


class Group(NamedTuple):
    """Variables that lie together in a file."""

    names: list[str]
    types: list[str]
    offset: int
    frames: list[int]  # sizes in bytes
    digest: str


def _told(skipped: Skipped) -> str:
    where = "engine" if len(skipped.engines) == 1 else "engines"
    return f"{skipped.name} of {where} {summary(skipped.engines)}: {skipped.why}"


# ---------------------------------------------------------------- writing


def save(engines: Engines, path: str | Path, chosen: Chosen) -> Checkpoint:
    """Write the engines' variables."""
    path = Path(path).expanduser()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no directory {path.parent} to write a checkpoint into")
    whole = chosen._replace(single=False)
    spools: dict[int, saving.Saved] = dict(
        zip(whole.ids, engines._quietly(saving.save, targets=whole.ids), strict=True)
    )
    try:
        with replacing(path) as file:
            file.write(_HEAD.format(FORMAT, __version__).encode())
            table = [_copy(engines, id, spool, file) for id, spool in spools.items()]
            _close(file, {"engines": table})
    finally:
        for id, spool in spools.items():
            engines._quietly(saving.forget, spool.token, targets=id, block=False)
    skipped = _merged((name, id, why) for id, spool in spools.items() for name, why in spool.why.items())
    _advise(f"the checkpoint {path} is without what cannot be saved:", skipped)
    names = {id: sorted(name for group in spool.groups for name in group.names) for id, spool in spools.items()}
    return Checkpoint(path, names, skipped, sum(spool.size for spool in spools.values()))


def _copy(engines: Engines, id: int, spool: saving.Saved, file: IO[bytes]) -> dict[str, Any]:
    """Copy what an engine has written; its part of the table."""
    offset = file.tell()
    size = min(BLOCK, engines._link.max_result // 2 or BLOCK)  # what the client takes at once
    for begin in range(0, spool.size, size):
        file.write(engines._quietly(saving.block, spool.token, begin, size, targets=id))
    groups = []
    for group in spool.groups:
        groups.append(Group(group.names, group.types, offset, group.frames, group.digest)._asdict())
        offset += sum(group.frames)
    return {"id": id, "groups": groups}


def _close(file: IO[bytes], table: dict[str, Any]) -> None:
    text = json.dumps(table).encode()
    file.write(text)
    file.write(_END.pack(len(text), hashlib.blake2b(text, digest_size=16).digest(), _MARK))


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that comes into the place of another when all of it is on the disk; until then that stays as it is."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


# ---------------------------------------------------------------- reading


class Reader:
    """A checkpoint that is open.

    Raises
    ------
    CheckpointError
        It is none, not all of it is there, or it is of another version.
    FileNotFoundError
        There is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                raise CheckpointError(f"{path} is empty; it is no checkpoint")
            self._bytes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self._check_head()
        self.engines: dict[int, list[Group]] = {
            engine["id"]: [Group(**group) for group in engine["groups"]] for engine in self._table()["engines"]
        }

    def _check_head(self) -> None:
        head = _HEADS.match(bytes(self._bytes[:_LONGEST_HEAD]))
        if head is None:
            raise CheckpointError(f"{self.path} is no checkpoint of ipkernel_ext")
        if int(head[1]) != FORMAT:
            raise CheckpointError(
                f"{self.path} is a checkpoint of format {int(head[1])}, written by ipkernel_ext {head[2].decode()}; "
                f"this is {__version__}, which reads format {FORMAT}: restore it with the version that wrote it"
            )

    def _table(self) -> Any:
        truncated = CheckpointError(
            f"{self.path} is no whole checkpoint: its end is missing or damaged; it has {len(self._bytes)} bytes. "
            "It was copied in part, or its disk was full; checkpoint() itself leaves no such file"
        )
        if len(self._bytes) < _END.size:
            raise truncated
        length, digest, mark = _END.unpack(self._bytes[-_END.size :])
        text = bytes(self._bytes[max(0, len(self._bytes) - _END.size - length) : -_END.size])
        if mark != _MARK or hashlib.blake2b(text, digest_size=16).digest() != digest:
            raise truncated
        return json.loads(text)

    def frames(self, group: Group) -> list[Frame]:
        """The frames of some variables; views of the file's memory.

        Raises
        ------
        CheckpointError
            They are not what was written.
        """
        frames, offset, digest = [], group.offset, hashlib.blake2b(digest_size=16)
        for size in group.frames:
            frames.append(self._bytes[offset : offset + size])
            digest.update(frames[-1])
            offset += size
        if digest.hexdigest() != group.digest:
            raise CheckpointError(f"{self.path} is damaged: {', '.join(group.names)} is not what was written")
        return frames

    def value(self, engine: int, name: str) -> Any:
        """One variable of an engine, here."""
        group = next(group for group in self.engines[engine] if name in group.names)
        return payload.loads(self.frames(group))[name]


# ---------------------------------------------------------------- back to engines


def restore(engines: Engines, path: str | Path, chosen: Chosen, redistribute: bool | Iterable[str]) -> Checkpoint:
    """Bind the variables of a checkpoint on engines."""
    reader = Reader(Path(path).expanduser())
    if redistribute is False:
        return _restore_each(engines, reader, _pairs(reader, chosen.ids))
    cut = None if redistribute is True else [redistribute] if isinstance(redistribute, str) else list(redistribute)
    return _redistribute(engines, reader, chosen.ids, cut)


def _pairs(reader: Reader, ids: Sequence[int]) -> dict[int, int]:
    """Whose variables each engine gets: by id where they are the same, else in order."""
    if len(reader.engines) != len(ids):
        raise ValueError(
            f"{reader.path} has the variables of {count(len(reader.engines), 'engine')}, and here are {len(ids)}: "
            'restore(path, redistribute=["x"]) cuts x anew for these and gives all of them what was alike, '
            "redistribute=True does so with all sequences"
        )
    if set(ids) == set(reader.engines):
        return {id: id for id in ids}
    return dict(zip(ids, reader.engines, strict=True))


class _Sending:
    """Variables on their way to engines, of which not too many bytes are under way at once."""

    def __init__(self, engines: Engines, path: Path) -> None:
        self._engines = engines
        self._path = path
        self._under_way: list[tuple[AsyncResult, list[str], int]] = []
        self._bytes = 0
        self.sent = 0  # bytes, in all
        self.names: dict[int, list[str]] = {}
        self._errors: list[Exception] = []

    def send(self, names: list[str], frames: Sequence[Frame], ids: Iterable[int]) -> None:
        """Bind names on engines."""
        size = sum(memoryview(frame).nbytes for frame in frames)
        frames = self._engines._link.channel.share(frames)
        for id in ids:
            self._under_way.append((self._engines._bind(names, frames, id), names, id))
            self._bytes += size
            self.sent += size
            if self._bytes > UNDER_WAY:
                self._wait()

    def _wait(self) -> None:
        for result, names, id in self._under_way:
            try:
                result.get()
            except Exception as error:
                error.add_note(f"of {', '.join(names)}, restored from {self._path} to engine {id}")
                self._errors.append(error)
            else:
                self.names.setdefault(id, []).extend(names)
        self._under_way, self._bytes = [], 0

    def finish(self, skipped: list[Skipped]) -> Checkpoint:
        """All is sent.

        Raises
        ------
        CompositeError
            Some could not be rebuilt; the others are there.
        """
        self._wait()
        if self._errors:
            raise CompositeError(
                f"not all of {self._path} could be restored; what is not named here is restored", self._errors
            )
        names = {id: sorted(names) for id, names in sorted(self.names.items())}
        return Checkpoint(self._path, names, skipped, self.sent)


def _restore_each(engines: Engines, reader: Reader, pairs: dict[int, int]) -> Checkpoint:
    sending = _Sending(engines, reader.path)
    for id, saved in pairs.items():
        for group in reader.engines[saved]:
            sending.send(group.names, reader.frames(group), [id])
    return sending.finish([])


def _redistribute(engines: Engines, reader: Reader, ids: Sequence[int], cut: list[str] | None) -> Checkpoint:
    """Cut sequences anew, give every engine what was alike, and leave out the rest."""
    everywhere = [{name: group for group in groups for name in group.names} for groups in reader.engines.values()]
    known = dict.fromkeys(name for groups in everywhere for name in groups)
    if unknown := [name for name in cut or () if name not in known]:
        raise ValueError(f"{reader.path} has no {', '.join(unknown)}; it has {', '.join(known) or 'nothing'}")
    sending = _Sending(engines, reader.path)
    skipped = []
    alike: dict[str, Group] = {}
    for name in known:
        groups = [groups[name] for groups in everywhere if name in groups]
        there = [id for id, groups in zip(reader.engines, everywhere, strict=True) if name in groups]
        if name not in (cut or ()) and len(there) == len(everywhere) and len({group.digest for group in groups}) == 1:
            alike[name] = groups[0]
            continue
        try:
            if cut is not None and name not in cut:
                raise TypeError("it differs between engines and is not among those to be cut anew")
            whole = sequences.join([reader.value(id, name) for id in there])
        except TypeError as error:
            if name in (cut or ()):
                raise
            skipped.append(Skipped(name, there, str(error)))
            continue
        for id, piece in zip(ids, sequences.cut(whole, len(ids)), strict=True):
            sending.send([name], payload.own(payload.dumps({name: piece}, name)), [id])
    for group in {group.offset: group for group in alike.values()}.values():
        _send_alike(sending, reader, group, alike, ids)
    _advise(f"restored from {reader.path} without what cannot be redistributed:", skipped)
    return sending.finish(skipped)


def _send_alike(sending: _Sending, reader: Reader, group: Group, alike: dict[str, Group], ids: Sequence[int]) -> None:
    """Give every engine what was alike; as it is in the file, unless one of the group was cut anew."""
    names = [name for name in group.names if name in alike]
    frames = reader.frames(group)
    if names != group.names:
        values = payload.loads(frames)
        frames = payload.own(payload.dumps({name: values[name] for name in names}, "variables"))
    sending.send(names, frames, ids)


def _merged(found: Iterable[tuple[str, int, str]]) -> list[Skipped]:
    """Left out for the same reason on several engines."""
    engines: dict[tuple[str, str], list[int]] = {}
    for name, id, why in found:
        engines.setdefault((name, why), []).append(id)
    return [Skipped(name, ids, why) for (name, why), ids in engines.items()]


def _advise(head: str, skipped: Sequence[Skipped]) -> None:
    if skipped:
        advise("\n  ".join([head, *map(_told, skipped)]))
