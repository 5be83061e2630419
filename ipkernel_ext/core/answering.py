"""Which engines answer, and what they say of themselves.

An engine's control thread answers while user code runs, unless the process is stopped or C code
keeps Python's lock. It is asked when somebody wants to know; and now and then while it has a task
with a time, because that time is kept there too, and by nobody where the thread cannot run. No
question is asked twice at once, so one that does not answer costs nothing; what its process uses is
then asked of its agent, if it has one.

Whoever does not answer is *unresponsive*: it gets nothing new, and it is never ended for that. Tasks
whose time is up fail, so that nobody waits for ever. An item that runs at the question had begun
before it, and between two items the thread would have answered; so the time from the question on is
enough to wait, however many items a task has. While the controller itself was stopped nobody could
answer it: from then on, engines have all their time anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.dispatch import Dispatch
from ipkernel_ext.core.engine import OVERRUN_AFTER
from ipkernel_ext.core.ledger import Ledger
from ipkernel_ext.core.outbox import Outbox
from ipkernel_ext.core.queues import Task
from ipkernel_ext.core.roster import Engine, Roster

UNANSWERED = 3.0  # seconds without an answer, after which an engine is unresponsive
SWEEP = 2.0  # seconds between questions to engines that have tasks with a time
ASLEEP = 2.0  # seconds too late for a tick, after which it was the controller that did not run
MARGIN = 2.0  # seconds beyond those in which the engine itself would have given up


class _Survey:
    """A question to many engines."""

    def __init__(self, waiting: set[str], until: float, then: Callable[[float], None]) -> None:
        self.waiting = waiting  # boots
        self.until = until
        self.then = then


class Answering:
    """Questions that are under way."""

    def __init__(self, out: Outbox, roster: Roster, ledger: Ledger, dispatch: Dispatch) -> None:
        self._out = out
        self._roster = roster
        self._ledger = ledger
        self._dispatch = dispatch
        self._asked: dict[str, Engine] = {}  # by boot
        self._surveys: list[_Survey] = []
        self._sweep_at: float | None = None
        self.due: float | None = None  # no tick is needed before

    def ask(self, engines: Iterable[Engine], patience: float, now: float, then: Callable[[float], None]) -> None:
        """Ask these engines, and do something when they have answered.

        Parameters
        ----------
        patience : float
            Seconds they have; those that are known not to answer are not waited for.
        then
            Called with the time, once.
        """
        engines = list(engines)
        for engine in engines:
            self._ask(engine, now)
        asked = [engine for engine in engines if engine.asked_since is not None]
        waiting = {engine.boot for engine in asked if not engine.unresponsive or self._ask_agent(engine)}
        self._surveys.append(_Survey(waiting, now + patience, then))
        self._due_at(now + patience)

    def _ask(self, engine: Engine, now: float) -> None:
        if engine.control is None or engine.asked_since is not None:
            return
        engine.asked_since = now
        self._asked[engine.boot] = engine
        self._out.send(engine.control, m.Measure())
        self._due_at(now + UNANSWERED)

    def _ask_agent(self, engine: Engine) -> bool:
        """Ask what an engine's process uses. False if nobody can say."""
        agent = self._roster.agents.get(engine.record.agent or "")
        if agent is None or agent.peer is None:
            return False
        self._out.send(agent.peer, m.MeasureEngine(engine.boot))
        return True

    def seen(self, measured: m.EngineMeasured) -> None:
        """An agent says what an engine's process uses."""
        engine = self._roster.boots.get(measured.boot)
        if engine is not None and engine.unresponsive:
            engine.seen = measured
            self._wait_no_more(engine)

    def answered(self, engine: Engine, measured: m.Measured, now: float) -> None:
        """An engine says what it runs and uses."""
        engine.measured, engine.measured_at = measured, now
        engine.asked_since = None
        if measured.running is None:
            engine.given_up = None
        self._asked.pop(engine.boot, None)
        self._wait_no_more(engine)
        if engine.unresponsive:
            self._become(engine, False, now)

    def forget(self, engine: Engine) -> None:
        """Its connection is gone, or begins anew."""
        engine.asked_since = engine.measured = None
        engine.unresponsive = False
        engine.seen = None
        self._asked.pop(engine.boot, None)
        self._wait_no_more(engine)

    def _wait_no_more(self, engine: Engine) -> None:
        for survey in self._surveys:
            survey.waiting.discard(engine.boot)

    def _become(self, engine: Engine, unresponsive: bool, now: float) -> None:
        engine.unresponsive = unresponsive
        engine.seen = None
        if unresponsive:
            self._ask_agent(engine)
        self._wait_no_more(engine)
        self._roster.tell_clients(m.EngineJoined(self._roster.record(engine)))
        self._dispatch.engine_changed(engine, now)

    def settle(self, now: float) -> None:
        """Whoever waits for nobody any more is told."""
        if self._ledger.timed and self._sweep_at is None:
            self._sweep_at = now + SWEEP
            self._due_at(self._sweep_at)
        if self._surveys:
            complete = [survey for survey in self._surveys if not survey.waiting or now >= survey.until]
            self._surveys = [survey for survey in self._surveys if survey not in complete]
            for survey in complete:
                survey.then(now)

    # ------------------------------------------------------------ time

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.due is None or now < self.due:
            return
        late = now - self.due
        if late > ASLEEP:
            for engine in self._asked.values():
                engine.asked_since = now
            for survey in self._surveys:
                survey.until += UNANSWERED + late
        for engine in list(self._asked.values()):
            assert engine.asked_since is not None
            if not engine.unresponsive and now >= engine.asked_since + UNANSWERED:
                self._become(engine, True, now)
            over = [task for task in self._timed(engine) if now >= self._given_up_at(engine, task)]
            if over:
                self._dispatch.time_out(engine, over, now - engine.asked_since, now)
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep(now)
        self.due = min(self._deadlines(now), default=None)

    def _sweep(self, now: float) -> None:
        timed = self._ledger.timed
        for boot, engine in list(timed.items()):
            if engine.gone or not engine.timed:
                del timed[boot]
            else:
                self._ask(engine, now)
        self._sweep_at = now + SWEEP if timed else None

    def _timed(self, engine: Engine) -> list[Task]:
        """Its tasks whose time counts: none while it runs one without, behind which they wait as in every queue."""
        timed = [task for task in engine.sent.values() if task.timeout] if engine.timed else []
        if 0 < len(timed) < len(engine.sent):
            running = self._roster.begun_by(engine)
            if running is not None and not running.timeout:
                return []
        return timed

    @staticmethod
    def _given_up_at(engine: Engine, task: Task) -> float:
        assert engine.asked_since is not None
        return max(engine.asked_since, engine.progress) + task.timeout + OVERRUN_AFTER + MARGIN

    def _deadlines(self, now: float) -> Iterator[float]:
        if self._sweep_at is not None:
            yield self._sweep_at
        for survey in self._surveys:
            yield survey.until
        for engine in self._asked.values():
            if not engine.unresponsive and engine.asked_since is not None:
                yield engine.asked_since + UNANSWERED
            for task in self._timed(engine):
                yield self._given_up_at(engine, task)

    def _due_at(self, time: float) -> None:
        self.due = time if self.due is None else min(self.due, time)

    def check(self) -> None:
        """Assert that those are asked who know of it."""
        for boot, engine in self._asked.items():
            assert engine.boot == boot and engine.asked_since is not None and not engine.gone, f"asked {boot}"
        for engine in self._roster.engines.values():
            asked = engine.asked_since is not None
            assert asked == (engine.boot in self._asked), f"engine {engine.id} is asked: {asked}"
            assert asked or not engine.unresponsive, f"engine {engine.id} is unresponsive to nothing"
            if engine.timed:
                assert engine.boot in self._ledger.timed, f"nobody looks after engine {engine.id}"
        for survey in self._surveys:
            assert survey.waiting <= self._asked.keys(), "an answer is waited for that nobody gives"

    def sizes(self) -> dict[str, int]:
        """How much is kept that should not last."""
        return {"questions": len(self._asked), "surveys": len(self._surveys), "timed": len(self._ledger.timed)}
