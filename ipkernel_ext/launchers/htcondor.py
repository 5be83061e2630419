"""HTCondor: ``condor_submit``, ``condor_q``, ``condor_history`` and ``condor_rm``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipkernel_ext.launchers.batch import ANSWER, Batch, Member, seconds_of
from ipkernel_ext.launchers.launcher import Launcher, LaunchOrder, run

COLUMNS = "ProcId,JobStatus,HoldReason,RemoveReason,ExitCode,ExitBySignal"
IDLE, RUNNING, REMOVED, COMPLETED, HELD, SENDING, SUSPENDED = range(1, 8)


class HTCondor:
    """See ``batch.System``. Its template is a submit description and no script; it sends no signal before a limit."""

    name = "htcondor"

    def fields(self, settings: Mapping[str, Any], members: int) -> dict[str, str]:
        """A limit is a number of seconds, after which a job that runs is held."""
        return {"time_limit": str(seconds_of(settings["time_limit"]) or ""), "log": "$(ClusterId)_$(ProcId)"}

    def command(self, settings: Mapping[str, Any], outpost: str) -> str:
        """Arguments of /bin/sh, as a submit description quotes them."""
        script = settings["script"]
        text = f"{f'. {shlex.quote(script)} && ' if script else ''}exec {outpost} --index $(ProcId)"
        doubled = text.replace("'", "''").replace('"', '""')
        return f"\"-c '{doubled}'\""

    def submit(self, script: Path) -> str:
        """By condor_submit."""
        return run(["condor_submit", "-terse", str(script)], ANSWER).strip().partition(".")[0]

    def members(self, job: str, count: int) -> dict[int, Member]:
        """By condor_q, and condor_history for those that it does not name any more."""
        found = parse(run(["condor_q", "-json", "-attributes", COLUMNS, job], ANSWER))
        if len(found) < count:
            found = parse(run(["condor_history", "-json", "-attributes", COLUMNS, job], ANSWER)) | found
        return found

    def cancel(self, job: str, members: Sequence[int] | None) -> None:
        """By condor_rm."""
        names = [job] if members is None else [f"{job}.{index}" for index in members]
        run(["condor_rm", *names], ANSWER)


def parse(said: str) -> dict[int, Member]:
    """What condor_q or condor_history says of a job, by member."""
    return {job["ProcId"]: _member(job) for job in json.loads(said or "[]")}


def _member(job: Mapping[str, Any]) -> Member:
    state = job["JobStatus"]
    if state in (IDLE, HELD):
        return Member("pending", f"it is held: {job.get('HoldReason', '')}" if state == HELD else "")
    if state in (RUNNING, SENDING, SUSPENDED):
        return Member("running")
    if state == REMOVED:
        return Member("ended", f"it was removed: {job.get('RemoveReason', '')}".rstrip(": "))
    code = job.get("ExitCode", 0)
    return Member("ended", f"exit code {code}" if code else "")


def launcher(settings: Mapping[str, Any], order: LaunchOrder) -> Launcher:
    """As the profile wants it."""
    return Batch(HTCondor(), settings, order)
