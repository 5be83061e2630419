"""A contestant's process: ``python -m benchmarks.child NAME``.

It reads a line of JSON for each thing to do (``["start", n]``, ``[case, effort]``, ``["stop"]``) and answers with one:
``{"figure": …}``, ``{"missing": why}`` or ``{"error": why}``. What systems print goes to the log of the run.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any

from benchmarks.cases import CASES
from benchmarks.systems import make
from benchmarks.systems.base import NotOffered, System


def _start(system: System, n: int) -> float:
    """Seconds until each worker has answered."""
    begun = time.perf_counter()
    system.start(n)
    pids = system.pids()
    taken = time.perf_counter() - begun
    assert len(set(pids)) == n, f"{len(set(pids))} of {n} workers answered"
    return taken


def _stop(system: System) -> float:
    begun = time.perf_counter()
    system.stop()
    return time.perf_counter() - begun


def _do(system: System, what: str, *arguments: Any) -> dict[str, Any]:
    try:
        if what == "start":
            return {"figure": _start(system, *arguments)}
        if what == "stop":
            return {"figure": _stop(system)}
        return {"figure": CASES[what](system, *arguments)}
    except NotOffered:
        return {"missing": "not offered"}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}


def main() -> None:
    """Do what comes in, until nothing more does."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    orders = os.fdopen(os.dup(0), "r")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    system = make(sys.argv[1])
    for line in orders:
        answers.write(json.dumps(_do(system, *json.loads(line))) + "\n")
        answers.flush()
    answers.close()
    os._exit(0)


if __name__ == "__main__":
    main()
