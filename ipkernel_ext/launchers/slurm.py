"""Slurm: ``sbatch``, ``scontrol`` and ``scancel``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipkernel_ext.launchers.batch import ANSWER, Batch, Member
from ipkernel_ext.launchers.launcher import Launcher, LaunchError, LaunchOrder, run

WAITING = {"PENDING", "REQUEUED", "CONFIGURING", "REQUEUE_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "SUSPENDED", "COMPLETING", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"}
WORDS = {"TIMEOUT": "its time limit", "OUT_OF_MEMORY": "it had no memory left", "NODE_FAIL": "its node failed"}


class Slurm:
    """See ``batch.System``."""

    name = "slurm"

    def fields(self, settings: Mapping[str, Any], members: int) -> dict[str, str]:
        """The signal goes to the script of an array's member, which has become the outpost; else to srun's tasks."""
        array = settings["shape"] == "array"
        gpus = str(settings["gpus"] * settings["engines_per_job"] or "")
        drain = settings["drain"]
        return {
            "array": f"0-{members - 1}" if array else "",
            "tasks": "1" if array else str(members),
            "gpus": gpus if array else "",
            "gpus_per_task": "" if array else gpus,
            "signal": f"{'B:' if array else ''}USR1@{drain}" if drain and settings["time_limit"] else "",
            "log": "%A_%a" if array else "%j",
        }

    def command(self, settings: Mapping[str, Any], outpost: str) -> str:
        """A task of one job learns its place from srun."""
        if settings["shape"] == "array":
            return f'{outpost} --index "$SLURM_ARRAY_TASK_ID"'
        task = f'exec {outpost} --index "$SLURM_PROCID"'
        return f"srun --kill-on-bad-exit=0 sh -c {shlex.quote(task)}"

    def submit(self, script: Path) -> str:
        """By sbatch."""
        return run(["sbatch", "--parsable", str(script)], ANSWER).strip().partition(";")[0]

    def members(self, job: str, count: int) -> dict[int, Member]:
        """By scontrol, which also knows for a while how a job ended."""
        try:
            said = run(["scontrol", "--oneliner", "show", "job", job], ANSWER)
        except LaunchError as error:
            if "Invalid job id" in str(error):
                return {}
            raise
        return parse(said, count)

    def cancel(self, job: str, members: Sequence[int] | None) -> None:
        """By scancel."""
        names = [job] if members is None else [f"{job}_{index}" for index in members]
        run(["scancel", *names], ANSWER)


def parse(said: str, count: int) -> dict[int, Member]:
    """What scontrol says of a job, by member; where a job is no array its state is that of all."""
    found: dict[int, Member] = {}
    for line in said.splitlines():
        values = dict(re.findall(r"(\w+)=(\S*)", line))
        state = values.get("JobState", "").partition("+")[0]
        if not state:
            continue
        for index in _indexes(values.get("ArrayTaskId", ""), count):
            found[index] = _member(state, values)
    return found


def _indexes(text: str, count: int) -> list[int]:
    parts = [part.partition("-") for part in text.partition("%")[0].split(",") if part]
    if not parts or not parts[0][0].isdigit():
        return list(range(count))
    return [index for first, _, last in parts for index in range(int(first), int(last or first) + 1)]


def _member(state: str, values: Mapping[str, str]) -> Member:
    reason = values.get("Reason", "None").replace("_", " ")
    if state in WAITING:
        return Member("pending", "" if reason == "None" else reason)
    if state in RUNNING:
        return Member("running")
    if state == "COMPLETED":
        return Member("ended")
    words = WORDS.get(state, "" if reason == "None" else reason)
    code = values.get("ExitCode", "0:0").partition(":")[0]
    return Member("ended", f"{state}{f' ({words})' if words else ''}{f', exit code {code}' if code != '0' else ''}")


def launcher(settings: Mapping[str, Any], order: LaunchOrder) -> Launcher:
    """As the profile wants it."""
    return Batch(Slurm(), settings, order)
