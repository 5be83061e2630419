"""What became of tasks whose results are here, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from ipkernel_ext.core import failures
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.messages import TaskId


def told(ended: Sequence[tuple[TaskId, m.Result]]) -> str:
    """Of tasks that have ended."""
    failed = [(id, result) for id, result in ended if result.failure is not None]
    if len(ended) == 1:
        return _one(*ended[0])
    if not failed:
        return f"all {len(ended)} tasks are done, and their values are here"
    return f"all {len(ended)} tasks have ended, {len(failed)} of them badly; first: {_one(*failed[0])}"


def _one(id: TaskId, result: m.Result) -> str:
    failure = result.failure
    where = f" on engine {result.engine}" if result.engine >= 0 else ""
    if failure is None:
        return f"task {id} is done: it ran for {result.seconds:.3g} s{where}, and its value is here"
    if failure.kind == "TaskCancelled":
        return f"task {id} is no more: {failure.message}"
    return f"task {id} has failed{where}: {failures.brief(failure)}"
