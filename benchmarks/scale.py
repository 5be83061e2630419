"""``python -m benchmarks.scale``: what a task costs the controller's core, from 100 engines to 10,000.

The real core is driven by hand: engines on hosts of 20 with an agent each, one client, no sockets and no processes.
Every engine is kept busy; results come in the order in which tasks went out. The cost is processor time of this
process, without that of the harness, and the middle one of several runs that take turns. The last lines are of tiny
tasks on few engines, whose results come one by one, and together.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.columns import joined
from ipkernel_ext.core.controller import ControllerCore
from ipkernel_ext.core.effects import Effect, Send
from ipkernel_ext.nursery.controller import COLLECT

ON_A_HOST = 20
SIZES = (100, 1_000, 10_000)
TASKS = 1_000_000
AT_ONCE = 256  # calls in a message of the client
SECONDS = 0.01  # that a task takes, as far as the core is told
TINY = 1e-5  # that one of a burst does
FEW = 4  # engines that a burst is for
TOGETHER = 20  # results that come together then
CLIENT = "client"
WORK = m.Apply("digest", name="f")
FLAT = 1.1
"""How many times as much a task may cost among the most engines as among the fewest."""


class Cluster:
    """A core with so many engines, all of which are here.

    Parameters
    ----------
    clock
        Seconds, for the cost; left out: nothing is measured.
    seconds : float
        That a task takes.
    together : int
        Results of an engine that come together.
    """

    def __init__(
        self, engines: int, clock: Callable[[], float] = lambda: 0.0, seconds: float = SECONDS, together: int = 1
    ) -> None:
        self.cost = 0.0
        self._engines = engines
        self._seconds = seconds
        self._together = together
        self._clock = clock
        self._now = 1.0
        self._running: deque[tuple[Any, int, int]] = deque()  # on which connection, number, attempt
        self._done: list[int] = []
        self.ended = 0
        self.messages = 0
        self.core = ControllerCore(1, pid=1, host="host0", now=0.0, begun=lambda boot: None)
        for n in range(0, engines, ON_A_HOST):
            agent = f"agent{n}"
            self._receive(agent, m.HelloAgent(m.PROTOCOL, agent, f"host{n}", 1, min(ON_A_HOST, engines - n)))
        for n in range(engines):
            agent = f"agent{n - n % ON_A_HOST}"
            record = m.EngineRecord(f"boot{n}", f"host{n // ON_A_HOST}", n, "3", agent=agent)
            self._receive(f"control{n}", m.HelloEngine(m.PROTOCOL, record, 1, m.Inventory()))
            self._receive(f"tasks{n}", m.HelloTasks(f"boot{n}", 1))
        self._receive(CLIENT, m.HelloClient(CLIENT, m.PROTOCOL, "3", "host0", 1, []))
        self._receive(CLIENT, m.Function("digest"), (b"function",))

    def run(self, tasks: int, under_way: int) -> float:
        """Seconds that one task costs, with so many of them under way."""
        self.cost = 0.0
        begun = self.ended
        sent = begun
        while self.ended < begun + tasks:
            while sent < begun + tasks and sent - self.ended < under_way:
                numbers = list(range(sent, min(sent + AT_ONCE, begun + tasks)))
                self._receive(CLIENT, m.Submit(numbers, WORK, each=1), [b"arguments"] * len(numbers))
                sent = numbers[-1] + 1
            self._end_some()
        self._acknowledge()
        return self.cost / tasks

    def _end_some(self) -> None:
        results: list[tuple[Any, Any]] = []
        first = self._running[0][0]
        while self._running and self._running[0][0] == first and len(results) < self._together:
            _, number, attempt = self._running.popleft()
            self._now += self._seconds / self._engines
            results.append((m.Result(m.TaskId(CLIENT, number), attempt, 0, seconds=self._seconds), (b"value",)))
            self._done.append(number)
            self.ended += 1
        for message, frames in results if self._together == 1 else joined(results):
            self._receive(first, message, frames)
        if len(self._done) >= AT_ONCE:
            self._acknowledge()
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= self._now:
            self._do(self.core.tick, self._now)

    def _acknowledge(self) -> None:
        done, self._done = self._done, []
        self._receive(CLIENT, m.Acknowledge(done))

    def _receive(self, peer: str, message: Any, frames: Iterable[bytes] = ()) -> None:
        self._do(self.core.receive, peer, message, list(frames), self._now)

    def _do(self, stimulus: Callable[..., list[Effect]], *arguments: Any) -> None:
        begun = self._clock()
        effects = stimulus(*arguments)
        self.cost += self._clock() - begun
        for effect in effects:
            if type(effect) is Send:
                self.messages += 1
                if type(effect.message) is m.Task:
                    self._running.append((effect.peer, effect.message.id.number, effect.message.attempt))
                elif type(effect.message) is m.Tasks:
                    handed = zip(effect.message.numbers, effect.message.attempts, strict=True)
                    self._running.extend((effect.peer, *task) for task in handed)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS, help="in all, for each number of engines")
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    clusters = {n: Cluster(n, time.process_time) for n in SIZES}
    gc.freeze()
    gc.set_threshold(*COLLECT)
    bursts = {n: Cluster(FEW, time.process_time, TINY, n) for n in (1, TOGETHER)}
    costs: dict[int, list[float]] = {n: [] for n in SIZES}
    of_bursts: dict[int, list[float]] = {n: [] for n in bursts}
    for _ in range(options.runs):
        for n, cluster in clusters.items():
            costs[n].append(cluster.run(options.tasks // options.runs, 2 * max(SIZES)))
        for n, cluster in bursts.items():
            of_bursts[n].append(cluster.run(options.tasks // options.runs, 2 * AT_ONCE))
    first = statistics.median(costs[SIZES[0]])
    for n in SIZES:
        cost = statistics.median(costs[n])
        verdict = "" if cost <= FLAT * first else f"  MISSED, wanted {FLAT:.2f}"
        hosts = -(-n // ON_A_HOST)
        print(
            f"{n:6,} engines on {hosts:3} hosts, {options.tasks:,} tasks: "
            f"{cost * 1e6:6.1f} µs a task, {cost / first:.2f} × that of {SIZES[0]} engines{verdict}"
        )
    for n, measured in of_bursts.items():
        print(f"{FEW} engines, tiny tasks, {n} results together: {statistics.median(measured) * 1e6:.1f} µs a task")


if __name__ == "__main__":
    main()
