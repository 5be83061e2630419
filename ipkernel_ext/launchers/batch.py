"""Engines as jobs of a batch system: what all of them have in common.

Each start is one job: an array whose members start one by one as there is room, or one job whose tasks
start together. A member runs an outpost with some engines. What differs, the commands and what they
say, is in a small class for each system (``System``).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ipkernel_ext.config import private
from ipkernel_ext.config.profiles import profile_dir
from ipkernel_ext.launchers.launcher import LaunchError, LaunchOrder, State, ranges
from ipkernel_ext.launchers.scripts import TEMPLATES, render

ANSWER = 20.0  # seconds that a command of the system has
STOP = 6.0  # seconds that jobs have to end
LINES = 5  # of a job's log, that are told when it failed


class Member(NamedTuple):
    """What the system says of a member of a job."""

    state: str  # pending, running, ended
    reason: str = ""  # why it is pending, or how it ended if that was not by itself


class System(Protocol):
    """One batch system.

    Attributes
    ----------
    name : str
        What it is called; and its template.
    """

    name: str

    def fields(self, settings: Mapping[str, Any], members: int) -> dict[str, str]:
        """Fields of the template that are written in the system's own way; ``log`` names the log of a member."""

    def command(self, settings: Mapping[str, Any], outpost: str) -> str:
        """The shell's command by which a member starts its outpost, which has to learn its ``--index``, from 0."""

    def submit(self, script: Path) -> str:
        """Hand a script in; the job's id. Raises LaunchError with the system's words."""

    def members(self, job: str, count: int) -> dict[int, Member]:
        """What it says of the members of a job; of those it does not know any more, nothing. Raises LaunchError."""

    def cancel(self, job: str, members: Sequence[int] | None) -> None:
        """End a job, or some members of it. Raises LaunchError."""


def seconds_of(limit: str) -> int:
    """``1:30:00`` or ``5400`` in seconds; 0 for none.

    Raises
    ------
    ValueError
        Something else.
    """
    if not limit:
        return 0
    parts = limit.split(":")
    if len(parts) not in (1, 3) or not all(part.isdecimal() for part in parts):
        raise ValueError(f"ParallelBatch.time_limit cannot be {limit!r}; this system takes seconds, or H:MM:SS")
    return sum(int(part) * factor for part, factor in zip(reversed(parts), (1, 60, 3600), strict=False))


@dataclass
class Job:
    """A job of ours."""

    id: str
    groups: list[list[int]]  # the ids that the engines of each member ask for
    seen: dict[int, Member] = field(default_factory=dict)  # as the system said last
    over: set[int] = field(default_factory=set)  # members that have ended, or are not wanted any more


