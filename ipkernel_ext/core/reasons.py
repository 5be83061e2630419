"""Why an engine or a task is not running, not here or not answering: one sentence. Changes nothing.

What engines run is as they last said; who asks here has asked them before (``answering``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ipkernel_ext.core.dispatch import Dispatch
from ipkernel_ext.core.failures import how
from ipkernel_ext.core.ledger import Ledger
from ipkernel_ext.core.messages import TaskId
from ipkernel_ext.core.queues import State, Task
from ipkernel_ext.core.roster import Engine, Roster
from ipkernel_ext.core.status import label, running
from ipkernel_ext.units import count, duration

NAMED = 3  # tasks or engines that are named; more are counted
END_IT = "kill() or restart() ends it"


class Reasons:
    """Reads the tables, and says what follows.

    Parameters
    ----------
    grace : float
        Seconds for which an engine may be away.
    """

    def __init__(self, roster: Roster, ledger: Ledger, dispatch: Dispatch, grace: float) -> None:
        self._roster = roster
        self._ledger = ledger
        self._dispatch = dispatch
        self._grace = grace

    # ------------------------------------------------------------ engines

    def of_engine(self, id: int, now: float) -> str:
        """Of an engine; "" where nothing is known of one with this id, and none is expected."""
        engine = self._roster.engines.get(id)
        if engine is None:
            return self._of_absent(id, now)
        text = self._state(engine, now)
        before = self._roster.dead.get(engine.record.replaces or "")
        return text if before is None else f"{text}; the one before it ended: {how(before.exit)}"

    def _state(self, engine: Engine, now: float, told: TaskId | None = None) -> str:
        """How it is with an engine; ``told`` need not be said to be what it runs."""
        who = f"engine {engine.id}"
        doing = running(self._roster, self._ledger, engine, now)
        what = ""
        if doing is not None and doing.task != told:
            what = f"{_named(doing.task, doing.what)} for {duration(doing.seconds)}"
        if engine.dying_since is not None:
            return f"the process of {who} has ended, and its host has not said how yet"
        if engine.away_since is not None:
            left = engine.away_since + self._grace - now
            away = duration(now - engine.away_since)
            return f"{who} has been away for {away}: its connection is gone; it is waited for {duration(left)} more"
        if engine.unresponsive and engine.asked_since is not None:
            silence = duration(now - engine.asked_since)
            text = f"{who} has not answered for {silence}: its process is stopped, or C code keeps Python's lock"
            if engine.seen is not None and engine.seen.cpu is not None:
                text += f", and it uses {engine.seen.cpu:.0f} % of a core"
            return f"{text}; it has been running {what}; {END_IT}" if what else f"{text}; {END_IT}"
        if engine.overrun:
            return f"{who} still runs {what or 'a task'}, which does not end though its time is up; {END_IT}"
        if engine.leaving:
            return f"{who} gets nothing new and ends soon: {engine.leaving}"
        queued, _ = engine.load
        behind = f"; {count(queued, 'task')} {'waits' if queued == 1 else 'wait'} behind it" if queued else ""
        if what:
            return f"{who} has been running {what}{behind}"
        if engine.tasks is None:
            return f"{who} is just connecting"
        if queued or engine.sent:
            return f"{who} is between two tasks"
        return f"{who} is ready and has nothing to do"

    def _of_absent(self, id: int, now: float) -> str:
        roster = self._roster
        boot = roster.vacancy(id)
        if boot is not None and roster.vacant[boot].agent is None:
            left = duration(roster.recovery_until - now)
            return f"engine {id} has not come back after the controller was restarted; it is waited for {left} more"
        if boot is not None:
            return f"engine {id} ended: {how(roster.exit_of(boot))}; its successor is being started"
        death = roster.death_of(id)
        if death is not None:
            dead = "is dead" if death.certain else "counts as dead"
            return f"engine {id} {dead}: {how(death.exit)}; nobody starts another one"
        if roster.trouble:
            return f"engine {id} is not here: {roster.trouble}"
        missing = self._missing()
        if not missing:
            return ""
        waits = f": {roster.waits}" if roster.waits else ""
        return f"engine {id} is not here; {count(missing, 'engine')} more {_are(missing)} expected{waits}"

    def _missing(self) -> int:
        """How many engines agents are still to bring."""
        agents, engines = self._roster.agents, self._roster.engines
        if any(agent.scales == "elsewhere" or agent.fixed for agent in agents.values()):
            there = len(engines)
        else:
            there = sum(engine.record.agent in agents for engine in engines.values())
        return max(0, sum(agent.expected for agent in agents.values()) - there)

    # ------------------------------------------------------------ tasks

    def meant(self, id: TaskId) -> TaskId:
        """The task itself, where somebody waits for another client's task under an id of their own."""
        return next((wanted for wanted, aliases in self._roster.wanted.items() if id in aliases), id)

    def concerned(self, ids: Iterable[TaskId]) -> list[Engine]:
        """The engines whose answers matter for these tasks."""
        engines: dict[str, Engine] = {}
        for id in ids:
            for task in self._roots(id):
                if task.state is State.SENT and task.holder is not None:
                    engines[task.holder.boot] = task.holder
                elif task.state is State.QUEUED and task.engine is None:
                    engines.update((engine.boot, engine) for engine in self._candidates(task))
                elif task.engine in self._roster.engines:
                    engines[self._roster.engines[task.engine].boot] = self._roster.engines[task.engine]
        return list(engines.values())

    def of_tasks(self, ids: Sequence[TaskId], now: float) -> str:
        """Of the one of these tasks that has the worst news; "" where none of them is known, or all have ended."""
        known = [task for id in ids if (task := self._ledger.tasks.get(id)) is not None]
        waiting = [task for task in known if task.open]
        if not waiting:
            return "" if len(ids) != 1 else self._ended(known[0]) if known else self._of_kept(ids[0])
        worst = min(waiting, key=self._rank)
        text = self._of_task(worst, now)
        others = len(waiting) - 1
        return f"{text} ({count(others, 'other task')} {'waits' if others == 1 else 'wait'} too)" if others else text

    def _rank(self, task: Task) -> tuple[int, int]:
        """The lower, the less likely it is that it goes on by itself."""
        engine = task.holder
        if task.state is State.SENT and engine is not None:
            if not engine.present:
                return 0, task.id.number
            return (3 if next(iter(engine.sent)) == task.id else 6), task.id.number
        nobody = task.state is State.QUEUED and not any(e.present for e in self._candidates(task))
        order = {State.HELD: 1, State.WAITING: 2, State.QUEUED: 1 if nobody else 4, State.LATER: 5}
        return order[task.state], task.id.number

    def _ended(self, task: Task) -> str:
        who = _named(task.id, label(task.work))
        if task.error:
            return f"{who} has ended: {task.error}"
        return f"{who} has ended, and its client has yet to confirm that it has the result"

    def _of_kept(self, id: TaskId) -> str:
        error = self._ledger.kept.get(id.client, {}).get(id.number)
        if error is None:
            return ""
        return f"task {id} has ended{f' ({error})' if error else ''}, and its result is kept: get_result('{id}')"

    def _of_task(self, task: Task, now: float) -> str:
        who = _named(task.id, label(task.work))
        match task.state:
            case State.SENT:
                return self._of_sent(task, who, now)
            case State.QUEUED if task.engine is not None:
                return self._of_addressed(task, self._roster.engines[task.engine], who, now)
            case State.QUEUED:
                return self._of_balanced(task, who, now)
            case State.LATER:
                return self._of_later(task, who, now)
            case State.HELD:
                death = self._roster.dead.get(task.awaited)
                vacancy = self._roster.vacant.get(task.awaited)
                where = "its engine" if vacancy is None else f"engine {vacancy.id}"
                why = "which is not back yet" if death is None else f"which ended ({how(death.exit)}), to be replaced"
                return f"{who} waits for {where}, {why}"
            case State.WAITING:
                return f"{who} waits for its function, which client {task.id.client} has been asked for"
        return self._ended(task)

    def _of_sent(self, task: Task, who: str, now: float) -> str:
        engine = task.holder
        assert engine is not None
        ending = ", and was told to end" if task.cancelled else ""
        doing = running(self._roster, self._ledger, engine, now)
        if doing is not None and doing.task == task.id:
            if engine.present:
                return f"{who} has been running on engine {engine.id} for {duration(doing.seconds)}{ending}"
            return f"{who} has begun{ending}, but {self._state(engine, now, task.id)}"
        if doing is None and engine.present:
            return f"{who} is about to begin on engine {engine.id}{ending}"
        return f"{who} has not begun{ending}: {self._state(engine, now)}"

    def _of_addressed(self, task: Task, engine: Engine, who: str, now: float) -> str:
        blocked = task.queue is not engine.queue
        if blocked:
            return f"{who} waits for its function, or one before it for its own, which its client has been asked for"
        ahead = len(engine.sent) + _position(task)
        if not ahead:
            return f"{who} has not begun: {self._state(engine, now)}"
        return f"{who} waits behind {count(ahead, 'task')} of engine {engine.id}: {self._state(engine, now)}"

    def _of_balanced(self, task: Task, who: str, now: float) -> str:
        candidates = self._candidates(task)
        wanted = "an engine" if task.among is None else f"{_listed(task.among)}, where alone it may run"
        if not candidates:
            missing = self._missing()
            waits = f": {self._roster.waits}" if self._roster.waits else ""
            expected = f"; {count(missing, 'engine')} {_are(missing)} expected{waits}" if missing else ""
            return f"{who} waits for {wanted}: none is here yet{expected}"
        place = _position(task) + 1
        busiest = max(candidates, key=lambda engine: self._since(engine, now))
        none = "it is not free" if len(candidates) == 1 else f"none of {len(candidates)} is free"
        return f"{who} is number {place} in the queue for {wanted}; {none}: {self._state(busiest, now)}"

    def _since(self, engine: Engine, now: float) -> float:
        if engine.asked_since is not None or not engine.present:
            return float("inf")
        doing = running(self._roster, self._ledger, engine, now)
        return 0.0 if doing is None else doing.seconds

    def _of_later(self, task: Task, who: str, now: float) -> str:
        after = sorted(task.after or ())
        names = _some([f"task {id}" for id in after])
        roots = [root for root in self._roots(task.id) if root is not task]
        why = self._of_task(min(roots, key=self._rank), now) if roots else "which no client has sent again yet"
        return f"{who} is to come after {names}: {why}"

    def _roots(self, id: TaskId) -> list[Task]:
        """The tasks that something waits for in the end: itself, or those that it is to come after."""
        roots: dict[TaskId, Task] = {}
        seen: set[TaskId] = set()
        ahead = [id]
        while ahead:
            id = ahead.pop()
            task = self._ledger.tasks.get(id)
            if task is None or id in seen:
                continue
            seen.add(id)
            if task.state is State.LATER:
                ahead.extend(task.after or ())
            else:
                roots[id] = task
        return list(roots.values())

    def _candidates(self, task: Task) -> list[Engine]:
        """The engines that are here and may run it."""
        if task.engine is not None:
            return self._roster.named([task.engine])
        return [e for e in self._roster.in_order() if task.among is None or e.id in task.among]


def _named(id: TaskId, what: str) -> str:
    return f"task {id} ({what})" if what else f"task {id}"


def _position(task: Task) -> int:
    """How many stand before it in its queue."""
    assert task.queue is not None
    return next(n for n, other in enumerate(task.queue) if other is task)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def _listed(ids: Iterable[int]) -> str:
    names = [str(id) for id in sorted(ids)]
    return f"engine {names[0]}" if len(names) == 1 else f"one of engines {_some(names)}"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"
