"""A cluster that only its looker has seen."""

from __future__ import annotations

from ipkernel_ext.core import messages as m
from ipkernel_ext.dashboard.state import Facts
from ipkernel_ext.errors import NoEngines


class FakeLooker:
    """Stands in for ``looking.Looker``: gives facts, and notes what it is asked to do."""

    def __init__(self, *facts: Facts) -> None:
        self.facts = list(facts)
        self.did: list[tuple[str, object]] = []
        self.looks = 0
        self.closed = False

    def look(self) -> Facts:
        self.looks += 1
        return self.facts.pop(0) if len(self.facts) > 1 else self.facts[0]

    def interrupt(self, engines: list[int]) -> str:
        self.did.append(("interrupt", engines))
        return "interrupted"

    def restart(self, engines: list[int]) -> str:
        raise NoEngines("nobody is there to restart them")

    def scale(self, engines: int) -> str:
        self.did.append(("scale", engines))
        return "scaled"

    def logs(self) -> list[str]:
        return ["engine 10", "controller", "engine 9", "agent (errors)"]

    def log(self, name: str, lines: int) -> str:
        if name not in self.logs():
            raise LookupError(f"there is no log of {name} on this host")
        return f"{lines} lines of {name}"

    def close(self) -> None:
        self.closed = True


def at(seconds: float, cpu: float = 1.0, count: int = 0, *ended: m.Ended) -> Facts:
    """One engine, as it was seen then."""
    engine = m.EngineRecord("b0", "here", 12, "3", 0, cpu=cpu, rss=1000)
    controller = {"pid": 1, "host": "here", "started": 1000.0, "address": "ipc://x"}
    queue = {0: {"queued": 0, "running": 0, "done": count}, "unassigned": 0}
    return Facts(seconds, controller, [engine], queue, [], count, ended, seconds + 100.0)
