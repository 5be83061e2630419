"""Grid Engine: ``qsub``, ``qstat`` and ``qdel``."""

from __future__ import annotations

import contextlib
import re
import xml.etree.ElementTree as xml
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipkernel_ext.launchers.batch import ANSWER, Batch, Member, seconds_of
from ipkernel_ext.launchers.launcher import Launcher, LaunchError, LaunchOrder, ranges, run


class SGE:
    """See ``batch.System``."""

    name = "sge"

    def fields(self, settings: Mapping[str, Any], members: int) -> dict[str, str]:
        """At a soft limit it sends the signal by itself."""
        seconds = seconds_of(settings["time_limit"])
        soft = seconds - settings["drain"] if settings["drain"] else 0
        return {
            "array": f"1-{members}",
            "hard": str(seconds or ""),
            "soft": str(soft) if soft > 0 else "",
            "slots": str(cpus) if (cpus := settings["cpus"] * settings["engines_per_job"]) > 1 else "",
            "log": "$JOB_ID.$TASK_ID",
        }

    def command(self, settings: Mapping[str, Any], outpost: str) -> str:
        """By the index of an array, which begins at 1."""
        return f"{outpost} --index $((SGE_TASK_ID - 1))"

    def submit(self, script: Path) -> str:
        """By qsub, which says at last that it ends."""
        try:
            return run(["qsub", "-terse", str(script)], ANSWER).strip().partition(".")[0]
        except LaunchError as error:
            raise LaunchError(str(error).removesuffix("\nExiting.")) from None

    def members(self, job: str, count: int) -> dict[int, Member]:
        """By qstat, which names those that have not ended."""
        found = parse(run(["qstat", "-xml", "-g", "d"], ANSWER), job)
        if any(member.state == "pending" for member in found.values()):
            reason = ""
            with contextlib.suppress(LaunchError):
                reason = why(run(["qstat", "-j", job], ANSWER))
            found = {i: Member("pending", m.reason or reason) if m.state == "pending" else m for i, m in found.items()}
        return found

    def cancel(self, job: str, members: Sequence[int] | None) -> None:
        """By qdel."""
        if members is None:
            run(["qdel", job], ANSWER)
            return
        for part in ranges([index + 1 for index in members]).split(","):
            run(["qdel", job, "-t", part], ANSWER)


def parse(said: str, job: str) -> dict[int, Member]:
    """What qstat says of a job, by member."""
    found: dict[int, Member] = {}
    for entry in xml.fromstring(said).iter("job_list"):
        if entry.findtext("JB_job_number") == job:
            found[int(entry.findtext("tasks") or 1) - 1] = _member(entry.findtext("state") or "")
    return found


def _member(state: str) -> Member:
    if "E" in state:
        return Member("pending", "it is in error state; `qstat -j` says why")
    if "q" in state or "w" in state:
        return Member("pending", "it is held" if "h" in state else "")
    return Member("running")


def why(said: str) -> str:
    """The first reason that the scheduler gives for a job that waits."""
    found = re.search(r"^scheduling info:\s*(.+)$", said, re.MULTILINE)
    return found[1].strip() if found else ""


def launcher(settings: Mapping[str, Any], order: LaunchOrder) -> Launcher:
    """As the profile wants it."""
    return Batch(SGE(), settings, order)
