"""LSF: ``bsub``, ``bjobs`` and ``bkill``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipkernel_ext.launchers.batch import ANSWER, Batch, Member
from ipkernel_ext.launchers.launcher import Launcher, LaunchError, LaunchOrder, run

WAITING, RUNNING = ("PEND", "PSUSP", "WAIT"), ("RUN", "USUSP", "SSUSP", "PROV", "UNKWN")


class LSF:
    """See ``batch.System``."""

    name = "lsf"

    def fields(self, settings: Mapping[str, Any], members: int) -> dict[str, str]:
        """Its warning comes whole minutes before the limit."""
        minutes = -(-settings["drain"] // 60) if settings["time_limit"] else 0
        return {"array": f"1-{members}", "warning": str(minutes or ""), "log": "%J_%I"}

    def command(self, settings: Mapping[str, Any], outpost: str) -> str:
        """By the index of an array, which begins at 1."""
        return f"{outpost} --index $((LSB_JOBINDEX - 1))"

    def submit(self, script: Path) -> str:
        """By bsub, which reads the script."""
        said = run(["bsub"], ANSWER, script.read_text())
        found = re.search(r"Job <(\d+)>", said)
        if found is None:
            raise LaunchError(f"bsub names no job: {said.strip()}")
        return found[1]

    def members(self, job: str, count: int) -> dict[int, Member]:
        """By bjobs, which with -a also knows for a while how a job ended."""
        columns = "jobid jobindex stat pend_reason exit_code exit_reason"
        try:
            said = run(["bjobs", "-a", "-json", "-o", columns, job], ANSWER)
        except LaunchError as error:
            if "is not found" in str(error):
                return {}
            raise
        return parse(said)

    def cancel(self, job: str, members: Sequence[int] | None) -> None:
        """By bkill."""
        names = [job] if members is None else [f"{job}[{index + 1}]" for index in members]
        run(["bkill", *names], ANSWER)


def parse(said: str) -> dict[int, Member]:
    """What bjobs says of a job, by member."""
    return {int(job["JOBINDEX"] or 1) - 1: _member(job) for job in json.loads(said)["RECORDS"]}


def _member(job: Mapping[str, Any]) -> Member:
    state = job["STAT"]
    if state in WAITING:
        return Member("pending", job.get("PEND_REASON", "").strip(" ;"))
    if state in RUNNING:
        return Member("running")
    if state == "DONE":
        return Member("ended")
    reason = job.get("EXIT_REASON", "") or f"exit code {job.get('EXIT_CODE', '')}"
    return Member("ended", f"{state}: {reason}")


def launcher(settings: Mapping[str, Any], order: LaunchOrder) -> Launcher:
    """As the profile wants it."""
    return Batch(LSF(), settings, order)
