"""Cost of the controller core per balanced no-op task: ``python -m tests.core.bench``."""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from typing import Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.controller import ControllerCore
from ipkernel_ext.core.effects import Send

WORK = m.Execute("")


def microseconds(engines: int, tasks: int, backlog: int = 0) -> float:
    """One task: receive Submit, Result and Acknowledge, with ``tasks`` under way before the first result.

    ``backlog`` tasks more are addressed to engine 0 and never end.
    """
    core = ControllerCore(1, pid=1, host="h", now=0.0, begun=lambda boot: None)
    for n in range(engines):
        record = m.EngineRecord(f"b{n}", "other", n, "3")
        core.receive(f"c{n}", m.HelloEngine(m.PROTOCOL, record, 1, m.Inventory()), (), 0.0)
        core.receive(f"t{n}", m.HelloTasks(f"b{n}", 1), (), 0.0)
    core.receive("client", m.HelloClient("client", m.PROTOCOL, "3", "h", 1, []), (), 0.0)
    core.receive("client", m.Submit(list(range(10**6, 10**6 + backlog)), WORK, [0] * backlog), (), 0.0)
    submits = [m.Submit([n], WORK) for n in range(tasks)]
    acknowledges = [m.Acknowledge(list(range(n, min(n + 64, tasks)))) for n in range(0, tasks, 64)]
    waiting: list[tuple[Any, m.Result]] = []
    now = 1.0
    began = time.process_time()  # others may use the processor too

    def take(effects: list[Any]) -> None:
        for effect in effects:
            if type(effect) is Send and type(effect.message) is m.Task:
                message = effect.message
                if message.id.number < tasks:
                    waiting.append((effect.peer, m.Result(message.id, message.attempt, 0, seconds=1e-5)))

    for submit in submits:
        take(core.receive("client", submit, (), now))
    for peer, result in waiting:  # grows while it is walked
        now += 1e-5
        take(core.receive(peer, result, (), now))
        deadline = core.next_deadline()
        if deadline is not None and deadline <= now:
            take(core.tick(now))
    for acknowledge in acknowledges:
        take(core.receive("client", acknowledge, (), now))
    seconds = time.process_time() - began
    assert len(waiting) == tasks
    return seconds / tasks * 1e6


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", action="store_true")
    if parser.parse_args().profile:
        profile = cProfile.Profile()
        profile.runcall(microseconds, 4, 20_000)
        pstats.Stats(profile).sort_stats("tottime").print_stats(22)
        return
    for engines, tasks, backlog in [(4, 1_000, 0), (4, 20_000, 0), (4, 20_000, 50_000), (1000, 20_000, 0)]:
        best = min(microseconds(engines, tasks, backlog) for _ in range(3))
        print(f"{engines:5} engines {tasks:6} tasks, {backlog:6} queued elsewhere: {best:6.1f} µs a task")


if __name__ == "__main__":
    main()