class Batch:
    """Jobs of one system."""

    fixed = ""

    def __init__(self, system: System, settings: Mapping[str, Any], order: LaunchOrder) -> None:
        self._system = system
        self._settings = settings
        self._order = order
        self.pause = float(settings["poll"])
        key = Path(order.directory).name
        self._shared = profile_dir(order.profile or "default") / "security" / "ipkernel_ext" / f"jobs-{key}"
        self._logs = Path(order.logs) if order.profile is not None else self._shared
        self._connection = Path(order.connection)
        if order.profile is None:
            self._connection = self._shared / "engine.json"
        self._jobs: list[Job] = []
        self._scripts = 0
        self._trouble = ""  # the system does not answer
        if settings["shape"] == "job" and system.name != "slurm":
            raise ValueError(f"ParallelBatch.shape cannot be 'job' for {system.name}, only for slurm; it takes 'array'")
        self.script([[0]])  # a template that cannot be used is found before anything is started

    # ------------------------------------------------------------ the script

    def script(self, groups: Sequence[Sequence[int]]) -> str:
        """The script of a job.

        Raises
        ------
        ValueError
            The template cannot be used.
        """
        given = self._settings
        python = given["python"] or self._order.python
        members = len(groups)
        outpost = ["-m", "ipkernel_ext.nursery.outpost", str(self._orders), "/".join(map(ranges, groups))]
        fields = {
            "name": "ipkernel_ext" if self._order.profile is None else f"ipkernel_ext-{self._order.profile}",
            "members": str(members),
            "last": str(members - 1),
            "queue": given["queue"],
            "account": given["account"],
            "time_limit": given["time_limit"],
            "memory": given["memory"],
            "cpus": str(given["cpus"] * given["engines_per_job"]),
            "gpus": str(given["gpus"] * given["engines_per_job"] or ""),
            "drain": str(given["drain"] or ""),
            "lines": "\n".join(given["lines"]),
            "source": f". {shlex.quote(given['script'])}" if given["script"] else "",
            "python": shlex.quote(python),
            "arguments": shlex.join(outpost),
        }
        fields.update(self._system.fields(given, members))
        fields["log"] = str(self._logs / f"job-{fields['log']}.log")
        fields["outpost"] = self._system.command(given, shlex.join([python, *outpost]))
        path = Path(given["template"]).expanduser() if given["template"] else TEMPLATES / f"{self._system.name}.sh"
        return render(path, fields)

    @property
    def _orders(self) -> Path:
        return self._shared / "orders.json"

    def _write_orders(self) -> None:
        """Where nodes read them: in the home, which they share."""
        self._shared.mkdir(mode=0o700, parents=True, exist_ok=True)
        setup = {**self._order.outpost["setup"], "connection": str(self._connection)}
        text = json.dumps({**self._order.outpost, "setup": setup})
        private.write(self._orders, text.encode())
        self._copy_connection()

    def _copy_connection(self) -> None:
        """That of a cluster without a profile is where nodes do not see it."""
        original = Path(self._order.connection)
        if self._connection == original:
            return
        with contextlib.suppress(OSError):
            content = original.read_bytes()
            if not self._connection.exists() or self._connection.read_bytes() != content:
                private.write(self._connection, content)

    # ------------------------------------------------------------ jobs

    def start(self, numbers: Sequence[int]) -> None:
        """Hand in a job for these engines."""
        size = self._settings["engines_per_job"]
        groups = [list(numbers[first : first + size]) for first in range(0, len(numbers), size)]
        if not groups:
            return
        self._write_orders()
        script = self._shared / f"job-{self._scripts}.sh"
        self._scripts += 1
        private.write(script, self.script(groups).encode())
        os.chmod(script, 0o700)
        self._jobs.append(Job(self._system.submit(script), groups))

    def state(self) -> State:
        """Ask the system."""
        ended = [text for job in list(self._jobs) if (text := self._look(job))]
        self._jobs = [job for job in self._jobs if len(job.over) < len(job.groups)]
        self._copy_connection()
        expected = pending = 0
        waits: dict[str, None] = {}
        for job in self._jobs:
            for index, group in enumerate(job.groups):
                if index in job.over:
                    continue
                member = job.seen.get(index, Member("pending"))
                expected += len(group)
                if member.state == "pending":
                    pending += len(group)
                    waits[f"job {job.id} is pending" + (f": {member.reason}" if member.reason else "")] = None
        told = "; ".join([*([self._trouble] if self._trouble else []), *waits])
        return State(expected, pending, told, "\n".join(ended))

    def _look(self, job: Job) -> str:
        """Note what the system says of a job; what of it ended that nobody ordered, and why."""
        try:
            said = self._system.members(job.id, len(job.groups))
            self._trouble = ""
        except LaunchError as error:
            self._trouble = f"nothing is known of job {job.id}: {error}"
            return ""
        ended: dict[str, list[int]] = {}
        for index, group in enumerate(job.groups):
            before = job.seen.get(index)
            member = said.get(index, Member("ended") if before is not None else Member("pending"))
            job.seen[index] = member
            if member.state == "ended" and index not in job.over:
                job.over.add(index)
                if member.reason:
                    ended.setdefault(member.reason, []).extend(group)
        return "\n".join(
            f"job {job.id} with engine {ranges(group)} has ended: {reason}{self._said(job)}"
            for reason, group in ended.items()
        )

    def _said(self, job: Job) -> str:
        """The last lines that members of a job wrote."""
        text = ""
        for log in sorted(self._logs.glob(f"job-*{job.id}*.log")):
            lines = [line for line in log.read_text(errors="replace").splitlines() if not line.startswith('{"client"')]
            text += "".join(f"\n{line}" for line in lines[-LINES:])
        return text[-2000:]

    def keep(self, ids: Sequence[int], pending: int) -> None:
        """Cancel members that have not begun, beyond so many engines."""
        for job in self._jobs:
            unwanted = []
            for index, group in enumerate(job.groups):
                member = job.seen.get(index, Member("pending"))
                if index in job.over:
                    continue
                if member.state != "pending":
                    group[:] = [number for number in group if number in ids]
                elif pending >= len(group):
                    pending -= len(group)
                else:
                    unwanted.append(index)
            if unwanted:
                job.over.update(unwanted)
                with contextlib.suppress(LaunchError):
                    self._system.cancel(job.id, unwanted)

    def stop(self) -> None:
        """Cancel all jobs, and wait until they are gone."""
        for job in self._jobs:
            with contextlib.suppress(LaunchError):
                self._system.cancel(job.id, None)
        until = time.monotonic() + STOP
        while self._jobs and time.monotonic() < until:
            try:
                said = [self._system.members(job.id, len(job.groups)) for job in self._jobs]
            except LaunchError:
                break
            if all(member.state == "ended" for members in said for member in members.values()):
                break
            time.sleep(0.2)
        shutil.rmtree(self._shared, ignore_errors=True)
