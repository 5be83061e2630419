"""A client that does random work and knows what must come of it.

``python -m tests.soak.worker FILE LEDGER NAME SEED`` is one as a process, to be killed.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ipkernel_ext import RemoteController
from ipkernel_ext.errors import CompositeError, EngineLost, NameNotFound, NoSuchEngine, TaskCancelled

AT_ONCE = 30  # tasks that a worker has under way
SETTLE = 60.0  # seconds in which all that is under way must end, once nothing is killed any more


def note(ledger: str, id: str, seconds: float, value: int) -> int:
    """What tasks do: write down that they begin, take their time, and give a value that is known before."""
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{id}\n".encode())
    os.close(file)
    time.sleep(seconds)
    return value * 2


class Pending(NamedTuple):
    """A call that has not ended, and what it is to give."""

    what: str
    result: Any
    expected: Any
    ids: list[str]
    cancelled: list[bool]  # holds whether we cancelled it


class Worker:
    """One client.

    Parameters
    ----------
    tell
        Takes the lines of the story.

    Attributes
    ----------
    problems : list of str
        What should not have been.
    counts : dict
        How many calls ended how.
    """

    def __init__(self, rc: RemoteController, ledger: Path, name: str, seed: int, tell: Callable[[str], None]) -> None:
        self.rc = rc
        self.problems: list[str] = []
        self.counts: dict[str, int] = {}
        self.completed: set[str] = set()  # ids of tasks whose value came
        self._ledger = str(ledger)
        self._name = name
        self._chance = random.Random(seed)
        self._tell = tell
        self._number = 0
        self._pending: list[Pending] = []
        self._kept: dict[int, tuple[str, int]] = {}  # by engine: its boot, and what we left there

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop, then wait until all has ended."""
        actions = [self._submit] * 6 + [self._map] * 2 + [self._apply] * 3 + [self._namespace] * 3 + [self._cancel]
        try:
            while not stop.is_set() and not self.problems:
                self._chance.choice(actions)()
                self._collect(0.0 if len(self._pending) < AT_ONCE else SETTLE)
            until = time.monotonic() + SETTLE
            while self._pending and not self.problems:
                self._collect(until - time.monotonic())
        except Exception as error:
            self._problem(f"{type(error).__name__}: {error}")

    # ------------------------------------------------------------ calls

    def _id(self, retries: int) -> str:
        self._number += 1
        return f"{self._name}:{self._number}:{retries}"

    def _begin(self, what: str, result: Any, expected: Any, ids: list[str]) -> None:
        self._tell(f"{self._name}: {what} {ids[0]}{f' … {len(ids)}' if len(ids) > 1 else ''}")
        self._pending.append(Pending(what, result, expected, ids, [False]))

    def _submit(self) -> None:
        retries, value = self._chance.choice((0, 0, 1, 5)), self._chance.randrange(1000)
        id = self._id(retries)
        result = self.rc.submit(note, self._ledger, id, self._duration(), value, retries=retries)
        self._begin("submit", result, value * 2, [id])

    def _map(self) -> None:
        retries, count = self._chance.choice((0, 5)), self._chance.randrange(1, 40)
        ids = [self._id(retries) for _ in range(count)]
        columns = [self._ledger] * count, ids, [self._duration() / 4] * count, range(count)
        chunks = self._chance.choice((1, 3, "auto"))
        result = self.rc.map(note, *columns, retries=retries, chunksize=chunks, block=False)
        self._begin("map", result, [2 * n for n in range(count)], ids)

    def _apply(self) -> None:
        engines = self.rc.ids
        if not engines:
            return
        id, value = self._id(0), self._chance.randrange(1000)
        try:
            view = self.rc[self._chance.choice(engines)]
        except NoSuchEngine:
            return
        self._begin("apply", view.apply(note, self._ledger, id, self._duration(), value, block=False), value * 2, [id])

    def _duration(self) -> float:
        return self._chance.choice((0.0, 0.0, 0.001, 0.01, 0.1))

    def _cancel(self) -> None:
        if self._pending:
            one = self._chance.choice(self._pending)
            one.cancelled[0] = True
            self._tell(f"{self._name}: cancel {one.ids[0]}")
            one.result.cancel()

    def _namespace(self) -> None:
        """What was left on an engine is there for as long as that engine lives, whatever else dies."""
        engines = {engine.id: engine.boot for engine in self.rc.engines}
        if not engines:
            return
        id = self._chance.choice(sorted(engines))
        name = f"kept_{self._name}"
        try:
            before = self._kept.get(id)
            if before is not None and before[0] == engines[id]:
                found = self.rc[id][name]
                if found != before[1]:
                    self._problem(f"engine {id} ({engines[id]}) holds {found}, not {before[1]}")
            value = self._chance.randrange(10**6)
            self.rc[id].push({name: value})
            self._kept[id] = (engines[id], value)
            if {engine.id: engine.boot for engine in self.rc.engines}.get(id) != engines[id]:
                del self._kept[id]
        except (EngineLost, NoSuchEngine):
            self._kept.pop(id, None)
        except NameNotFound as error:
            if {engine.id: engine.boot for engine in self.rc.engines}.get(id) == engines[id]:
                self._problem(f"engine {id} ({engines[id]}) lost what it had: {error}")

    # ------------------------------------------------------------ what came of them

    def _collect(self, timeout: float) -> None:
        """Look at those that have ended; wait for the first if there is time."""
        if timeout > 0 and self._pending and not self._pending[0].result.wait(timeout):
            one = self._pending[0]
            self._problem(f"{one.what} {one.ids[0]} has not ended; {self.rc.status()['queue']}")
        ended = [one for one in self._pending if one.result.done()]
        self._pending = [one for one in self._pending if one not in ended]
        for one in ended:
            self._judge(one)

    def _judge(self, one: Pending) -> None:
        error = one.result.exception(0)
        outcome = "value" if error is None else type(error).__name__
        self._tell(f"{self._name}: {one.what} {one.ids[0]} ends: {outcome} {error or ''}")
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        if error is None:
            self.completed.update(one.ids)
            if one.result.get(0) != one.expected:
                self._problem(f"{one.what} {one.ids[0]} gave {one.result.get(0)}, not {one.expected}")
            return
        members = error.exceptions if isinstance(error, CompositeError) else [error]
        for member in members:
            lost = isinstance(member, EngineLost) and (one.what == "apply" or member.started is not False)
            if not lost and not (isinstance(member, TaskCancelled) and one.cancelled[0]):
                self._problem(f"{one.what} {one.ids[0]} ended with {member!r}")

    def _problem(self, text: str) -> None:
        self._tell(f"{self._name}: PROBLEM {text}")
        self.problems.append(f"{self._name}: {text}")


def main() -> None:
    """A worker as a process; it ends when it is killed, or its input does."""
    file, ledger, name, seed = sys.argv[1:]
    stop = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    with RemoteController(connection_file=file) as rc:
        worker = Worker(rc, Path(ledger), name, int(seed), lambda line: None)
        worker.run(stop)
    print("\n".join(worker.problems), flush=True)


if __name__ == "__main__":
    main()
