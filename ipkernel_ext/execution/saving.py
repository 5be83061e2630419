"""An engine's variables, written to a file of its own at one moment, and given away block by block.

The file has no name, so it is gone with the engine at the latest. Called on an engine like a user's
functions; reads the namespace of the shell that runs there.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

from ipkernel_ext import payload

_spools: dict[str, IO[bytes]] = {}


class Group(NamedTuple):
    """Variables that were pickled together, because they share an object."""

    names: list[str]
    types: list[str]
    frames: list[int]  # sizes in bytes; they lie one behind the other
    digest: str


class Saved(NamedTuple):
    """What was written."""

    token: str  # by which it is read
    size: int  # bytes
    groups: list[Group]
    why: dict[str, str]  # by name, why it could not be


def save() -> Saved:
    """Write the user's variables."""
    from IPython.core.getipython import get_ipython  # clients import this module, and need no IPython

    shell: Any = get_ipython()
    namespace = shell.user_ns
    names: list[str] = shell.keys()
    variables = {name: namespace[name] for name in names}
    dumped, why = payload.dumps_apart(variables, namespace)
    token = secrets.token_hex(8)
    spool = _spools[token] = tempfile.TemporaryFile()  # noqa: SIM115 - it is read by later calls
    try:
        groups = [
            Group(names, [type(variables[name]).__name__ for name in names], *_write(spool, frames))
            for names, frames in dumped
        ]
        return Saved(token, spool.tell(), groups, why)
    except BaseException:
        forget(token)
        raise


def _write(spool: IO[bytes], frames: Sequence[Any]) -> tuple[list[int], str]:
    digest = hashlib.blake2b(digest_size=16)
    for frame in frames:
        digest.update(frame)
        spool.write(frame)
    return [memoryview(frame).nbytes for frame in frames], digest.hexdigest()


def block(token: str, offset: int, size: int) -> bytes:
    """A part of what was written."""
    spool = _spools[token]
    spool.seek(offset)
    return spool.read(size)


def forget(token: str) -> None:
    """It is not needed any more."""
    _spools.pop(token).close()
