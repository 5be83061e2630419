"""What an agent writes down of its children, so that its successor can take them over when it is killed.

A process is named by its pid and the moment it started, so that a number that the system gave to
somebody else since is not taken for it.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import msgspec

from ipkernel_ext.nursery.orders import Orders


class Process(msgspec.Struct, frozen=True):
    """One process."""

    pid: int
    started: int  # clock ticks since the machine started

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this number now."""
        return cls(pid, _started(pid) or 0)

    def runs(self) -> bool:
        """Whether it still does."""
        return _started(self.pid) == self.started


class Engine(msgspec.Struct, frozen=True):
    """One engine."""

    process: Process
    boot: str
    number: int
    log: str


class Register(msgspec.Struct, frozen=True):
    """An agent and its children."""

    id: str
    agent: Process
    orders: Orders
    controller: Process | None
    engines: list[Engine]
    waiting: list[tuple[int, str | None]]  # engines that are still to be started: number, boot whose id each takes
    launcher: Process | None = None  # what starts engines elsewhere

    def write(self, path: Path) -> None:
        """Replace the file at once."""
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(self))
        temporary.rename(path)

    def living(self) -> list[Process]:
        """Those of the children that run."""
        all_of_them = [engine.process for engine in self.engines]
        all_of_them += [process for process in (self.controller, self.launcher) if process is not None]
        return [process for process in all_of_them if process.runs()]


def read(path: Path) -> Register | None:
    """The register at this path; None where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Register)
    except (OSError, msgspec.DecodeError):
        return None


def _started(pid: int) -> int | None:
    """When a process started; None where there is none that runs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
