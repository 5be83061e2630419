"""What a client that asks is told of engines, queues and other clients. Changes nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec.structs import replace

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.dispatch import Dispatch
from ipkernel_ext.core.functions import FunctionStore
from ipkernel_ext.core.ledger import Ledger
from ipkernel_ext.core.messages import EngineRecord, TaskId
from ipkernel_ext.core.roster import Engine, Roster

LONGEST = 60  # characters of a task's description


class Running(NamedTuple):
    """What an engine runs."""

    task: TaskId
    what: str  # "" where that is not known any more
    seconds: float


def queues(roster: Roster, ledger: Ledger, dispatch: Dispatch, functions: FunctionStore) -> dict[str, Any]:
    """By engine: id, queued, running, done; and how many balanced tasks no engine has."""
    return {
        "engines": [[engine.id, *engine.load, engine.completed] for engine in roster.in_order()],
        "unassigned": len(dispatch.balanced) + sum(1 for part in (functions, ledger.later) for _ in part.waiting()),
    }


def heads(roster: Roster) -> list[tuple[int, str, str]]:
    """By engine that has tasks: its id, that of the first of them, and what that is."""
    firsts = [(engine.id, next(iter(engine.sent.values()))) for engine in roster.engines.values() if engine.sent]
    return [(id, str(task.id), label(task.work)) for id, task in firsts]


def engines(roster: Roster, ledger: Ledger, now: float) -> list[EngineRecord]:
    """All engines with what they run and use, as far as they have said so."""
    return [_measured(roster, ledger, engine, now) for engine in roster.in_order()]


def _measured(roster: Roster, ledger: Ledger, engine: Engine, now: float) -> EngineRecord:
    doing = running(roster, ledger, engine, now)
    said = engine.seen or engine.measured
    return replace(
        roster.record(engine),
        cpu=said.cpu if said is not None and (said is engine.seen or engine.answers) else None,
        rss=None if said is None else said.rss,
        task="" if doing is None else str(doing.task),
        running="" if doing is None else doing.what,
        seconds=0.0 if doing is None else doing.seconds,
    )


def running(roster: Roster, ledger: Ledger, engine: Engine, now: float) -> Running | None:
    """What an engine runs: as it said or, where it does not answer, what it had begun as far as that is known."""
    left = engine.given_up
    if engine.measured is not None and engine.answers:
        if engine.measured.running is None:
            return None
        id, _ = engine.measured.running
        known = left if left is not None and left.id == id else ledger.tasks.get(id)
        what = "" if known is None else label(known.work)
        return Running(id, what, engine.measured.seconds + now - engine.measured_at)
    task = left or roster.begun_by(engine)
    return None if task is None else Running(task.id, label(task.work), now - engine.progress)


def label(work: m.Work) -> str:
    """What a task is, in a few words."""
    text = _label(work)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _label(work: m.Work) -> str:
    match work:
        case m.Execute():
            return work.filename or next((line.strip() for line in work.code.splitlines() if line.strip()), "")
        case m.Apply():
            return f"{work.name or 'a function'}()"
        case m.Map():
            return f"{work.name or 'a function'}() from item {work.start} on"
        case m.Push() | m.Pull() | m.Delete():
            return f"{type(work).__name__.lower()} {', '.join(work.names)}"
        case m.Value():
            return f"value of Out[{work.execution}]"
        case m.Keys() | m.Seed() | m.Debug() | m.Reset():
            return type(work).__name__.lower()


def clients(roster: Roster, started: float) -> list[dict[str, Any]]:
    """Who has tasks here, or is connected; ``since``: seconds from the controller's start to its last hello."""
    heads = [next(iter(engine.sent.values())).id.client for engine in roster.engines.values() if engine.sent]
    return [
        {
            "id": c.id,
            "host": c.host,
            "pid": c.pid,
            "connected": c.peer is not None,
            "since": c.here_since - started,
            "queued": sum(task.open for task in c.tasks.values()) - heads.count(c.id),
            "running": heads.count(c.id),
            "tasks": len(c.tasks),
        }
        for c in roster.clients.values()
    ]
