"""What an earlier life of the controller left behind, and how it finds its way back.

A replayed task that was handed out is adopted from the engine that holds it, or HELD until that
engine says hello, or is known dead, or the recovery window ends; then it is lost, unless its client
allowed retries. A task that only an engine knows is an *orphan* until its client replays it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.dispatch import Dispatch
from ipkernel_ext.core.effects import Enlist, Expire, Journal
from ipkernel_ext.core.functions import FunctionStore
from ipkernel_ext.core.jobs import Jobs
from ipkernel_ext.core.ledger import CANCELLED, LOST, TIMED_OUT, Ledger
from ipkernel_ext.core.messages import Exit, Hint, TaskId
from ipkernel_ext.core.outbox import Outbox
from ipkernel_ext.core.queues import HELD, LATER, QUEUED, WAITING, Task
from ipkernel_ext.core.roster import Client, Engine, Orphan, Roster, Vacancy

NOT_BACK = Exit(detail="it did not come back after the controller restarted")
UNKNOWN = "nothing is known of it"


class Recovery:
    """The earlier life's journal, and orphans."""

    def __init__(
        self,
        out: Outbox,
        roster: Roster,
        jobs: Jobs,
        ledger: Ledger,
        dispatch: Dispatch,
        functions: FunctionStore,
        journal: dict[TaskId, Hint],
        now: float,
        ttl: float,
    ) -> None:
        self._out = out
        self._roster = roster
        self._jobs = jobs
        self._ledger = ledger
        self._dispatch = dispatch
        self._functions = functions
        self._ttl = ttl
        self._journal: dict[str, dict[int, Hint]] = {}
        for id, hint in journal.items():
            self._journal.setdefault(id.client, {})[id.number] = hint
        self._orphans: dict[str, dict[int, Engine]] = {}
        self.journal_until: float | None = now + ttl if journal else None
        self.orphans_until: float | None = None  # when the oldest of them is too old

    # ------------------------------------------------------------ clients

    def client_is_here(self, client: Client, now: float) -> None:
        """It said which tasks it will replay; nobody needs the others."""
        unresolved = client.expected
        for number in [n for n in self._journal.get(client.id, ()) if n not in unresolved]:
            self._take_journaled(client.id, number)
            self._out.add(Journal(TaskId(client.id, number), None))
        for number, engine in list(self._orphans.get(client.id, {}).items()):
            id = TaskId(client.id, number)
            attempt, finished, _ = engine.orphans[id]
            if number not in unresolved and finished:
                self._drop(id)
                self._ledger.forget(engine, id, attempt, now)

    def find(self, task: Task, hint: Hint | None, now: float) -> bool:
        """Whether something is known of a task that is replayed; if so, it was dealt with."""
        written = self._take_journaled(task.id.client, task.id.number)
        if written is not None:
            hint = written  # never older than what the client was told
            task.written = True
        engine = self._orphans.get(task.id.client, {}).get(task.id.number)
        if engine is not None:
            if hint is not None:
                task.losses = hint.losses
                task.attempts = hint.attempt
            if hint is None or engine.orphans[task.id].attempt >= hint.attempt:
                self._adopt(task, engine)
                return True
            self._disown(engine, task.id, now)
        if hint is None:
            return False
        self._recover(task, hint, now)
        return True

    def _recover(self, task: Task, hint: Hint, now: float) -> None:
        task.attempt = task.attempts = hint.attempt
        task.losses = hint.losses
        if task.retries:
            task.boot = None  # it may have gone on to the engine's next life, and may do so again
        if hint.boot == CANCELLED:
            self._ledger.fail_cancelled(task, None if task.attempts else False)
        elif hint.boot == LOST:
            self._ledger.fail_lost(task, hint.engine, Exit(detail=UNKNOWN), None if task.attempts else False)
        elif hint.boot == TIMED_OUT:
            self._ledger.fail_silent(task, hint.engine, None, None)
        elif not hint.boot or hint.boot in self._roster.boots:
            self._ledger.unassigned(task)
            self._dispatch.place(task, now)  # nobody has it: that engine said hello, and would have said so
        elif hint.boot in self._roster.dead or not self._roster.recovery_until:
            task.hint = hint
            self._resolve(hint.boot, [task], self._roster.exit_of(hint.boot, UNKNOWN), now, first=False)
        else:
            self._ledger.hold(task, hint.boot, hint)

    def _take_journaled(self, client: str, number: int) -> Hint | None:
        journal = self._journal.get(client)
        if journal is None:
            return None
        hint = journal.pop(number, None)
        if not journal:
            del self._journal[client]
        return hint

    # ------------------------------------------------------------ engines

    def reconcile(self, engine: Engine, inventory: m.Inventory, now: float) -> None:
        """Set what we believe the engine holds to what it says it holds."""
        unfinished = {*inventory.queued, *inventory.running}
        finished = set(inventory.finished)
        missing: list[Task] = []
        again: list[Task] = []
        cancelled: list[Task] = []
        cleared: list[Task] = []
        for task in engine.sent.values():
            task.recalled = 0
            held = (task.id, task.attempt)
            if held in finished:
                again.append(task)
            elif held not in unfinished:
                missing.append(task)
            elif task.cancelled:
                cancelled.append(task)
            elif task.cleared:
                cleared.append(task)
        again.extend(task for task in engine.done.values() if task.outputs or task.lacking)
        self._dispatch.take_back(engine, missing, now)
        self._dispatch.send_again(engine, [task.id for task in again])
        self._dispatch.recall(engine, cancelled, interrupt=True)
        self._dispatch.recall(engine, cleared)
        forgotten = set(engine.forget)
        engine.forget = []
        for id in list(engine.orphans):
            self._drop(id)
        for id, attempt in [*inventory.queued, *inventory.running]:
            self._claim(engine, id, attempt, False, now)
        for id, attempt in inventory.finished:
            if (id, attempt) in forgotten and id not in self._roster.wanted:
                self._ledger.forget(engine, id, attempt, now)
            else:
                self._claim(engine, id, attempt, True, now)
        self.engine_is_here(engine.boot, now)

    def engine_is_here(self, boot: str, now: float) -> None:
        """What was held for this boot, and is not with it, goes on."""
        for task in self._ledger.release(boot):
            if task.cleared:
                self._ledger.fail_cancelled(task)
            else:
                if task.attempts:
                    self._ledger.unassigned(task)
                self._dispatch.place(task, now)

    def _claim(self, engine: Engine, id: TaskId, attempt: int, finished: bool, now: float) -> None:
        """The engine says it holds this task."""
        task = self._ledger.tasks.get(id)
        if id.number in self._ledger.kept.get(id.client, ()):
            self._refuse(engine, id, attempt, finished, now)
        elif task is None:
            self._add(engine, id, attempt, finished, now)
        elif self._is_free(task, attempt):
            engine.orphans[id] = Orphan(attempt, finished, now)
            self._orphans.setdefault(id.client, {})[id.number] = engine
            self._adopt(task, engine)
        elif task.holder is not engine or task.attempt != attempt:
            self._refuse(engine, id, attempt, finished, now)

    @staticmethod
    def _is_free(task: Task, attempt: int) -> bool:
        """Whether nobody else has the task, or could come and have a later attempt of it."""
        if task.state is HELD:
            return task.hint is None or attempt >= task.hint.attempt
        return task.state in (QUEUED, WAITING, LATER)

    def _refuse(self, engine: Engine, id: TaskId, attempt: int, finished: bool, now: float) -> None:
        """What it holds is not its any more."""
        if finished:
            self._ledger.forget(engine, id, attempt, now)
        elif engine.control is not None:
            self._out.send(engine.control, m.Recall([(id, attempt)]))

    def stray_result(self, engine: Engine, result: m.Result, now: float) -> None:
        """A result of a task that is not known here."""
        self._add(engine, result.task, result.attempt, True, now)

    def engine_is_dead(self, engine: Engine) -> None:
        """Its orphans are lost with it; whoever replays one has a hint, or the journal has."""
        for id in list(engine.orphans):
            self._drop(id)

    def boot_is_dead(self, boot: str, now: float) -> None:
        """Whatever waits for this boot waits in vain, except for its successor."""
        tasks = self._ledger.release(boot)
        keep = [task for task in tasks if task.hint is None and task.boot is None and boot in self._roster.vacant]
        if keep:
            self._ledger.held[boot] = keep
        self._resolve(boot, [task for task in tasks if task not in keep], self._roster.exit_of(boot), now)

    def end(self, now: float) -> None:
        """The window is over: engines of the earlier life that have not come back count as lost."""
        roster = self._roster
        roster.recovery_until = 0.0
        for boot, vacancy in list(roster.vacant.items()):
            if vacancy.agent is None:
                self.vacate(boot, now)
        for boot in [boot for boot in self._ledger.held if boot not in roster.vacant]:
            self._resolve(boot, self._ledger.release(boot), NOT_BACK, now)
        self._ledger.fail_unknown()

    def vacate(self, boot: str, now: float) -> None:
        """Nobody is expected to take this boot's id any more."""
        exit = self._roster.exit_of(boot, NOT_BACK.detail)
        vacancy = self._roster.vacant.pop(boot, None)
        if vacancy is not None:
            self._out.add(Enlist(vacancy.id, self._jobs.seat_of(vacancy.id)))
            self._roster.tell_clients(m.EngineLeft(vacancy.id, boot, exit))
        self._resolve(boot, self._ledger.release(boot), exit, now)

    def inherit(self, boot: str, heir: str, agent: str) -> None:
        """The engine that was to take this boot's id ended too; now its own successor is to take it."""
        vacancy = self._roster.vacant.pop(boot)
        self._roster.vacant[heir] = Vacancy(vacancy.id, agent)
        if vacancy.agent is None:
            self._roster.tell_clients(m.EngineLeft(vacancy.id, boot, self._roster.exit_of(boot)))
        self._out.add(Enlist(vacancy.id, heir))
        for task in self._ledger.release(boot):
            self._ledger.hold(task, heir, task.hint)

    def _resolve(self, boot: str, tasks: Sequence[Task], exit: Exit, now: float, first: bool = True) -> None:
        """These were held for a boot that will not come; or, not ``first``, are replayed one by one, in their order."""
        there = [task for task in tasks if task.hint is not None]
        begun = self._roster.started(boot, [(t.id, t.hint.attempt) for t in there if t.hint is not None])
        for task, started in zip(reversed(there), reversed(begun), strict=True):
            assert task.hint is not None
            self._dispatch.lose(task, task.hint.engine, exit, started, now, first)
        for task in tasks:
            if task.hint is None:
                self._ledger.fail_lost(task, -1 if task.engine is None else task.engine, exit, False)

    # ------------------------------------------------------------ orphans

    def holder(self, id: TaskId) -> Engine | None:
        """The engine that has a task which no client has claimed."""
        return self._orphans.get(id.client, {}).get(id.number)

    def forget(self, id: TaskId, now: float) -> None:
        """An orphan is of no use any more."""
        engine = self.holder(id)
        if engine is not None and engine.orphans[id].finished:
            self._disown(engine, id, now)

    def _adopt(self, task: Task, engine: Engine) -> None:
        """An engine already holds a task that is replayed, or that nobody else has."""
        orphan = engine.orphans[task.id]
        self._drop(task.id)
        if task.queue is not None:
            task.queue.discard(task)
        task.attempt = orphan.attempt
        task.attempts = max(task.attempts, orphan.attempt)
        task.recalled = 0
        task.lacking = True
        self._ledger.sent(task, engine)
        if orphan.finished:
            self._dispatch.send_again(engine, [task.id])
        elif task.cancelled or task.cleared:
            self._dispatch.recall(engine, [task], interrupt=task.cancelled)
        self._dispatch.pool.file(engine)

    def _add(self, engine: Engine, id: TaskId, attempt: int, finished: bool, now: float) -> None:
        known = self._orphans.get(id.client, {}).get(id.number)
        if known is not None:
            if known.orphans[id].attempt > attempt or (known is not engine and known.orphans[id].attempt == attempt):
                self._refuse(engine, id, attempt, finished, now)
                return
            if known is engine and known.orphans[id].attempt == attempt:
                self._drop(id)
            else:
                self._disown(known, id, now)
        if finished and not self._may_be_wanted(id):
            self._ledger.forget(engine, id, attempt, now)
            return
        if self.orphans_until is None:
            self.orphans_until = now + self._ttl
        engine.orphans[id] = Orphan(attempt, finished, now)
        self._orphans.setdefault(id.client, {})[id.number] = engine
        if finished and id in self._roster.wanted:
            self._dispatch.send_again(engine, [id])

    def _may_be_wanted(self, id: TaskId) -> bool:
        """Whether a client may still replay this task, as it is not here or has not come to it, or waits for it."""
        if id in self._roster.wanted:
            return True
        client = self._roster.clients.get(id.client)
        if client is None:
            return id.number > self._roster.departed.get(id.client, -1)
        return not client.left and (client.peer is None or id.number in client.expected)

    def _disown(self, engine: Engine, id: TaskId, now: float) -> None:
        orphan = engine.orphans[id]
        self._drop(id)
        self._refuse(engine, id, orphan.attempt, orphan.finished, now)

    def _drop(self, id: TaskId) -> None:
        of_client = self._orphans[id.client]
        engine = of_client.pop(id.number)
        del engine.orphans[id]
        if not engine.orphans:
            self._functions.settle(engine)
        if not of_client:
            del self._orphans[id.client]

    # ------------------------------------------------------------ time

    def expire(self, now: float) -> None:
        """What no client has come for in all this time is dropped."""
        if self.journal_until is not None and now >= self.journal_until:
            self.journal_until = None
            for client, journal in self._journal.items():
                self.expired(client, max(journal))
                for number in journal:
                    self._out.add(Journal(TaskId(client, number), None))
            self._journal.clear()
        if self.orphans_until is not None and now >= self.orphans_until:
            self._expire_orphans(now)

    def _expire_orphans(self, now: float) -> None:
        since: list[float] = []
        for client, numbers in list(self._orphans.items()):
            for number, engine in list(numbers.items()):
                id = TaskId(client, number)
                if now >= engine.orphans[id].since + self._ttl:
                    self._disown(engine, id, now)
                    self.expired(client, number)
                else:
                    since.append(engine.orphans[id].since)
        self.orphans_until = min(since) + self._ttl if since else None

    def expired(self, client: str, number: int) -> None:
        """If the client comes after all, it must not run again what was dropped."""
        known = self._roster.clients.get(client)
        if known is None:
            self._roster.depart(client, number)
        else:
            known.expired = max(known.expired, number)
        self._out.add(Expire(client, self._roster.departed[client] if known is None else known.expired))

    def check(self) -> None:
        """Assert that orphans are known on both sides, and are orphans."""
        count = 0
        for client, numbers in self._orphans.items():
            for number, engine in numbers.items():
                id = TaskId(client, number)
                assert id in engine.orphans and not engine.gone, f"orphan {id}"
                assert id not in self._ledger.tasks, f"orphan with an owner {id}"
                count += 1
        assert count == sum(len(engine.orphans) for engine in self._roster.engines.values()), "orphans"

    def sizes(self) -> dict[str, int]:
        """How much is kept that should not last."""
        return {
            "journaled": sum(map(len, self._journal.values())),
            "orphans": sum(map(len, self._orphans.values())),
        }
