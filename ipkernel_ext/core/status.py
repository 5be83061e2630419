"""What a client that asks is told of queues and of other clients. Changes nothing."""

from __future__ import annotations

from typing import Any

from ipkernel_ext.core.dispatch import Dispatch
from ipkernel_ext.core.functions import FunctionStore
from ipkernel_ext.core.ledger import Ledger
from ipkernel_ext.core.roster import Roster


def queues(roster: Roster, ledger: Ledger, dispatch: Dispatch, functions: FunctionStore) -> dict[str, Any]:
    """By engine: id, queued, running, done; and how many balanced tasks no engine has."""
    return {
        "engines": [[engine.id, *engine.load, engine.completed] for engine in roster.in_order()],
        "unassigned": len(dispatch.balanced) + sum(1 for part in (functions, ledger.later) for _ in part.waiting()),
    }


def clients(roster: Roster) -> list[dict[str, Any]]:
    """Who has tasks here, or is connected."""
    return [
        {"id": c.id, "host": c.host, "pid": c.pid, "connected": c.peer is not None, "tasks": len(c.tasks)}
        for c in roster.clients.values()
    ]
