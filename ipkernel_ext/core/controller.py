"""The controller's decisions: who runs what, who is told what, what is known of the dead.

``receive``, ``left``, ``process_ended`` and ``tick`` take what happened and return effects, to be
done in order. Sockets, clock, files and processes are the caller's (``net.controller_server``).
This file says who may ask for what; the parts decide: ``roster`` and ``ledger`` (tables of peers
and of tasks), ``dispatch`` (tasks on their way), ``recovery`` (what an earlier life left),
``jobs`` (ids of MPI ranks), ``credit`` (clients that do not take their results), ``keeping``
(results whose clients are not here), ``answering`` (which engines do), ``looking`` (what is inside
them), ``asking`` (what they ask their users), ``following`` (who is told what others run),
``lives`` (engines come and go). Each knows those before it, none after. ``status`` and ``reasons``
tell those who ask, and change nothing.

Rules, and why:

* The controller is soft state. A client keeps each submission until its result came, an engine
  keeps each result until its *client* acknowledged it; both tell all of it at each hello. A
  controller that was killed learns everything again and drops duplicates by task id.
* Replay alone could start a task twice, while the engine that runs it is slow to come back. So
  (task, engine's boot, attempt) is journaled *before* each hand-out, and a replayed task whose
  boot has not said hello is HELD until it does, or is known dead, or the recovery window ends.
  Then it is lost, unless the client allowed retries; it is never silently run again.
* A task is started at most 1 + retries times. What an engine surely had not begun when it died
  goes elsewhere (balanced) or is lost with ``started=False`` (addressed).
* Nothing waits for ever: whatever is queued has an engine, or one that is expected, or fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ipkernel_ext.core import access, failures, status
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.answering import UNANSWERED, Answering
from ipkernel_ext.core.asking import Asking
from ipkernel_ext.core.columns import are_whole, parted
from ipkernel_ext.core.credit import Credit, size_of
from ipkernel_ext.core.dispatch import Dispatch
from ipkernel_ext.core.effects import Drop, Effect, Expire, Mailbox, Peer, Stop
from ipkernel_ext.core.following import Following
from ipkernel_ext.core.functions import FunctionStore
from ipkernel_ext.core.jobs import Jobs, is_seat
from ipkernel_ext.core.keeping import KEEP_AFTER, Keeping
from ipkernel_ext.core.ledger import Ledger
from ipkernel_ext.core.lives import Lives
from ipkernel_ext.core.looking import Looking
from ipkernel_ext.core.messages import EngineRecord, Hint, TaskId
from ipkernel_ext.core.outbox import Outbox
from ipkernel_ext.core.queues import LATER, Task
from ipkernel_ext.core.reasons import Reasons
from ipkernel_ext.core.recent import Recent
from ipkernel_ext.core.recovery import Recovery
from ipkernel_ext.core.roster import Agent, Begun, Client, Engine, Finished, Roster
from ipkernel_ext.core.wire import Frame

_ROLES: dict[type, type] = {
    m.HelloClient: Client,
    m.HelloEngine: Engine,
    m.HelloTasks: Engine,
    m.HelloAgent: Agent,
}
"""Who a hello makes its sender."""

_MAY_SAY: dict[str, tuple[type, ...]] = {
    "client": (m.HelloClient,),
    **dict.fromkeys(access.ACCESS, (m.HelloClient,)),
    "engine": (m.HelloEngine, m.HelloTasks, m.HelloAgent),
}
"""Which hellos a key is for. What may be said after a hello follows from it."""

_WHO = {Client: "a client", Engine: "an engine", Agent: "an agent"}

GRUMBLE = 60.0  # seconds between two log lines about what was refused


def _name(hello: Any) -> str:
    """Whom a hello is from."""
    match hello:
        case m.HelloClient():
            return hello.client
        case m.HelloEngine():
            return hello.engine.boot
        case m.HelloTasks():
            return hello.boot
        case m.HelloAgent():
            return hello.agent
        case _:
            raise AssertionError(f"no hello: {hello}")


class ControllerCore:
    """The controller as a state machine.

    Parameters
    ----------
    epoch : int
        Number of this life of the controller, higher than every earlier one's.
    pid, host
        Of this process, for clients to show.
    now : float
        Monotonic clock, seconds; as in every method.
    begun
        Looks up what an engine had begun.
    finished
        Looks up what a dead engine had finished last.
    journal, enlisted, expired
        What the journal of the controller's earlier life holds: where tasks went, which boot (or rank of
        an MPI job) has which engine id, and up to which number tasks of clients that were away for too
        long were dropped.
    kept
        Results in the store, each with what went wrong in its task ("": nothing).
    recovery_window : float
        Seconds in which tasks handed out by an earlier life wait for their engine.
    engine_grace : float
        Seconds an engine may be silent before it counts as lost.
    result_ttl : float
        Seconds for which an absent client's results are kept.
    """

    def __init__(
        self,
        epoch: int,
        *,
        pid: int,
        host: str,
        now: float,
        begun: Begun,
        finished: Finished = lambda boot: (),
        journal: dict[TaskId, Hint] | None = None,
        enlisted: dict[int, str] | None = None,
        expired: dict[str, int] | None = None,
        kept: dict[TaskId, str] | None = None,
        recovery_window: float = 10.0,
        engine_grace: float = 60.0,
        result_ttl: float = 86400.0,
    ) -> None:
        self.epoch = epoch
        self.pid = pid
        self.host = host
        self.refused = 0
        self.stopping = False
        self._started = now
        self._grumbled = float("-inf")
        self._ttl = result_ttl
        self._absent: dict[str, Client] = {}
        self._absent_due: float | None = None
        self._out = out = Outbox()
        until = now + recovery_window if journal or enlisted else 0.0
        boots = {id: name for id, name in (enlisted or {}).items() if not is_seat(name)}
        self._roster = roster = Roster(out, begun, finished, boots, until)
        roster.departed.update(expired or {})
        self._jobs = jobs = Jobs(out, roster, enlisted or {})
        self._functions = FunctionStore()
        self._recent = Recent(status.label)
        self._ledger = ledger = Ledger(out, roster, self._functions, self._recent)
        for id, error in (kept or {}).items():
            ledger.kept.setdefault(id.client, {})[id.number] = error
            (journal or {}).pop(id, None)
        self._dispatch = dispatch = Dispatch(out, roster, ledger, self._functions)
        self._recovery = Recovery(out, roster, jobs, ledger, dispatch, self._functions, journal or {}, now, result_ttl)
        self._keeping = Keeping(out, roster, ledger, dispatch, self._recovery)
        self._answering = Answering(out, roster, ledger, dispatch)
        self._looking = Looking(out, roster)
        self._asking = Asking(out, roster)
        self._following = Following(out, roster)
        self._lives = Lives(
            out, roster, jobs, dispatch, self._recovery, self._answering, self._looking, host, engine_grace
        )
        self._reasons = Reasons(roster, ledger, dispatch, engine_grace)

    # ------------------------------------------------------------ stimuli

    def receive(
        self, peer: Peer, message: Any, frames: Sequence[Frame], now: float, role: str | None = None
    ) -> list[Effect]:
        """A message arrived on a connection.

        Parameters
        ----------
        role : str or None
            What the key of the connection is for; None where no keys are needed, and all may be said.
        """
        member = self._roster.peers.get(peer)
        if type(message) in _ROLES:
            if role is None or type(message) in _MAY_SAY.get(role, ()):
                self._hello(peer, member, message, now, role)
            else:
                self._refuse_role(peer, message, role, now)
        elif isinstance(member, Client):
            self._from_client(member, message, frames, now)
        elif isinstance(member, Engine):
            self._from_engine(member, message, frames, now)
        elif isinstance(member, Agent):
            self._from_agent(member, message, now)
        elif not isinstance(message, m.Goodbye):
            self._out.send(peer, m.HelloWanted())
        return self._effects(now)

    def left(self, peer: Peer, now: float) -> list[Effect]:
        """The transport says that a connection is gone."""
        member = self._roster.peers.pop(peer, None)
        if isinstance(member, Client):
            self._client_away(member, now)
        elif isinstance(member, Agent):
            self._lives.agent_left(member, now)
        elif isinstance(member, Engine):
            self._lives.left(member, peer, now)
            self._keeping.settle()
        return self._effects(now)

    def process_ended(self, boot: str, now: float) -> list[Effect]:
        """The kernel says that a local engine's process is gone (but not how it ended)."""
        self._lives.process_ended(boot, now)
        self._keeping.settle()
        return self._effects(now)

    def knows(self, task: TaskId) -> bool:
        """Whether this task is not over: somebody may still want its result."""
        return task in self._ledger.tasks

    def kept(self, task: TaskId, error: str, stored: bool, now: float) -> list[Effect]:
        """The store has all that belongs to a result.

        Parameters
        ----------
        error : str
            What went wrong in the task, "" when nothing did.
        stored : bool
            It is on disk, and nobody else needs to keep it. Else it is only at hand, for those who want it now.
        """
        self._keeping.kept(task, error, stored, now)
        return self._effects(now)

    def dropped(self, tasks: Sequence[TaskId]) -> list[Effect]:
        """The store has these results no more."""
        self._keeping.dropped(tasks)
        return self._out.take()

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        self._lives.tick(now)
        self._answering.tick(now)
        self._recent.tick(now)
        self._looking.tick(now)
        self._look_after_absent(now)
        self._recovery.expire(now)
        self._keeping.tick(now)
        if self._roster.recovery_until and now >= self._roster.recovery_until:
            self._recovery.end(now)
            self._jobs.end_recovery()
            self._keeping.settle()
            self._dispatch.fail_unservable(now)
            self._dispatch.pump(now)
        self._ledger.send_hints(now)
        if self._ledger.forget_at is not None and now >= self._ledger.forget_at:
            self._ledger.flush_forget()
        if self._dispatch.rebalance_at is not None and now >= self._dispatch.rebalance_at:
            self._dispatch.rebalance(now)
        return self._effects(now)

    def _effects(self, now: float) -> list[Effect]:
        if self._ledger.later.settled:
            self._dispatch.settle(now)
        if self._recent.fresh:
            self._recent.settle(now)
        self._answering.settle(now)
        self._asking.settle()
        if self._following.active:
            self._following.settle()
        return self._out.take()

    def next_deadline(self) -> float | None:
        """When ``tick`` is wanted, or None."""
        deadlines = (
            self._roster.recovery_until or None,
            self._lives.due,
            self._answering.due,
            self._recent.due,
            self._looking.due,
            self._absent_due,
            self._recovery.journal_until,
            self._recovery.orphans_until,
            self._ledger.hints[0][0] if self._ledger.hints else None,
            self._ledger.forget_at,
            self._dispatch.rebalance_at,
            self._keeping.due,
        )
        due: float | None = None
        for deadline in deadlines:
            if deadline is not None and (due is None or deadline < due):
                due = deadline
        return due

    # ------------------------------------------------------------ hellos

    def _hello(
        self, peer: Peer, member: Client | Engine | Agent | None, hello: Any, now: float, key: str | None
    ) -> None:
        role = _ROLES[type(hello)]
        if member is not None and type(member) is not role:
            self._refuse(peer, hello, _WHO[type(member)], now)
        elif member is not None and _name(hello) != (member.boot if isinstance(member, Engine) else member.id):
            self._refuse(peer, hello, f"{_WHO[role]} of another name", now)
        elif not isinstance(hello, m.HelloTasks) and hello.protocol != m.PROTOCOL:
            self.refused += 1
            self._out.send(peer, m.Refused(failures.version(hello.protocol, m.PROTOCOL)))
        elif isinstance(hello, m.HelloClient):
            allowed = key if key in access.ACCESS else access.OWNER
            if key is None or access.may_be_called(allowed, hello.client):
                self._hello_client(peer, hello, allowed, now)
            else:
                self._refuse(peer, hello, f"a client of this key by the name {hello.client}", now)
        elif isinstance(hello, m.HelloEngine):
            self._lives.hello(peer, hello, now)
            self._keeping.engine_is_here(hello.engine.boot)
        elif isinstance(hello, m.HelloTasks):
            self._lives.hello_tasks(peer, hello, now)
        else:
            self._lives.hello_agent(peer, hello, now)

    def _hello_client(self, peer: Peer, hello: m.HelloClient, allowed: str, now: float) -> None:
        roster = self._roster
        client = roster.clients.get(hello.client)
        if client is None:
            client = Client(hello.client, roster.departed.pop(hello.client, -1))
            roster.clients[hello.client] = client
        elif hello.generation < client.generation:
            return  # of a connection that has been given up
        elif client.peer is not None and client.peer != peer:
            roster.peers.pop(client.peer, None)
        client.peer = peer
        client.access = allowed
        client.credit = Credit()
        client.generation = hello.generation
        client.here_since = now
        client.away_since = None
        client.left = False
        client.host, client.pid = hello.host, hello.pid
        client.expected = set(hello.unresolved)
        self._absent.pop(client.id, None)
        roster.peers[peer] = client
        acknowledged = [n for n in client.tasks if n not in client.expected]
        self._ledger.acknowledge(client, acknowledged, now, dict(hello.failed))
        self._keeping.end(client)
        self._recovery.client_is_here(client, now)
        here = [roster.record(engine) for engine in roster.in_order()]
        self._out.send(peer, m.WelcomeClient(here, self.pid, self.host, roster.awaited()))
        if roster.trouble and not roster.engines:
            self._out.send(peer, m.EngineTrouble(roster.trouble))
        elif roster.waits:
            self._out.send(peer, m.EngineTrouble(roster.waits, False))
        self._dispatch.retry_blocked(now)
        self._asking.client_is_here(client)

    # ------------------------------------------------------------ from clients

    def _from_client(self, client: Client, message: m.FromClient, frames: Sequence[Frame], now: float) -> None:
        if client.access != access.OWNER and not access.may(client.access, message):
            self._deny(client, message, now)
            return
        match message:
            case m.Submit():
                self._on_submit(client, message, frames, now)
            case m.Acknowledge():
                client.credit.settle(message.numbers, now)
                self._ledger.acknowledge(client, message.numbers, now, dict(message.failed))
                if self._ledger.kept:
                    self._keeping.acknowledge(client, message.numbers)
            case m.Function():
                self._dispatch.function(message.digest, frames, now)
            case m.Cancel():
                tasks = [client.tasks[number] for number in message.numbers if number in client.tasks]
                self._dispatch.cancel(tasks, now)
                if self._roster.wanted:
                    self._keeping.cancel(client, message.numbers)
            case m.Interrupt():
                for engine in self._roster.named(message.engines):
                    if engine.control is not None:
                        self._out.send(engine.control, m.InterruptRunning())
            case m.ClearQueue():
                self._on_clear_queue(client, message, now)
            case m.Ask():
                self._on_ask(client, message, now)
            case m.Why():
                self._on_why(client, message, now)
            case m.Recent():
                count, ended = self._recent.since(message.after, now)
                self._answer(client, message.request, {"count": count, "ended": ended, "now": now})
            case m.Inspect():
                self._on_inspect(client, message, now)
            case m.Follow():
                latest = self._following.follow(client, message.on, message.since)
                self._answer(client, message.request, {"latest": latest})
            case m.Input():
                self._asking.typed(client, message)
            case m.EndEngines():
                self._on_end_engines(client, message)
            case m.Scale():
                agents, fixed = self._lives.scale(message.engines)
                self._answer(client, message.request, {"agents": agents, "fixed": fixed})
            case m.ShutDown():
                self._shut_down(f"client {client.id} asked for it")
            case m.Goodbye():
                self._on_goodbye(client, now)
            case m.HelloClient():
                raise AssertionError("hellos are met by receive()")
            case _:
                self._refuse(client.peer, message, "a client", now)

    def _on_submit(self, client: Client, submit: m.Submit, frames: Sequence[Frame], now: float) -> None:
        numbers, engines, boots, hints = submit.numbers, submit.engines, submit.boots, submit.hints
        count, each = len(numbers), submit.each
        if (
            any(part and len(part) != count for part in (boots, hints))
            or (engines is not None and len(engines) != count)
            or (each and each * count != len(frames))
        ):
            self._refuse_submit(client, submit, now)
            return
        if self._following.active and numbers and numbers[0] > client.highest:
            self._following.ran(client, submit, now)
        among = None if submit.among is None else frozenset(submit.among)
        if isinstance(submit.work, m.Fetch):
            for number in numbers:
                client.expected.discard(number)
                self._keeping.fetch(client, number, submit.work.task, now)
            return
        for i, number in enumerate(numbers):
            if self._ledger.kept and self._keeping.replay(client, number):
                client.highest = max(client.highest, number)
                client.expected.discard(number)
                continue
            known = client.tasks.get(number)
            if known is not None:
                client.expected.discard(number)
                if known.state is LATER and submit.unmet is not None:
                    self._ledger.fail(known, submit.unmet)
                else:
                    self._dispatch.repeat(known, now)
                continue
            task = Task(
                TaskId(client.id, number),
                submit.work,
                frames[i * each : i * each + each] if each else frames,
                engines[i] if engines is not None else None,
                (boots[i] or None) if boots else None,
                submit.retries,
                among,
                submit.timeout,
                submit.max_result,
            )
            self._ledger.enter(client, task)
            expired = number <= client.expired  # what its client was told then says nothing any more
            if self._recovery.find(task, hints[i] if hints and not expired else None, now):
                continue
            if expired:
                self._ledger.fail(task, failures.expired(task.id))
            elif submit.unmet is not None:
                self._ledger.fail(task, submit.unmet)
            elif not submit.after or not self._ledger.wait(task, submit.after):
                self._dispatch.place(task, now)
        self._dispatch.pump(now)

    def _on_clear_queue(self, client: Client, message: m.ClearQueue, now: float) -> None:
        everything = message.engines is None
        engines = self._roster.in_order() if message.engines is None else self._roster.named(message.engines)
        self._answer(client, message.request, {"cleared": self._dispatch.clear(engines, everything, now)})

    def _on_end_engines(self, client: Client, message: m.EndEngines) -> None:
        unsupervised = []
        for engine in self._roster.named(message.engines):
            agent = self._roster.agents.get(engine.record.agent or "")
            if agent is not None and agent.peer is not None:
                self._out.send(agent.peer, m.EndEngine(engine.boot, message.restart))
            elif message.restart:
                unsupervised.append(engine.id)
            elif engine.control is not None:
                self._out.send(engine.control, m.StopEngine())
        self._answer(client, message.request, {"unsupervised": unsupervised})

    def _on_goodbye(self, client: Client, now: float) -> None:
        if client.peer is not None:
            self._roster.peers.pop(client.peer, None)
            self._out.add(Drop(client.peer))
        client.peer = None
        self._keeping.left(client)
        self._ledger.leave(client)
        self._keeping.begin(client, now)
        self._keeping.settle()
        self._asking.nobody(client)
        if client.tasks:
            self._look_for(client, now)

    def _client_away(self, client: Client, now: float) -> None:
        client.peer = None
        self._keeping.left(client)
        self._look_for(client, now)

    def _look_for(self, client: Client, now: float) -> None:
        client.away_since = now
        self._absent[client.id] = client
        due = now + min(self._ttl, KEEP_AFTER)
        self._absent_due = due if self._absent_due is None else min(due, self._absent_due)

    def _look_after_absent(self, now: float) -> None:
        if self._absent_due is None or now < self._absent_due:
            return
        due: list[float] = []
        for client in list(self._absent.values()):
            assert client.away_since is not None
            if now >= client.away_since + self._ttl:
                del self._absent[client.id]
                self._ledger.dismiss(client, now)
                self._out.add(Expire(client.id, client.expired))
                continue
            if not client.kept and now >= client.away_since + KEEP_AFTER:
                self._keeping.begin(client, now)
                self._asking.nobody(client)
            due.append(client.away_since + (self._ttl if client.kept else min(self._ttl, KEEP_AFTER)))
        self._keeping.settle()
        self._absent_due = min(due, default=None)
        self._dispatch.retry_blocked(now)

    def _on_ask(self, client: Client, ask: m.Ask, now: float) -> None:
        if ask.question == "engines":

            def engines(now: float) -> dict[str, Any]:
                return {"engines": status.engines(self._roster, self._ledger, now)}

            self._answer_later(client, ask.request, self._roster.in_order(), ask.patience, now, engines)
            return
        body = status.queues(self._roster, self._ledger, self._dispatch, self._functions)
        if ask.question == "queue_status":
            body["heads"] = status.heads(self._roster)
        if ask.question == "status":
            mine = {
                "pid": self.pid,
                "host": self.host,
                "uptime": now - self._started,
                "epoch": self.epoch,
                "refused": self.refused,
            }
            body = {
                "controller": mine,
                "engines": self.roster(),
                "clients": status.clients(self._roster, self._started),
                "queue": body["engines"],
                "unassigned": body["unassigned"],
                "expected": self._roster.expecting(now),
            }
        self._answer(client, ask.request, body)

    def _on_why(self, client: Client, why: m.Why, now: float) -> None:
        if why.tasks is None:
            ids = [task.id for task in client.tasks.values() if task.open]
            ids += [id for id, aliases in self._roster.wanted.items() if any(a.client == client.id for a in aliases)]
        else:
            ids = [self._reasons.meant(id) for id in why.tasks]

        def text(now: float) -> dict[str, Any]:
            return {
                "text": self._reasons.of_tasks(ids, now)
                if why.engine is None
                else self._reasons.of_engine(why.engine, now)
            }

        concerned = self._reasons.concerned(ids) if why.engine is None else self._roster.named([why.engine])
        self._answer_later(client, why.request, concerned, UNANSWERED, now, text)

    def _on_inspect(self, client: Client, inspect: m.Inspect, now: float) -> None:
        peer = client.peer

        def answer(told: dict[int, dict[str, Any]]) -> None:
            if client.peer == peer:
                self._answer(client, inspect.request, {"engines": list(told.items())})

        self._looking.look(inspect.engines, inspect.inspection, inspect.patience, now, answer)

    def _answer_later(
        self,
        client: Client,
        request: int,
        engines: Sequence[Engine],
        patience: float,
        now: float,
        body: Callable[[float], dict[str, Any]],
    ) -> None:
        """Answer when these engines have; on another connection, the client asks again."""
        peer = client.peer

        def answer(now: float) -> None:
            if client.peer == peer:
                self._answer(client, request, body(now))

        self._answering.ask(engines, patience, now, answer)

    # ------------------------------------------------------------ from engines and agents

    def _from_engine(self, engine: Engine, message: m.FromEngine, frames: Sequence[Frame], now: float) -> None:
        match message:
            case m.Results():
                self._on_results(engine, message, frames, now)
            case m.Result():
                self._on_result(engine, message, frames, now)
            case m.Stream() | m.Display():
                self._on_output(engine, message, now)
            case m.EngineState():
                self._lives.state(engine, message.state, now)
            case m.Measured():
                self._answering.answered(engine, message, now)
            case m.InputWanted():
                self._asking.wanted(engine, message)
            case m.Looked():
                self._looking.looked(engine, message)
            case m.GivenBack():
                self._dispatch.given_back(engine, message.tasks, now)
            case m.NeedFunction():
                self._dispatch.need_function(engine, message.digest)
            case m.Goodbye():
                self._lives.goodbye(engine, now)
            case m.HelloEngine() | m.HelloTasks():
                raise AssertionError("hellos are met by receive()")
            case _:
                self._refuse(engine.control, message, "an engine", now)

    def _on_result(self, engine: Engine, result: m.Result, frames: Sequence[Frame], now: float) -> None:
        task = self._ledger.tasks.get(result.task)
        if task is None:
            self._tell_store(result, frames)
            self._recovery.stray_result(engine, result, now)
        elif task.holder is engine and task.attempt == result.attempt:
            if self._following.active:
                self._following.failed(result, now)
            self._dispatch.result(engine, task, result, frames, now)
            self._owe(task, frames, now)
        else:
            self._ledger.forget(engine, task.id, result.attempt, now)

    def _on_results(self, engine: Engine, results: m.Results, frames: Sequence[Frame], now: float) -> None:
        """As many results; where there is nothing special about any of them, in one go."""
        if not are_whole(results, frames):
            self._refuse_parts(engine, results, now)
            return
        client = self._roster.clients.get(results.client)
        here = client is not None and client.peer is not None
        watched = self._following.active or self._roster.wanted
        if client is not None and here and not watched and self._dispatch.results(engine, client, results, frames, now):
            client.credit.owe_all(results.numbers, map(len, frames), now)
            self._look_at_credit(client, now)
            return
        for result, own in parted(results, frames):
            self._on_result(engine, result, own, now)

    def _owe(self, task: Task, frames: Sequence[Frame], now: float) -> None:
        """Its client was sent the result."""
        client = self._roster.clients.get(task.id.client)
        if client is None or client.peer is None:
            return
        client.credit.owe(task.id.number, task.shown + sum(map(len, frames)), now)
        task.shown = 0
        self._look_at_credit(client, now)

    def _look_at_credit(self, client: Client, now: float) -> None:
        """A client that does not take what it is sent counts as away."""
        if client.peer is not None and client.credit.exhausted(now):
            self._out.log(f"client {client.id} does not take its results; it counts as away until it does")
            self._out.send(client.peer, m.HelloWanted())  # it meets this when it has read what is on its way
            self._roster.peers.pop(client.peer, None)
            self._client_away(client, now)

    def _on_output(self, engine: Engine, output: m.Stream | m.Display, now: float) -> None:
        """Of a task that this engine has, or of none."""
        if output.task is None:
            self._roster.tell_owner(output.client or engine.last_client or "", output)
            if self._following.active:
                self._following.wrote(output, now)
            return
        task = self._ledger.tasks.get(output.task)
        if task is None:
            self._tell_store(output)
        elif task.holder is engine and task.attempt == output.attempt:
            self._roster.tell_of(output.task, output)
            if self._following.active:
                self._following.wrote(output, now)
            task.shown += size_of(output)

    def _tell_store(self, message: m.Result | m.Stream | m.Display, frames: Sequence[Frame] = ()) -> None:
        """Of a task whose client has acknowledged it, or has not come back; somebody else may want it."""
        assert message.task is not None
        if message.task in self._roster.wanted:
            self._out.send(Mailbox(message.task.client), message, frames)

    def _from_agent(self, agent: Agent, message: m.FromAgent, now: float) -> None:
        match message:
            case m.EngineExited():
                self._lives.exited(agent, message, now)
                self._keeping.settle()
            case m.AgentTrouble():
                self._lives.trouble(agent, message, now)
            case m.AgentDrains():
                self._lives.drain(agent, message.reason, now)
            case m.EngineMeasured():
                self._answering.seen(message)
            case m.Goodbye():
                self._lives.agent_left(agent, now, on_purpose=True)
            case m.HelloAgent():
                raise AssertionError("hellos are met by receive()")
            case _:
                self._refuse(agent.peer, message, "an agent", now)

    # ------------------------------------------------------------ answers

    def _answer(self, client: Client, request: int, body: dict[str, Any]) -> None:
        if client.peer is not None:
            self._out.send(client.peer, m.Answer(request, body))

    def _refuse(self, peer: Peer | None, message: Any, who: str, now: float) -> None:
        text = f"{type(message).__name__} is not for {who} to send"
        self._grumble(text, now)
        if peer is not None:
            self._out.send(peer, m.Refused(failures.protocol(text)))

    def _deny(self, client: Client, message: Any, now: float) -> None:
        """It may not say that: whoever waits for an answer or a result is told so."""
        self._grumble(f"{type(message).__name__} of a client whose key is for {client.access!r}", now)
        text = access.refusal(client.access, message)
        if client.peer is not None:
            failure = m.Failure("NotAllowed", "NotAllowed", text)
            self._out.send(client.peer, failures.refused(message, failure))

    def _refuse_role(self, peer: Peer, hello: Any, role: str, now: float) -> None:
        wanted = _WHO[_ROLES[type(hello)]]
        self._grumble(f"refused {wanted} with a key for the role {role!r}", now)
        self._out.send(peer, m.Refused(failures.wrong_role(wanted, role)))

    def _grumble(self, text: str, now: float) -> None:
        """Count a refusal; one in a minute is logged."""
        self.refused += 1
        if now >= self._grumbled + GRUMBLE:
            self._grumbled = now
            self._out.log(text, logging.WARNING)

    def _refuse_parts(self, engine: Engine, results: m.Results, now: float) -> None:
        text = f"Results of {len(results.numbers)} tasks with another number of attempts, times or frames"
        self._grumble(text, now)
        if engine.tasks is not None:
            self._out.send(engine.tasks, m.Refused(failures.protocol(text)))

    def _refuse_submit(self, client: Client, submit: m.Submit, now: float) -> None:
        text = f"Submit of {len(submit.numbers)} tasks with another number of engines, boots, hints or frames"
        self._grumble(text, now)
        if client.peer is not None:
            self._out.send(client.peer, failures.refused(submit, failures.protocol(text)))

    def shut_down(self, reason: str) -> list[Effect]:
        """End the cluster."""
        self._shut_down(reason)
        return self._out.take()

    def _shut_down(self, reason: str) -> None:
        if self.stopping:
            return
        self.stopping = True
        self._roster.tell_clients(m.ClusterEnds(reason))
        for engine in self._roster.engines.values():
            if engine.control is not None:
                self._out.send(engine.control, m.StopEngine())
        for agent in self._roster.agents.values():
            if agent.peer is not None:
                self._out.send(agent.peer, m.StopAgent())
        self._out.add(Stop(reason))

    # ------------------------------------------------------------ for those who watch

    def roster(self) -> list[EngineRecord]:
        """The engines, by id."""
        return [self._roster.record(engine) for engine in self._roster.in_order()]

    def story(self, task: TaskId) -> list[str]:
        """What happened to a task, as far as remembered, one line an event."""
        return self._ledger.story(task)

    def check(self) -> None:
        """Assert what must hold between stimuli."""
        self._roster.check()
        self._jobs.check()
        self._ledger.check()
        self._dispatch.check()
        self._answering.check()
        self._recent.check()
        self._looking.check()
        self._asking.check()
        self._following.check()
        self._recovery.check()

    def sizes(self) -> dict[str, int]:
        """How much is kept of what comes and goes; all but peers and clients is 0 in a quiet cluster."""
        engines = self._roster.engines.values()
        return {
            "peers": len(self._roster.peers),
            "clients": len(self._roster.clients),
            "tasks": len(self._ledger.tasks),
            "held": len(self._ledger.held),
            "hints": len(self._ledger.hints),
            "forgetful engines": len(self._ledger.forgetful),
            "to forget": sum(len(engine.forget) for engine in engines),
            "unacknowledged": sum(len(engine.done) for engine in engines),
            "expected": sum(len(client.expected) for client in self._roster.clients.values()),
            **self._functions.sizes(),
            **self._ledger.later.sizes(),
            **self._recovery.sizes(),
            **self._keeping.sizes(),
            **self._answering.sizes(),
            **self._recent.sizes(),
            **self._looking.sizes(),
            **self._asking.sizes(),
        }
