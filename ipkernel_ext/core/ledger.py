"""Tasks, from their submission to their acknowledgement: who ends them, and who is told.

Knows nothing of where tasks run (``dispatch``) nor of earlier lives of the controller (``recovery``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from ipkernel_ext.core import failures
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.dependencies import Dependencies
from ipkernel_ext.core.effects import Journal
from ipkernel_ext.core.functions import FunctionStore
from ipkernel_ext.core.messages import Failure, Hint, TaskId
from ipkernel_ext.core.outbox import Outbox
from ipkernel_ext.core.queues import DONE, ENDED, HELD, LATER, QUEUED, SENT, WAITING, State, Task
from ipkernel_ext.core.recent import Recent
from ipkernel_ext.core.roster import Client, Engine, Roster

HINT_AFTER = 0.05  # seconds with an engine, after which the client is told where a task is
FORGET_AFTER = 0.2  # seconds an acknowledgement may wait for company on its way to the engine
FORGET_AT = 256  # acknowledgements that travel at once

CANCELLED = "cancelled"
LOST = "lost"
TIMED_OUT = "timed out"
"""In the journal, instead of a boot: the task ended so, though its client may not know."""


class Ledger:
    """All tasks that are not over."""

    def __init__(self, out: Outbox, roster: Roster, functions: FunctionStore, recent: Recent) -> None:
        self._out = out
        self._roster = roster
        self._functions = functions
        self.recent = recent
        self.tasks: dict[TaskId, Task] = {}
        self.held: dict[str, list[Task]] = {}  # by the boot they wait for
        self.timed: dict[str, Engine] = {}  # engines that were sent tasks with a time, by boot
        self.kept: dict[str, dict[int, str]] = {}  # results in the store, and what went wrong there, by client
        self.later = Dependencies()
        self.hints: deque[tuple[float, Task, int]] = deque()
        self.forgetful: dict[str, Engine] = {}
        self.forget_at: float | None = None
        self._stories: deque[tuple[float, str, TaskId, str]] = deque(maxlen=4096)

    def enter(self, client: Client, task: Task) -> None:
        """A new task."""
        number = task.id.number
        self.tasks[task.id] = client.tasks[number] = task
        if number > client.highest:
            client.highest = number
        if client.expected:
            client.expected.discard(number)
        if task.function is not None:
            self._functions.use(task.function)

    def wait(self, task: Task, ids: Iterable[TaskId]) -> bool:
        """Whether the task is dealt with, because one of those it is to come after has failed or not ended."""
        open: list[TaskId] = []
        for id in ids:
            known = self.tasks.get(id)
            kept = None if known is not None else self.kept.get(id.client, {}).get(id.number)
            if kept is not None:
                if kept:
                    self.fail(task, failures.dependency(id, kept))
                    return True
                continue
            foreign = id.client != task.id.client
            if known is None and foreign and self._roster.recovery_until:
                open.append(id)  # its client may still replay it
            elif known is None or (foreign and self.later.leads_to(id, task, self.tasks)):
                why = "it ended before, or never was" if known is None else "it is to come after this one"
                self.fail(task, failures.unknown_dependency(id, why))
                return True
            elif known.state is not DONE and known.state is not ENDED:
                open.append(id)
            elif known.error:
                self.fail(task, failures.dependency(id, known.error))
                return True
        if open:
            self.later.wait(task, open)
        return bool(open)

    def fail_unknown(self) -> None:
        """Nobody will replay what is not known by now."""
        for id in self.later.unknown(self.tasks):
            self.later.ended(id, "it ended before, or never was")

    # ------------------------------------------------------------ where they are

    def sent(self, task: Task, engine: Engine) -> None:
        """This attempt is at the engine; written down before anything that follows from it."""
        task.state = SENT
        task.holder = engine
        engine.sent[task.id] = task
        if task.engine is None:
            engine.balanced += 1
        if task.timeout:
            engine.timed += 1
            self.timed[engine.boot] = engine
        self._write(task, engine.id, engine.boot)

    def unsent(self, task: Task, engine: Engine) -> None:
        """It is at that engine no more."""
        del engine.sent[task.id]
        if task.engine is None:
            engine.balanced -= 1
        if task.timeout:
            engine.timed -= 1
        task.holder = None

    def unassigned(self, task: Task) -> None:
        """Nobody has it now. Its attempts stay counted, so that none is used twice."""
        self._write(task, -1, "")

    def _write(self, task: Task, engine: int, boot: str) -> None:
        task.written = True
        self._out.add(Journal(task.id, Hint(engine, boot, task.attempts, task.losses)))

    def hold(self, task: Task, boot: str, hint: Hint | None, first: bool = False) -> None:
        """Keep it until the engine of this boot is here, or surely will not be."""
        task.state = HELD
        task.awaited = boot
        task.hint = hint
        held = self.held.setdefault(boot, [])
        held.insert(0 if first else len(held), task)

    def release(self, boot: str) -> list[Task]:
        """The tasks that were held for this boot, in order."""
        return [task for task in self.held.pop(boot, ()) if task.state is HELD]

    def done(self, task: Task, engine: Engine, outputs: int, failure: Failure | None) -> None:
        """Its engine has sent the result, and keeps it."""
        self._done(task, engine)
        task.outputs = outputs
        self._tell_later(task, failure)
        if task.function is not None:
            self._functions.release(task.function)
        self._drop_hints()

    def done_all(self, tasks: Iterable[Task], engine: Engine) -> None:
        """The same of several, without output or failure."""
        released: dict[str, int] = {}
        waited = self.later.waited
        for task in tasks:
            self._done(task, engine)
            if waited:
                self._tell_later(task, None)
            if task.function is not None:
                released[task.function] = released.get(task.function, 0) + 1
        for digest, count in released.items():
            self._functions.release(digest, count)
        self._drop_hints()

    def _done(self, task: Task, engine: Engine) -> None:
        self.unsent(task, engine)
        engine.done[task.id] = task
        task.state = DONE
        task.holder = engine
        task.frames = ()

    def _drop_hints(self) -> None:
        """Of those that are not there any more."""
        hints = self.hints
        while hints and (hints[0][1].state is not SENT or hints[0][1].attempt != hints[0][2]):
            hints.popleft()

    # ------------------------------------------------------------ how they end

    def fail(self, task: Task, failure: Failure) -> None:
        """It ends here without a result of any engine; kept until its client has heard."""
        self._leave(task)
        if task.holder is not None:
            task.holder.done.pop(task.id, None)
            task.holder = None
        task.state = ENDED
        task.failure = failure
        task.frames = ()
        self.recent.note(task, failure.engine, 0.0, failure)
        self._tell_later(task, failure)
        if self.has_no_owner(task):
            self.end(task)
        else:
            self.send_failure(task)

    def has_no_owner(self, task: Task) -> bool:
        """Whether nobody will ever hear of it: its client has been away for too long."""
        client = self._roster.clients.get(task.id.client)
        return client is None or (client.left and not client.kept)

    def _tell_later(self, task: Task, failure: Failure | None) -> None:
        if failure is not None:
            stopped = task.cancelled and failure.kind == "TaskInterrupted"
            task.error = failures.brief(failures.cancelled(True) if stopped else failure)
        if self.later.waited:
            self.later.ended(task.id, task.error)

    def fail_lost(self, task: Task, engine: int, exit: m.Exit, started: bool | None) -> None:
        """Its engine is dead.

        Written down, if it was ever handed out, or a later life of the controller would run it again; so is
        one for a given engine, which that life would give to the engine's successor, behind later ones.
        """
        if task.attempts or task.engine is not None:
            self._write(task, engine, LOST)
        losses = task.losses if task.retries else 0
        self.fail(task, failures.lost(task.id, engine, exit, self._ever(task, started), losses))

    def fail_silent(self, task: Task, engine: int, silence: float | None, started: bool | None) -> None:
        """Its time is up, and its engine, which is to keep it, has not answered for so many seconds; None: for long.

        Written down, or a later life of the controller would run it again once the engine has ended it after all.
        """
        self._write(task, engine, TIMED_OUT)
        start = task.work.start if isinstance(task.work, m.Map) else None
        self.fail(task, failures.silent(engine, start, task.timeout, silence, started))

    def fail_cancelled(self, task: Task, started: bool | None = False) -> None:
        """Somebody wanted it so; ``started`` speaks of its latest attempt.

        Written down, or a later life of the controller, not knowing it, would run it after all.
        """
        self._write(task, -1, CANCELLED)
        self.fail(task, failures.cancelled(self._ever(task, started)))

    @staticmethod
    def _ever(task: Task, started: bool | None) -> bool | None:
        return None if started is False and task.losses else started

    def send_failure(self, task: Task) -> None:
        """Tell its client how it ended."""
        assert task.failure is not None
        engine = -1 if task.engine is None else task.engine
        self._roster.tell_of(task.id, m.Result(task.id, task.attempt, engine, failure=task.failure))

    def acknowledge(
        self, client: Client, numbers: Iterable[int], now: float, failed: Mapping[int, str] | None = None
    ) -> None:
        """The client has these results, or does not want them.

        Parameters
        ----------
        failed
            What went wrong, of those that failed. A result of an earlier life of the controller may have come
            to the client alone, and those that are to come after that task wait here.
        """
        for number in numbers:
            task = client.tasks.get(number)
            if task is None:
                continue
            error = failed.get(number, "") if failed else ""
            if task.state is DONE:
                holder = task.holder
                self.end(task)
                if holder is not None and not holder.gone:
                    self.forget(holder, task.id, task.attempt, now)
                    if task.large:
                        self._send_forget(holder)
            elif task.state is SENT or task.state is HELD:
                task.cancelled = True  # whatever it still does is nobody's
                self.later.ended(task.id, error)
            else:
                self.end(task, error)

    def end(self, task: Task, error: str = "its client has left") -> None:
        """Nothing of it needs to be known any more; ``error`` is for those to come after it, unless they know."""
        self._leave(task)
        if task.holder is not None:
            task.holder.done.pop(task.id, None)
        if task.state is not DONE and task.state is not ENDED:
            self.later.ended(task.id, error)
        task.state = ENDED
        self.tasks.pop(task.id, None)
        if task.written:
            self._out.add(Journal(task.id, None))
        client = self._roster.clients.get(task.id.client)
        if client is not None:
            client.tasks.pop(task.id.number, None)
            if client.left:
                self._depart(client)

    def _leave(self, task: Task) -> None:
        """It is in no queue and names no function any more."""
        if task.queue is not None:
            task.queue.discard(task)
        if task.function is not None and task.state is not DONE and task.state is not ENDED:
            self._functions.release(task.function)

    def leave(self, client: Client) -> None:
        """The client has left: what it has sent still runs, and the store has the results."""
        client.left = True
        for task in list(client.tasks.values()):
            if task.state in (WAITING, QUEUED, LATER) and self._functions.missing(task):
                self.end(task)  # nobody can send it any more
        self._depart(client)

    def dismiss(self, client: Client, now: float) -> None:
        """The client has been away too long: as if it had left, and results that are not in the store are dropped."""
        client.expired = client.highest
        client.kept = False
        for task in list(client.tasks.values()):
            if task.state is DONE or task.state is ENDED:
                self.acknowledge(client, (task.id.number,), now)
        self.leave(client)

    def _depart(self, client: Client) -> None:
        if not client.tasks and self._roster.clients.pop(client.id, None) is not None:
            self._roster.depart(client.id, client.highest)

    # ------------------------------------------------------------ who is told

    def forget(self, engine: Engine, id: TaskId, attempt: int, now: float) -> None:
        """The engine need not keep this result."""
        engine.forget.append((id, attempt))
        self.forgetful[engine.boot] = engine
        if self.forget_at is None:
            self.forget_at = now + FORGET_AFTER
        if len(engine.forget) >= FORGET_AT:
            self._send_forget(engine)

    def flush_forget(self) -> None:
        """Tell all engines what they need not keep."""
        for engine in list(self.forgetful.values()):
            self._send_forget(engine)
        self.forget_at = None

    def _send_forget(self, engine: Engine) -> None:
        if engine.control is not None and engine.forget:
            self._out.send(engine.control, m.Forget(engine.forget))
            engine.forget = []
        if not engine.forget or engine.control is None:
            self.forgetful.pop(engine.boot, None)

    def note_hint(self, task: Task, now: float) -> None:
        """Its client is to hear where it is, unless it ends before."""
        self.hints.append((now + HINT_AFTER, task, task.attempt))

    def send_hints(self, now: float) -> None:
        """Tell clients where their longer tasks are, so that a replay can say so."""
        told: dict[tuple[str, str], m.Assigned] = {}
        while self.hints and self.hints[0][0] <= now:
            _, task, attempt = self.hints.popleft()
            engine = task.holder
            if task.state is SENT and task.attempt == attempt and engine is not None:
                assigned = told.setdefault((task.id.client, engine.boot), m.Assigned([], []))
                assigned.numbers.append(task.id.number)
                assigned.hints.append(Hint(engine.id, engine.boot, attempt, task.losses))
        for (owner, _), assigned in told.items():
            self._roster.tell_owner(owner, assigned)

    def tell_story(self, now: float, event: str, task: TaskId, boot: str) -> None:
        """Something happened to a task."""
        self._stories.append((now, event, task, boot))

    def story(self, task: TaskId) -> list[str]:
        """What happened to a task, as far as remembered, one line an event."""
        return [f"{now:.6f} {event} {boot}" for now, event, id, boot in self._stories if id == task]

    def check(self) -> None:
        """Assert that every task is where it says it is."""
        for client in self._roster.clients.values():
            for number, task in client.tasks.items():
                assert self.tasks.get(TaskId(client.id, number)) is task, f"client's task {number}"
        for task in self.tasks.values():
            match task.state:
                case State.SENT:
                    assert task.holder is not None and task.holder.sent.get(task.id) is task, f"sent nowhere {task.id}"
                    assert not task.holder.gone, f"sent to the dead {task.id}"
                case State.DONE:
                    assert task.holder is not None and task.holder.done.get(task.id) is task, f"done {task.id}"
                case State.HELD:
                    assert task in self.held.get(task.awaited, ()), f"held nowhere {task.id}"
                    assert task.awaited not in self._roster.boots, f"held for one who is here {task.id}"
                case State.QUEUED:
                    assert task.queue is not None, f"queued nowhere {task.id}"
                case State.ENDED:
                    assert task.failure is not None and task.id.client in self._roster.clients, f"ended {task.id}"
                case State.LATER:
                    assert task.queue is None and task.holder is None, f"waits and is somewhere {task.id}"
                case State.WAITING:
                    assert self._functions.missing(task), f"waits for what is here {task.id}"
        self._functions.check(self.tasks.values())
        self.later.check(self.tasks)
