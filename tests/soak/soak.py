"""A cluster under random work and random deaths, and what must be true at its end.

Everything that happens by chance comes from one seed. Which process is killed when depends on time too, so a seed
does not replay to the last byte; the story says what happened.
"""

from __future__ import annotations

import collections
import os
import random
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import psutil

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.history import LATEST
from ipkernel_ext.net.begun import KEPT
from tests.soak.worker import SETTLE, Worker

ENGINES = 3
PAUSES = 0.3, 2.0  # seconds, shortest and longest between two deaths
STORY = 200  # lines that are kept
SMALL = 20_000  # tasks, at least, by which growth is measured

LEEWAY = {"files": 6, "threads": 2, "memory": 48}
"""By how much a process may have grown between two quiet moments: descriptors, threads, MB."""
BOUND = 16.0  # MB for each 100,000 small tasks, on any side


class Size(NamedTuple):
    """What a process uses."""

    files: int
    threads: int
    memory: float  # MB

    @classmethod
    def of(cls, pid: int) -> Size:
        """Of a process that runs."""
        process = psutil.Process(pid)
        return cls(process.num_fds(), process.num_threads(), process.memory_info().rss / 2**20)


class Soak:
    """One run.

    Attributes
    ----------
    problems : list of str
        What went wrong; empty is what is wanted.
    growth : dict
        MB for each 100,000 small tasks, by side.
    """

    def __init__(self, seed: int, seconds: float, directory: Path) -> None:
        self.seed = seed
        self.seconds = seconds
        self.problems: list[str] = []
        self.deaths: collections.Counter[str] = collections.Counter()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.growth: dict[str, float] = {}
        self.started = 0  # tasks
        self._ledger = directory / "ledger"
        self._story: collections.deque[str] = collections.deque(maxlen=STORY)
        self._begun = time.monotonic()
        self._processes = 0

    def tell(self, line: str) -> None:
        """Add to the story."""
        self._story.append(f"{time.monotonic() - self._begun:8.3f} {line}")

    def story(self) -> str:
        """The last events, and how to have it again."""
        return "\n".join([*self._story, f"python -m tests.soak --seed {self.seed} --seconds {self.seconds:g}"])

    def run(self) -> None:
        """Twice work under fire and a quiet moment, then small tasks in peace."""
        try:
            self._run()
        except Exception:
            self.problems.append(traceback.format_exc())

    def _run(self) -> None:
        with launch(n=ENGINES, restart_limit=10**6) as rc:
            file = rc.cluster.launched.place.connection("client")
            with RemoteController(connection_file=file) as other:
                workers = [
                    Worker(client, self._ledger, f"w{number}", self.seed * 10 + number, self.tell)
                    for number, client in enumerate((rc, other))
                ]
                self._work(rc, workers, self.seconds * 0.3)
                before = self._sizes(rc)
                if not self.problems:
                    self._work(rc, workers, self.seconds * 0.5)
                    self._compare(before, self._sizes(rc))
                self._check_ledger(workers)
                if not self.problems:
                    self._small_tasks(rc, self.seconds * 0.2)

    # ------------------------------------------------------------ work under fire

    def _work(self, rc: RemoteController, workers: list[Worker], seconds: float) -> None:
        chance = random.Random(self.seed * 10 + 9)
        stop = threading.Event()
        threads = [threading.Thread(target=worker.run, args=[stop]) for worker in workers]
        for thread in threads:
            thread.start()
        client = self._start_client(rc)
        until = time.monotonic() + seconds
        while time.monotonic() < until and not any(worker.problems for worker in workers):
            time.sleep(chance.uniform(*PAUSES))
            client = self._strike(rc, chance, client)
        stop.set()
        client.communicate()
        for thread in threads:
            thread.join(3 * SETTLE)
            if thread.is_alive():
                self.problems.append("a client hangs")
        for worker in workers:
            self.problems += worker.problems
            self.outcomes.update(worker.counts)
            worker.counts.clear()
        if client.returncode:
            self.problems.append(f"a client ended with {client.returncode}")
        self._become_quiet(rc)

    def _start_client(self, rc: RemoteController) -> subprocess.Popen[str]:
        self._processes += 1
        name = f"p{self._processes}"
        file = rc.cluster.launched.place.connection("client")
        arguments = [str(file), str(self._ledger), name, str(self.seed * 1000 + self._processes)]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.soak.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent.parent,
        )

    def _strike(
        self, rc: RemoteController, chance: random.Random, client: subprocess.Popen[str]
    ) -> subprocess.Popen[str]:
        who = chance.choice(["engine"] * 4 + ["controller"] * 2 + ["client"] * 2 + ["zygote", "several"])
        self.tell(f"kill {who}")
        self.deaths[who] += 1
        if who == "client":
            client.kill()
            client.communicate()
            return self._start_client(rc)
        engines = [engine.pid for engine in rc.engines]
        try:
            controller = psutil.Process(self._controller(rc))
            agent = controller.parent()
            children = agent.children() if agent is not None else []
            mine = [child for child in children if child.pid in engines]
            victims = {
                "engine": mine and [chance.choice(mine)],
                "controller": [controller],
                "zygote": [child for child in children if child.name() == "zygote"],
                "several": [*mine[:2], controller],
            }[who]
            for victim in victims:
                victim.kill()
        except psutil.NoSuchProcess:
            pass  # it was about to end, or to become another program
        return client

    def _controller(self, rc: RemoteController) -> int:
        return int(rc.status()["controller"]["pid"])

    # ------------------------------------------------------------ quiet moments

    def _become_quiet(self, rc: RemoteController) -> None:
        """All engines are here and nobody has anything to do, soon."""
        until = time.monotonic() + SETTLE
        while True:
            status = rc.queue_status()
            idle = status.pop("unassigned") == 0 and not any(q["queued"] or q["running"] for q in status.values())
            if idle and len(rc.ids) == ENGINES and all(engine.state == "ready" for engine in rc.engines):
                return
            if time.monotonic() > until:
                self.problems.append(f"it does not become quiet: {status}, engines {rc.engines}")
                return
            time.sleep(0.05)

    def _sizes(self, rc: RemoteController) -> dict[str, Size]:
        agent = psutil.Process(self._controller(rc)).parent()
        assert agent is not None
        directory = rc.cluster.launched.place.directory
        engines = [Size.of(engine.pid) for engine in rc.engines]
        sizes = {
            "client": Size.of(os.getpid()),
            "controller": Size.of(self._controller(rc)),
            "agent": Size.of(agent.pid),
            "engine": Size(*map(max, zip(*engines, strict=True))),
            "directory": Size(
                sum(path.is_file() for path in directory.rglob("*") if path.parent.name != "engines"), 0, 0.0
            ),
        }
        left = len(list((directory / "engines").iterdir()))
        if left > KEPT + ENGINES:
            self.problems.append(f"{left} files of engines")
        self.tell(f"quiet: {sizes}")
        return sizes

    def _compare(self, before: dict[str, Size], after: dict[str, Size]) -> None:
        for who, then in before.items():
            for what, leeway in LEEWAY.items():
                grown = getattr(after[who], what) - getattr(then, what)
                if grown > leeway:
                    self.problems.append(f"{who}: {what} grew by {grown:g}, from {getattr(then, what):g}")

    def _check_ledger(self, workers: list[Worker]) -> None:
        """No task began more often than it may, and none gave a value that never began."""
        starts = collections.Counter(self._ledger.read_text().split())
        self.started = sum(starts.values())
        for id, count in starts.items():
            if count > 1 + int(id.rpartition(":")[2]):
                self.problems.append(f"task {id} began {count} times")
        for worker in workers:
            for id in worker.completed:
                if not starts[id] or (id.endswith(":0") and starts[id] != 1):
                    self.problems.append(f"task {id} gave a value and began {starts[id]} times")

    # ------------------------------------------------------------ small tasks

    def _round(self, rc: RemoteController) -> int:
        """More calls than a client keeps the results of, so that it keeps the same afterwards."""
        calls, each = LATEST + 5, 200
        for _ in range(calls):
            rc.map(abs, range(each), chunksize=1)
        return calls * each

    def _small_tasks(self, rc: RemoteController, seconds: float) -> None:
        pids = {"client": os.getpid(), "controller": self._controller(rc), "engine": rc.engines[0].pid}
        self._round(rc)
        before = {who: Size.of(pid).memory for who, pid in pids.items()}
        begun, count = time.monotonic(), 0
        while count < SMALL or time.monotonic() < begun + seconds:
            count += self._round(rc)
        for who, pid in pids.items():
            self.growth[who] = (Size.of(pid).memory - before[who]) * 100_000 / count
            if self.growth[who] > BOUND:
                self.problems.append(f"{who}: {self.growth[who]:.1f} MB more after 100,000 small tasks")
