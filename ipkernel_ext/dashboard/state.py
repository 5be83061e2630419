"""What was seen of a cluster at one moment, as rows, and what changed in them since another one.

A page has all rows once, and then the differences. So what changes all the time is told in a way that does not:
when a task began, not for how long it has run; percent and megabytes, not every digit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ipkernel_ext.core import messages as m

Row = dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """What a client was told of its cluster at one moment.

    Parameters
    ----------
    at
        Seconds, by the watcher's clock.
    engines, queue, clients, controller
        As in ``RemoteController.status()``.
    count, ended
        How many tasks have ended since it is watched, and those that are new among them.
    clock
        The controller's, when it answered: what ``Ended.at`` is to be compared with.
    trouble
        Why there is nothing new; "" while there is.
    """

    at: float
    controller: Mapping[str, Any] = field(default_factory=dict)
    engines: Sequence[m.EngineRecord] = ()
    queue: Mapping[Any, Any] = field(default_factory=dict)
    clients: Sequence[Mapping[str, Any]] = ()
    count: int = 0
    ended: Sequence[m.Ended] = ()
    clock: float = 0.0
    trouble: str = ""


@dataclass(frozen=True)
class State:
    """Rows of a page.

    Attributes
    ----------
    cluster
        What is said of the cluster as a whole.
    engines, clients
        Rows by id.
    """

    cluster: Row = field(default_factory=dict)
    engines: dict[str, Row] = field(default_factory=dict)
    clients: dict[str, Row] = field(default_factory=dict)


def seen(facts: Facts, before: State, rate: float = 0.0) -> State:
    """The rows after a look.

    Parameters
    ----------
    before
        Those of the look before. Where there is trouble they stay, and the trouble is told.
    rate
        Tasks that ended in a second.
    """
    if facts.trouble:
        return State({**before.cluster, "trouble": facts.trouble}, before.engines, before.clients)
    engines = {str(engine.id): _engine(engine, facts, before.engines.get(str(engine.id))) for engine in facts.engines}
    clients = {str(client["id"]): _client(client, engines) for client in facts.clients}
    return State(_cluster(facts, engines, rate), engines, clients)


def _engine(engine: m.EngineRecord, facts: Facts, before: Row | None) -> Row:
    load = facts.queue.get(engine.id, {"queued": 0, "running": 0, "done": 0})
    row = {
        "id": engine.id,
        "host": engine.host,
        "pid": engine.pid,
        "state": state_of(engine, load["running"]),
        "task": engine.task,
        "running": (engine.running or f"task {engine.task}") if engine.task else "",
        "since": round(facts.at - engine.seconds, 1) if engine.task else None,
        "queued": load["queued"],
        "done": load["done"],
        "cpu": None if engine.cpu is None else round(engine.cpu),
        "memory": None if engine.rss is None else coarse(engine.rss),
    }
    if before is not None and row["task"] and before["task"] == row["task"]:
        row["since"] = before["since"]  # not a new one for each measurement
    return row


def state_of(engine: m.EngineRecord, running: int) -> str:
    """Its state in a word; one that is ready and runs something is busy."""
    return "busy" if engine.state == "ready" and (engine.task or running) else engine.state


def coarse(size: int) -> int:
    """A number of bytes, to three digits."""
    return int(float(f"{size:.3g}"))


def _client(client: Mapping[str, Any], engines: Mapping[str, Row]) -> Row:
    begins = f"{client['id']}:"
    runs = Counter(row["running"] for row in engines.values() if row["task"].startswith(begins))
    return {
        "id": client["id"],
        "host": client["host"],
        "pid": client["pid"],
        "connected": client["connected"],
        "since": round(client["since"]),
        "queued": client["queued"],
        "running": client["running"],
        "runs": [f"{what} ×{count}" if count > 1 else what for what, count in runs.most_common(3)],
    }


def _cluster(facts: Facts, engines: Mapping[str, Row], rate: float) -> Row:
    rows = engines.values()
    return {
        "host": facts.controller.get("host", ""),
        "pid": facts.controller.get("pid", 0),
        "started": round(facts.controller.get("started", 0.0)),
        "address": facts.controller.get("address", ""),
        "states": dict(sorted(Counter(row["state"] for row in rows).items())),
        "queued": sum(row["queued"] for row in rows) + facts.queue.get("unassigned", 0),
        "running": sum(load["running"] for id, load in facts.queue.items() if id != "unassigned"),
        "done": sum(row["done"] for row in rows),
        "cpu": sum(row["cpu"] or 0 for row in rows),
        "memory": coarse(sum(row["memory"] or 0 for row in rows)),
        "rate": round(rate, 1),
        "trouble": "",
    }


# ---------------------------------------------------------------- differences


def difference(before: State, after: State) -> dict[str, Any]:
    """What has to be told to who has seen ``before``; a row that is gone is None. Empty parts are left out."""
    parts = {
        "cluster": _changed(before.cluster, after.cluster),
        "engines": _rows(before.engines, after.engines),
        "clients": _rows(before.clients, after.clients),
    }
    return {name: part for name, part in parts.items() if part}


def _rows(before: Mapping[str, Row], after: Mapping[str, Row]) -> dict[str, Row | None]:
    told: dict[str, Row | None] = {id: None for id in before if id not in after}
    for id, row in after.items():
        changed = _changed(before.get(id, {}), row)
        if changed:
            told[id] = changed
    return told


def _changed(before: Row, after: Row) -> Row:
    return {name: value for name, value in after.items() if name not in before or before[name] != value}


def applied(state: State, told: Mapping[str, Any]) -> State:
    """The state of who has seen ``state`` and was told a difference; the page's script does the same."""
    return State(
        {**state.cluster, **told.get("cluster", {})},
        _merged(state.engines, told.get("engines", {})),
        _merged(state.clients, told.get("clients", {})),
    )


def _merged(rows: Mapping[str, Row], told: Mapping[str, Row | None]) -> dict[str, Row]:
    merged = dict(rows)
    for id, changed in told.items():
        if changed is None:
            merged.pop(id, None)
        else:
            merged[id] = {**merged.get(id, {}), **changed}
    return merged
