"""PBS (OpenPBS and PBS Professional): ``qsub``, ``qstat`` and ``qdel``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipkernel_ext.launchers.batch import ANSWER, Batch, Member
from ipkernel_ext.launchers.launcher import Launcher, LaunchError, LaunchOrder, run

WAITING, RUNNING = "QHWTM", "RESU"


class PBS:
    """See ``batch.System``. It sends no signal before the time limit."""

    name = "pbs"

    def fields(self, settings: Mapping[str, Any], members: int) -> dict[str, str]:
        """An array has two members at least."""
        resources = {
            "ncpus": settings["cpus"] * settings["engines_per_job"],
            "mem": settings["memory"],
            "ngpus": settings["gpus"] * settings["engines_per_job"],
        }
        chunk = ":".join(f"{name}={value}" for name, value in resources.items() if value)
        return {"array": f"0-{members - 1}" if members > 1 else "", "resources": chunk, "log": "^array_index^"}

    def command(self, settings: Mapping[str, Any], outpost: str) -> str:
        """By the index of an array, which a job alone has none of."""
        return f'{outpost} --index "${{PBS_ARRAY_INDEX:-0}}"'

    def submit(self, script: Path) -> str:
        """By qsub."""
        return run(["qsub", str(script)], ANSWER).strip()

    def members(self, job: str, count: int) -> dict[int, Member]:
        """By qstat, which with -x also knows for a while how a job ended."""
        try:
            said = run(["qstat", "-x", "-t", "-f", "-F", "json", job], ANSWER)
        except LaunchError as error:
            if "Unknown Job" in str(error):
                return {}
            raise
        return parse(said)

    def cancel(self, job: str, members: Sequence[int] | None) -> None:
        """By qdel."""
        number, _, server = job.partition("[].")
        names = [job] if members is None else [f"{number}[{index}].{server}" for index in members]
        run(["qdel", *names], ANSWER)


def parse(said: str) -> dict[int, Member]:
    """What qstat says of a job, by member."""
    found: dict[int, Member] = {}
    for name, job in json.loads(said)["Jobs"].items():
        if "[]" in name:
            continue  # the array as a whole
        index = re.search(r"\[(\d+)\]", name)
        found[int(index[1]) if index else 0] = _member(job)
    return found


def _member(job: Mapping[str, Any]) -> Member:
    state = job["job_state"]
    if state in WAITING:
        return Member("pending", job.get("comment", "").removeprefix("Not Running: "))
    if state in RUNNING:
        return Member("running")
    code = job.get("Exit_status", 0)
    return Member("ended", f"exit code {code}: {job.get('comment', '')}".rstrip(": ") if code else "")


def launcher(settings: Mapping[str, Any], order: LaunchOrder) -> Launcher:
    """As the profile wants it."""
    return Batch(PBS(), settings, order)
