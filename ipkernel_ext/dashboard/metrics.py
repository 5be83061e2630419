"""What was seen of a cluster, as text for Prometheus (the exposition format, version 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ipkernel_ext.dashboard.state import Facts, state_of

TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the text."""

STATES = "ready", "busy", "away", "restarting", "unresponsive", "overrun"
"""Of an engine: each is told, also where there is none, so that a graph has no gaps."""

Sample = tuple[Mapping[str, Any], float]


def text(facts: Facts) -> str:
    """Everything, each metric with its help and type."""
    return "".join(f"{line}\n" for name, help, samples in _metrics(facts) for line in _lines(name, help, samples))


def _metrics(facts: Facts) -> Iterator[tuple[str, str, list[Sample]]]:
    up = not facts.trouble
    yield "up", "Whether the controller answers.", [({}, up)]
    if not up:
        return
    queue = facts.queue
    loads = [(engine, queue.get(engine.id, {"queued": 0, "running": 0, "done": 0})) for engine in facts.engines]
    states = Counter(state_of(engine, load["running"]) for engine, load in loads)
    yield "controller_start_time_seconds", "When the controller was started.", [({}, facts.controller["started"])]
    yield "engines", "Engines in each state.", [({"state": state}, states[state]) for state in STATES]
    yield "clients", "Clients that are connected.", [({}, sum(bool(client["connected"]) for client in facts.clients))]
    yield "tasks_unassigned", "Balanced tasks that no engine has yet.", [({}, queue.get("unassigned", 0))]
    ids = [({"engine": engine.id, "host": engine.host}, engine, load) for engine, load in loads]
    yield "engine_tasks_queued", "Tasks that wait at an engine.", [(label, load["queued"]) for label, _, load in ids]
    yield "engine_tasks_running", "Tasks that an engine runs.", [(label, load["running"]) for label, _, load in ids]
    yield "engine_tasks_done_total", "Tasks an engine ended.", [(label, load["done"]) for label, _, load in ids]
    yield (
        "engine_cpu_ratio",
        "CPU that an engine uses; 1 is one core.",
        [(label, engine.cpu / 100) for label, engine, _ in ids if engine.cpu is not None],
    )
    yield (
        "engine_memory_bytes",
        "Memory that an engine uses.",
        [(label, engine.rss) for label, engine, _ in ids if engine.rss is not None],
    )


def _lines(name: str, help: str, samples: Iterable[Sample]) -> Iterator[str]:
    name = f"ipkernel_ext_{name}"
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
    for labels, value in samples:
        listed = ",".join(f'{label}="{_escaped(str(text))}"' for label, text in labels.items())
        yield f"{name}{{{listed}}} {value:.16g}" if listed else f"{name} {value:.16g}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
