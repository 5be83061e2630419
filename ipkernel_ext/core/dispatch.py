"""Tasks on their way: queued, handed out, taken back, done.

* Addressed tasks of one client start on an engine in order of submission. One that waits for its
  function holds back those behind it, but only its own client's.
* A balanced task goes to whoever can and may take it; what an engine has not begun can be recalled.
* A task that is to come after others is placed when they have ended without an error. It holds
  nobody back meanwhile: an addressed one takes its place in the order then.
* Nothing waits for ever: whatever is queued has an engine, or one that is expected, or fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ipkernel_ext.core import failures
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.functions import FunctionStore
from ipkernel_ext.core.ledger import Ledger
from ipkernel_ext.core.messages import Exit, TaskId
from ipkernel_ext.core.outbox import Outbox
from ipkernel_ext.core.queues import DONE, ENDED, HELD, LATER, QUEUED, SENT, WAITING, BalancedQueue, Queue, Task
from ipkernel_ext.core.roster import Client, Engine, Roster
from ipkernel_ext.core.scheduling import RECALL_AFTER, WINDOW, Pool, learn
from ipkernel_ext.core.wire import Frame, has_large, is_one_small


class Dispatch:
    """The balanced queue, the engines' queues, and what moves between them."""

    def __init__(self, out: Outbox, roster: Roster, ledger: Ledger, functions: FunctionStore) -> None:
        self._out = out
        self._roster = roster
        self._ledger = ledger
        self._functions = functions
        self.balanced = BalancedQueue()
        self.pool = Pool()
        self.rebalance_at: float | None = None
        self._refill: dict[str, Engine] = {}  # engines whose queue something returned to
        self._blocked: dict[str, Engine] = {}  # engines on which a client waits for a function

    # ------------------------------------------------------------ placing

    def place(self, task: Task, now: float, first: bool = False) -> None:
        """Queue a task where it belongs, or fail it if it belongs nowhere.

        Whoever places tasks calls ``pump`` afterwards.
        """
        if task.cancelled:
            self._ledger.fail_cancelled(task)
        elif self._functions.missing(task) and self._roster.has_left(task.id.client):
            self._ledger.end(task)  # nobody can send its function any more
        elif task.engine is not None:
            self._place_addressed(task, task.engine, now, first)
        elif self._functions.missing(task):
            task.state = WAITING
            self._functions.wait(task)
            self._ask_function(task)
        elif not self._servable(task.among, now):
            self._ledger.fail(task, failures.no_engines(self._roster.why_none(task.among), task.among))
        else:
            task.state = QUEUED
            queue = self.balanced.queue(task.among)
            if first:
                queue.appendleft(task)
            else:
                queue.append(task)

    def _place_addressed(self, task: Task, id: int, now: float, first: bool) -> None:
        roster = self._roster
        engine = roster.engines.get(id)
        if engine is None:
            boot = roster.vacancy(id)
            if boot is not None and (task.boot is None or (task.boot == boot and boot not in roster.dead)):
                self._ledger.hold(task, boot, None, first)
            elif task.boot is not None and task.boot == boot:
                self._ledger.fail(task, failures.restarted(id, roster.exit_of(boot)))
            elif task.boot is not None:
                self._ledger.fail_lost(task, id, roster.exit_of(task.boot, "it is not here any more"), False)
            else:
                self._ledger.fail(task, failures.no_such_engine(id, roster.engines, roster.why_none([id])))
        elif task.boot is not None and task.boot != engine.boot:
            death = roster.dead.get(task.boot)
            self._ledger.fail(task, failures.restarted(id, death.exit if death else None))
        else:
            task.state = QUEUED
            if first:
                engine.queue.appendleft(task)
                self._refill[engine.boot] = engine  # when all that come first are there
            else:
                engine.queue.append(task)
                self.fill(engine, now)

    def settle(self, now: float) -> None:
        """What others were to come after has ended: those are placed, or fail too."""
        settled = self._ledger.later.settled
        while settled:
            task, id, error = settled.popleft()
            if task.state is not LATER:
                continue
            if error:
                self._ledger.fail(task, failures.dependency(id, error))
            else:
                self.place(task, now)
        self.pump(now)

    def _servable(self, among: frozenset[int] | None, now: float) -> bool:
        """Whether an engine that may run such a task is here, or may come."""
        roster = self._roster
        if among is None:
            return bool(roster.engines) or roster.expecting(now)
        return any(id in roster.engines or roster.expected(id, now) for id in among)

    def fail_unservable(self, now: float) -> None:
        """With no engine here or to come that may run them, balanced tasks must not wait."""
        for among in self.balanced.sets():
            if not self._servable(among, now):
                for task in self.balanced.queue(among).clear():
                    self._ledger.fail(task, failures.no_engines(self._roster.why_none(among), among))

    # ------------------------------------------------------------ handing out

    def fill(self, engine: Engine, now: float) -> None:
        """Hand out addressed tasks, as far as the window allows."""
        while engine.queue and engine.present and len(engine.sent) < WINDOW:
            task = engine.queue.pop()
            if task.id.client in engine.blocked or self._functions.missing(task):
                self._block(task, engine)
            else:
                self._hand_out(task, engine, now)
        self._file(engine)

    def _file(self, engine: Engine) -> None:
        """Note what the engine can take; one that is to leave goes when it has nothing to do."""
        self.pool.file(engine)
        if engine.leaving and engine.control is not None and not (engine.sent or any(engine.load)):
            self._out.send(engine.control, m.StopEngine())

    def pump(self, now: float) -> None:
        """Hand out balanced tasks while somebody can take one."""
        while self._refill:
            self.fill(self._refill.popitem()[1], now)
        if self.balanced.divided:
            sets = self.balanced.sets()
            while sets:
                sets = [among for among in sets if self._hand_out_one(among, now)]
        else:
            queue = self.balanced.anywhere
            while queue and (engine := self.pool.choose(idle=queue.first.timeout > 0)) is not None:
                left = self.pool.turn(engine)
                while left and queue:
                    task = queue.pop()
                    self._hand_out(task, engine, now)
                    left = 0 if task.timeout else left - 1
                self.pool.file(engine)
        if not self.pool.lopsided:
            self.rebalance_at = None
        elif self.rebalance_at is None:
            self.rebalance_at = now + RECALL_AFTER

    def _hand_out_one(self, among: frozenset[int] | None, now: float) -> bool:
        """Hand out one of the balanced tasks for these engines. False if there is none, or nobody to take it."""
        queue = self.balanced.queue(among)
        engine = self.pool.choose(among, queue.first.timeout > 0) if queue else None
        if engine is None:
            return False
        self._hand_out(self.balanced.pop(among), engine, now)
        self.pool.file(engine)
        return True

    def _hand_out(self, task: Task, engine: Engine, now: float) -> None:
        assert engine.tasks is not None
        if not engine.sent:
            engine.progress = now
        task.attempts += 1
        task.attempt = task.attempts
        engine.last_client = task.id.client
        self._ledger.sent(task, engine)
        if task.function is not None and not engine.has(task.function):
            function = self._functions.get(task.function)
            assert function is not None
            self._out.send(engine.tasks, m.Function(task.function), function)
        ahead = task.engine is not None
        frames = task.frames
        if not ahead and not task.timeout and is_one_small(frames):
            self._out.hand(engine.tasks, task.id, task.attempt, task.work, task.max_result, frames[0])
        else:
            message = m.Task(task.id, task.attempt, task.work, ahead, task.timeout, task.max_result)
            self._out.send(engine.tasks, message, frames)
        self._ledger.note_hint(task, now)
        self._ledger.tell_story(now, "handed to", task.id, engine.boot)

    def engine_changed(self, engine: Engine, now: float) -> None:
        """It runs nothing new, so what it has not begun is for others; or it does again."""
        if engine.overrun or engine.unresponsive or engine.leaving:
            self.recall(engine, [task for task in engine.sent.values() if task.engine is None])
        self.fill(engine, now)
        self.pump(now)

    def rebalance(self, now: float) -> None:
        """Take unstarted work back from engines that make no progress, for those that have none."""
        for engine in self.pool.stuck(now):
            engine.stuck = True
            self.pool.file(engine)
            self.recall(engine, [task for task in engine.sent.values() if task.engine is None])
        self.rebalance_at = now + RECALL_AFTER if self.pool.lopsided else None

    # ------------------------------------------------------------ taking back

    def recall(self, engine: Engine, tasks: Iterable[Task], interrupt: bool = False) -> None:
        """Ask the engine to give back those that have not begun, and perhaps to interrupt the others."""
        if engine.control is None:
            return  # its next hello is answered with what is still wanted
        fresh: list[tuple[TaskId, int]] = []
        again: list[tuple[TaskId, int]] = []
        for task in tasks:
            (again if task.recalled == task.attempt else fresh).append((task.id, task.attempt))
            task.recalled = task.attempt
        if fresh:
            self._out.send(engine.control, m.Recall(fresh, interrupt))
        if again and interrupt:
            self._out.send(engine.control, m.Recall(again, interrupt, again=True))

    def given_back(self, engine: Engine, given: Iterable[tuple[TaskId, int]], now: float) -> None:
        """The engine will not run these."""
        back = [task for id, attempt in given if (task := engine.sent.get(id)) and task.attempt == attempt]
        self.take_back(engine, back, now)
        self.fill(engine, now)
        self.pump(now)

    def take_back(self, engine: Engine, tasks: Sequence[Task], now: float) -> None:
        """The engine does not have these, and never began them; given in the order they were sent."""
        self._unblock(engine)
        for task in reversed(tasks):
            self._ledger.unsent(task, engine)
            self._ledger.tell_story(now, "given back by", task.id, engine.boot)
            if task.cancelled or task.cleared:
                self._ledger.fail_cancelled(task)
            else:
                self._ledger.unassigned(task)
                self.place(task, now, first=True)

    def lose(self, task: Task, engine: int, exit: Exit, started: bool | None, now: float, first: bool = True) -> None:
        """The engine that had this task is dead. ``first``: what may go on goes before what is queued."""
        task.losses += started is not False
        task.cleared = task.cleared and started is False
        if task.cancelled or task.cleared:
            self._ledger.fail_cancelled(task, started)
        elif self._may_go_on(task, started, now):
            self._ledger.unassigned(task)
            self.place(task, now, first)
        else:
            self._ledger.fail_lost(task, engine, exit, started)

    def _may_go_on(self, task: Task, started: bool | None, now: float) -> bool:
        """Whether a task whose engine died is to run elsewhere or, if addressed, in that engine's next life."""
        allowed = task.losses <= task.retries
        if task.engine is None:
            return (allowed and self._servable(task.among, now)) or (started is False and not task.losses)
        if not (allowed and task.retries):
            return False
        task.boot = None
        return task.engine in self._roster.engines or self._roster.expected(task.engine, now)

    def time_out(self, engine: Engine, tasks: Sequence[Task], silence: float, now: float) -> None:
        """Their time is up and the engine does not answer: they fail, and whatever it still does with them is nobody's.

        Parameters
        ----------
        silence : float
            Seconds for which it has not answered.
        """
        engine.given_up = engine.given_up or self._roster.begun_by(engine)
        self.recall(engine, tasks, interrupt=True)
        begun = self._roster.started(engine.boot, [(task.id, task.attempt) for task in tasks])
        for task, started in zip(tasks, begun, strict=True):
            self._ledger.unsent(task, engine)
            self._ledger.tell_story(now, "timed out on", task.id, engine.boot)
            if task.cancelled:
                self._ledger.fail_cancelled(task, started)
            else:
                self._ledger.fail_silent(task, engine.id, silence, started)
        self.fill(engine, now)
        self.pump(now)

    def abandon(self, engine: Engine, exit: Exit, now: float) -> None:
        """The engine is dead: what it had goes elsewhere or is lost."""
        self._unblock(engine)
        self.pool.file(engine)
        self._functions.unwant(engine)
        for task in reversed(engine.queue.clear()):
            self.lose(task, engine.id, exit, False, now)
        self._save(engine, now)
        tasks = list(engine.sent.values())
        begun = self._roster.started(engine.boot, [(task.id, task.attempt) for task in tasks])
        for task, started in zip(reversed(tasks), reversed(begun), strict=True):
            self._ledger.unsent(task, engine)
            self._ledger.tell_story(now, "lost with", task.id, engine.boot)
            self.lose(task, engine.id, exit, started, now)
        for task in [task for task in engine.done.values() if task.lacking]:
            self._ledger.fail_lost(task, engine.id, exit, True)  # its client waits for the result again

    def _save(self, engine: Engine, now: float) -> None:
        """What the engine had finished, but could not say any more."""
        for message, frames in self._roster.finished(engine.boot):
            if not isinstance(message, m.Result | m.Stream | m.Display) or message.task is None:
                continue
            task = self._ledger.tasks.get(message.task)
            if task is None or task.holder is not engine or task.attempt != message.attempt:
                continue
            if isinstance(message, m.Result):
                if task.state is SENT or task.lacking:
                    self.result(engine, task, message, frames, now)
            elif task.state is SENT:
                self._roster.tell_of(task.id, message)

    # ------------------------------------------------------------ what clients want

    def cancel(self, tasks: Iterable[Task], now: float) -> None:
        """These are to end."""
        recalls: dict[str, list[Task]] = {}
        for task in tasks:
            if task.state is DONE or task.state is ENDED:
                continue
            task.cancelled = True
            if task.state is SENT:
                assert task.holder is not None
                recalls.setdefault(task.holder.boot, []).append(task)
            elif task.state is not HELD or task.hint is None:
                self._ledger.fail_cancelled(task)
        for boot, recalled in recalls.items():
            self.recall(self._roster.boots[boot], recalled, interrupt=True)
        self._retry_blocked(now)
        self.pump(now)

    def clear(self, engines: Iterable[Engine], everything: bool, now: float) -> int:
        """Take away what has not begun; about how many that were."""
        cleared = 0
        ids = set()
        for engine in engines:
            ids.add(engine.id)
            cleared += sum(engine.load) - min(1, len(engine.sent))
            self._unblock(engine)
            for task in engine.queue.clear():
                self._ledger.fail_cancelled(task)
            for task in engine.sent.values():
                task.cleared = True
            self.recall(engine, engine.sent.values())
            self.pool.file(engine)
        if everything:
            waiting = [*self.balanced.clear(), *self._functions.waiting()]
            for task in waiting:
                self._ledger.fail_cancelled(task)
            for task in [task for tasks in self._ledger.held.values() for task in tasks if task.state is HELD]:
                if task.hint is None:
                    self._ledger.fail_cancelled(task)
                else:
                    task.cleared = True
                cleared += 1
            cleared += len(waiting)
        for task in list(self._ledger.later.waiting()):
            if everything or task.engine in ids:
                self._ledger.fail_cancelled(task)
                cleared += 1
        self.pump(now)
        return cleared

    # ------------------------------------------------------------ done

    def result(self, engine: Engine, task: Task, result: m.Result, frames: Sequence[Frame], now: float) -> None:
        """The engine ended a task that it has."""
        new = task.state is SENT
        if new:
            self._ledger.done(task, engine, result.outputs, result.failure)
            self._ledger.recent.note(task, engine.id, result.seconds, result.failure)
            task.large = has_large(frames)
            if task.engine is None:
                learn(engine, result.seconds)
            self._ledger.tell_story(now, "done", task.id, engine.boot)
        if self._roster.tell_of(task.id, result, frames):
            if new and task.lacking and task.outputs:
                self.send_again(engine, [task.id])
            task.lacking = False
        elif self._ledger.has_no_owner(task):
            self._ledger.end(task)
            self._ledger.forget(engine, task.id, task.attempt, now)
        if new:
            self._has_ended(engine, 1, now)

    def results(self, engine: Engine, client: Client, results: m.Results, frames: Sequence[Frame], now: float) -> bool:
        """The engine ended tasks of a client that is here. False if they are to be looked at one by one."""
        known = client.tasks
        tasks: list[Task] = []
        for number, attempt in zip(results.numbers, results.attempts, strict=True):
            task = known.get(number)
            if task is None or task.holder is not engine or task.attempt != attempt:
                return False
            if task.state is not SENT or task.lacking:
                return False
            tasks.append(task)
        if len(set(results.numbers)) < len(tasks):
            return False
        self._ledger.done_all(tasks, engine)
        for task, seconds in zip(tasks, results.seconds, strict=True):
            if task.engine is None:
                learn(engine, seconds)
            self._ledger.recent.note(task, engine.id, seconds, None)
            self._ledger.tell_story(now, "done", task.id, engine.boot)
        self._roster.tell_owner(client.id, results, frames)
        self._has_ended(engine, len(tasks), now)
        return True

    def _has_ended(self, engine: Engine, count: int, now: float) -> None:
        """The engine has ended so many tasks, and can take others."""
        engine.completed += count
        engine.progress = now
        engine.stuck = False
        if engine.queue:
            self.fill(engine, now)
        else:
            self._file(engine)
        self.pump(now)

    def repeat(self, task: Task, now: float) -> None:
        """Whoever is to hear of this task has no result of it, and may have missed output."""
        if task.state is ENDED:
            self._ledger.send_failure(task)
        elif task.state is SENT:
            task.lacking = True
        elif task.state is DONE:
            engine = task.holder
            assert engine is not None
            if engine.gone:
                self._ledger.fail_lost(task, engine.id, self._roster.exit_of(engine.boot), True)
            else:
                task.lacking = True
                self.send_again(engine, [task.id])

    def send_again(self, engine: Engine, tasks: Sequence[TaskId]) -> None:
        """Have the engine repeat these results and their output."""
        if tasks and engine.control is not None:
            self._out.send(engine.control, m.SendAgain(list(tasks)))

    # ------------------------------------------------------------ functions

    def function(self, digest: str, frames: Sequence[Frame], now: float) -> None:
        """A function arrived."""
        for task in self._functions.add(digest, frames):
            self.place(task, now)
        for engine in self._functions.take_wanting(digest):
            if engine.tasks is not None and not engine.has(digest):
                self._out.send(engine.tasks, m.Function(digest), frames)
        self._retry_blocked(now)
        self.pump(now)

    def unwant(self, engine: Engine) -> None:
        """The engine begins anew, and will ask again."""
        self._functions.unwant(engine)

    def need_function(self, engine: Engine, digest: str) -> None:
        """The engine misses a function."""
        engine.functions.pop(digest, None)
        frames = self._functions.get(digest)
        if frames is None:
            self._functions.want(digest, engine)
            for task in engine.sent.values():
                if task.function == digest:
                    self._ask_function(task)
        elif engine.tasks is not None:
            engine.has(digest)
            self._out.send(engine.tasks, m.Function(digest), frames)

    def _ask_function(self, task: Task) -> None:
        assert task.function is not None
        if self._functions.ask(task.function, task.id.client):
            self._roster.tell_owner(task.id.client, m.NeedFunction(task.function))

    def _block(self, task: Task, engine: Engine) -> None:
        """Its function is missing, or that of one before it."""
        engine.blocked.setdefault(task.id.client, Queue()).append(task)
        self._blocked[engine.boot] = engine
        if self._functions.missing(task):
            self._ask_function(task)

    def _unblock(self, engine: Engine) -> None:
        """Blocked tasks return to the front of the queue, to be tried again."""
        if not engine.blocked:
            return
        for queue in engine.blocked.values():
            for task in reversed(queue.clear()):
                engine.queue.appendleft(task)
        engine.blocked.clear()
        self._blocked.pop(engine.boot, None)

    def _retry_blocked(self, now: float) -> None:
        for engine in list(self._blocked.values()):
            self._unblock(engine)
            self.fill(engine, now)

    def retry_blocked(self, now: float) -> None:
        """What was waited for may not be wanted any more."""
        self._retry_blocked(now)
        self.pump(now)

    def check(self) -> None:
        """Assert that queues and engines hold what they should."""
        assert not self._refill, "something returned to a queue and was forgotten"
        for task in self.balanced:
            assert task.state is QUEUED and task.engine is None, f"balanced {task.id} {task.state}"
            assert not self._functions.missing(task), f"queued without its function {task.id}"
        for engine in self._roster.engines.values():
            assert engine.balanced == sum(t.engine is None for t in engine.sent.values()), f"balanced on {engine.id}"
            assert engine.timed == sum(t.timeout > 0 for t in engine.sent.values()), f"timed on {engine.id}"
            for task in engine.sent.values():
                assert task.state is SENT and task.holder is engine, f"sent {task.id} {task.state}"
                assert self._ledger.tasks.get(task.id) is task, f"sent but unknown {task.id}"
            for task in engine.done.values():
                assert task.state is DONE and task.holder is engine, f"done {task.id} {task.state}"
            for queue in (engine.queue, *engine.blocked.values()):
                for task in queue:
                    assert task.queue is queue, f"{task.id} in a wrong queue"
                    assert task.state is QUEUED and task.engine == engine.id, f"{task.id} in a wrong queue"
            if engine.queue:
                assert not engine.present or len(engine.sent) >= WINDOW, f"engine {engine.id} could take a task"
        for among in self.balanced.sets():
            idle = self.balanced.queue(among).first.timeout > 0
            assert not self.pool.free_among(among, idle), "a balanced task waits though an engine could take it"
