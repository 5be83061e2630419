"""The controller's decisions: who runs what, who is told what, what is known of the dead.

``receive``, ``left``, ``process_ended`` and ``tick`` take what happened and return effects, to be
done in order. Sockets, clock, files and processes are the caller's (``net.controller_server``).

Rules, and why:

* The controller is soft state. A client keeps each submission until its result came, an engine
  keeps each result until its *client* acknowledged it; both tell all of it at each hello. A
  controller that was killed learns everything again and drops duplicates by task id.
* Replay alone could start a task twice, while the engine that runs it is slow to come back. So
  (task, engine's boot, attempt) is journaled *before* each hand-out, and a replayed task whose
  boot has not said hello is HELD until it does, or is known dead, or the recovery window ends.
  Then it is lost, unless the client allowed retries; it is never silently run again.
* A task is started at most 1 + retries times. What an engine had not begun when it died goes
  elsewhere (balanced) or is lost with ``started=False`` (addressed).
* Nothing waits for ever: whatever is queued has an engine, or one that is expected, or fails.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import msgspec

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.effects import Drop, Effect, Enlist, Journal, Log, Peer, Send, Stop, Watch
from ipkernel_ext.core.functions import FunctionStore
from ipkernel_ext.core.messages import Exit, Failure, Hint, TaskId
from ipkernel_ext.core.queues import Queue, State, Task
from ipkernel_ext.core.roster import Agent, Client, Engine, Orphan
from ipkernel_ext.core.scheduling import RECALL_AFTER, WINDOW, Pool, learn
from ipkernel_ext.core.wire import Frame

HINT_AFTER = 0.05  # seconds with an engine, after which the client is told where a task is
FORGET_AFTER = 0.2  # seconds an acknowledgement may wait for company on its way to the engine
FORGET_AT = 64  # acknowledgements that travel at once
EXIT_REPORT = 1.0  # seconds an agent has to say how an engine ended, once the kernel said that it did

Begun = Callable[[str], Container[tuple[TaskId, int]] | None]
"""What a dead engine's record says: the (task, attempt) pairs that had begun; None where unknowable."""


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
        Looks up what a dead engine had begun.
    journal, enlisted
        What the journal of the controller's earlier life holds: where tasks went, and which boot
        has which engine id.
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
        journal: dict[TaskId, Hint] | None = None,
        enlisted: dict[int, str] | None = None,
        recovery_window: float = 10.0,
        engine_grace: float = 60.0,
        result_ttl: float = 86400.0,
    ) -> None:
        self.epoch = epoch
        self.pid = pid
        self.host = host
        self.started = now
        self.begun = begun
        self.journal = dict(journal or {})
        self.vacant = {boot: id for id, boot in (enlisted or {}).items()}
        self.recovery_until = now + recovery_window if self.vacant or self.journal else now
        self.engine_grace = engine_grace
        self.result_ttl = result_ttl

        self.peers: dict[Peer, Client | Engine | Agent] = {}
        self.engines: dict[int, Engine] = {}
        self.boots: dict[str, Engine] = {}
        self.dead: dict[str, Exit] = {}  # boots that are known to have ended, the latest few
        self.clients: dict[str, Client] = {}
        self.agents: dict[str, Agent] = {}
        self.tasks: dict[TaskId, Task] = {}
        self.orphans: dict[TaskId, Engine] = {}  # known only from an engine's inventory
        self.orphans_until = now  # when the oldest of them is too old
        self.held: dict[str, list[Task]] = {}  # by the boot they wait for
        self.balanced = Queue()
        self.pool = Pool()
        self.functions = FunctionStore()
        self.next_id = 1 + max((enlisted or {-1: ""}).keys())
        self.hints: deque[tuple[float, Task, int]] = deque()
        self.forgetful: dict[str, Engine] = {}
        self.forget_at: float | None = None
        self.rebalance_at: float | None = None
        self.silent: dict[str, Engine] = {}  # away or dying
        self.absent: dict[str, Client] = {}
        self.trouble = ""  # the last reason why engines did not come
        self.stopping = False
        self.refused = 0
        self.stories: deque[tuple[float, str, TaskId, str]] = deque(maxlen=4096)
        self._out: list[Effect] = []

    # ------------------------------------------------------------ stimuli

    def receive(self, peer: Peer, message: Any, frames: Sequence[Frame], now: float) -> list[Effect]:
        """A message arrived on a connection."""
        member = self.peers.get(peer)
        if isinstance(message, m.HelloClient):
            self._on_hello_client(peer, message, now)
        elif isinstance(message, m.HelloEngine):
            self._on_hello_engine(peer, message, now)
        elif isinstance(message, m.HelloTasks):
            self._on_hello_tasks(peer, message, now)
        elif isinstance(message, m.HelloAgent):
            self._on_hello_agent(peer, message)
        elif isinstance(member, Client):
            self._from_client(member, message, frames, now)
        elif isinstance(member, Engine):
            self._from_engine(member, message, frames, now)
        elif isinstance(member, Agent):
            self._from_agent(member, message, now)
        elif not isinstance(message, m.Goodbye):
            self._send(peer, m.HelloWanted())
        return self._take()

    def left(self, peer: Peer, now: float) -> list[Effect]:
        """The transport says that a connection is gone."""
        member = self.peers.pop(peer, None)
        if isinstance(member, Client) and member.peer == peer:
            member.peer = None
            member.away_since = now
            self.absent[member.id] = member
        elif isinstance(member, Agent) and member.peer == peer:
            self._agent_left(member)
        elif isinstance(member, Engine) and not member.gone:
            if peer == member.tasks and member.control is not None:
                self._send(member.control, m.HelloWanted())
            self._engine_away(member, now)
        return self._take()

    def process_ended(self, boot: str, now: float) -> list[Effect]:
        """The kernel says that a local engine's process is gone (but not how it ended)."""
        engine = self.boots.get(boot)
        if engine is not None:
            agent = self.agents.get(engine.record.agent or "")
            if agent is not None and agent.peer is not None:
                self._engine_away(engine, now)
                engine.dying_since = now
            else:
                self._engine_lost(engine, Exit(), now)
        return self._take()

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        for engine in list(self.silent.values()):
            if engine.dying_since is not None and now >= engine.dying_since + EXIT_REPORT:
                self._engine_lost(engine, Exit(), now)
            elif engine.away_since is not None and now >= engine.away_since + self.engine_grace:
                self._engine_lost(engine, Exit(detail=f"nothing heard for {self.engine_grace:g} s"), now)
        for client in list(self.absent.values()):
            if client.away_since is not None and now >= client.away_since + self.result_ttl:
                self._dismiss(client, now)
        if self.orphans:
            self._expire_orphans(now)
        if self.recovery_until and now >= self.recovery_until:
            self._end_recovery(now)
        self._send_hints(now)
        if self.forget_at is not None and now >= self.forget_at:
            self._flush_forget()
        if self.rebalance_at is not None and now >= self.rebalance_at:
            self._rebalance(now)
        return self._take()

    def next_deadline(self) -> float | None:
        """When ``tick`` is wanted, or None."""
        deadlines = [self.recovery_until] if self.recovery_until else []
        for engine in self.silent.values():
            if engine.dying_since is not None:
                deadlines.append(engine.dying_since + EXIT_REPORT)
            elif engine.away_since is not None:
                deadlines.append(engine.away_since + self.engine_grace)
        for client in self.absent.values():
            if client.away_since is not None:
                deadlines.append(client.away_since + self.result_ttl)
        if self.hints:
            deadlines.append(self.hints[0][0])
        if self.forget_at is not None:
            deadlines.append(self.forget_at)
        if self.rebalance_at is not None:
            deadlines.append(self.rebalance_at)
        if self.orphans:
            deadlines.append(self.orphans_until)
        return min(deadlines) if deadlines else None

    # ------------------------------------------------------------ hellos

    def _on_hello_client(self, peer: Peer, hello: m.HelloClient, now: float) -> None:
        client = self.clients.get(hello.client)
        if client is None:
            client = self.clients[hello.client] = Client(hello.client)
        elif client.peer is not None and client.peer != peer:
            self.peers.pop(client.peer, None)
        client.peer = peer
        client.away_since = None
        self.absent.pop(client.id, None)
        client.left = False
        client.host = hello.host
        client.pid = hello.pid
        self.peers[peer] = client
        unresolved = set(hello.unresolved)
        self._acknowledge(client, [number for number in client.tasks if number not in unresolved], now)
        for id in [id for id in self.orphans if id.client == client.id and id.number not in unresolved]:
            engine = self.orphans[id]
            if engine.orphans[id].finished:
                self._drop_orphan(id)
                self._forget(engine, id, now)
        self._send(peer, m.WelcomeClient([self._record(e) for e in self._in_order()], self.pid, self.host))
        if self.trouble and not self.engines:
            self._send(peer, m.EngineTrouble(self.trouble))

    def _on_hello_engine(self, peer: Peer, hello: m.HelloEngine, now: float) -> None:
        record = hello.engine
        engine = self.boots.get(record.boot)
        if record.boot in self.dead:
            self._send(peer, m.StopEngine())
            return
        if engine is None:
            engine = self._admit(record)
        for old in (engine.control, engine.tasks):
            if old is not None and old != peer:
                self.peers.pop(old, None)
        engine.control, engine.tasks, engine.generation = peer, None, hello.generation
        engine.away_since = None
        engine.stuck = False
        self.silent.pop(engine.boot, None)
        self.peers[peer] = engine
        self._send(peer, m.WelcomeEngine(engine.id))
        if record.host == self.host:
            self._out.append(Watch(engine.boot, record.pid))
        self._reconcile(engine, hello.inventory, now)
        self.pool.file(engine)
        self._tell_clients(m.EngineJoined(self._record(engine)))

    def _on_hello_tasks(self, peer: Peer, hello: m.HelloTasks, now: float) -> None:
        engine = self.boots.get(hello.boot)
        if engine is None or engine.control is None or hello.generation != engine.generation:
            return  # of a connection that has been given up; its engine says hello again
        engine.tasks = peer
        engine.progress = now
        self.peers[peer] = engine
        self._fill(engine, now)
        self._pump(now)

    def _on_hello_agent(self, peer: Peer, hello: m.HelloAgent) -> None:
        self.agents[hello.agent] = agent = Agent(hello.agent, peer, hello.host, hello.pid, hello.expected)
        self.peers[peer] = agent
        self._send(peer, m.WelcomeAgent())

    # ------------------------------------------------------------ from clients

    def _from_client(self, client: Client, message: m.FromClient, frames: Sequence[Frame], now: float) -> None:
        match message:
            case m.Submit():
                self._on_submit(client, message, frames, now)
            case m.Acknowledge():
                self._acknowledge(client, message.numbers, now)
            case m.Function():
                self._on_function(message.digest, frames, now)
            case m.Cancel():
                self._on_cancel(client, message.numbers, now)
            case m.Interrupt():
                for engine in self._named(message.engines):
                    if engine.control is not None:
                        self._send(engine.control, m.InterruptRunning())
            case m.ClearQueue():
                self._on_clear_queue(client, message, now)
            case m.Ask():
                self._on_ask(client, message, now)
            case m.EndEngines():
                self._on_end_engines(client, message)
            case m.ShutDown():
                self._shut_down(f"client {client.id} asked for it")
            case m.Goodbye():
                self._on_goodbye(client, now)
            case m.HelloClient():
                raise AssertionError("hellos are met by receive()")
            case _:
                self._refuse(client.peer, message, "a client")

    def _on_submit(self, client: Client, submit: m.Submit, frames: Sequence[Frame], now: float) -> None:
        engines, boots, hints = submit.engines, submit.boots, submit.hints
        for i, number in enumerate(submit.numbers):
            id = TaskId(client.id, number)
            known = self.tasks.get(id)
            if known is not None:
                self._on_replay(known)
                continue
            task = Task(
                id,
                submit.work,
                frames,
                engines[i] if engines is not None and i < len(engines) else None,
                boots[i] if boots is not None and i < len(boots) else None,
                submit.retries,
            )
            self.tasks[id] = client.tasks[number] = task
            if task.function is not None:
                self.functions.use(task.function)
            if id in self.orphans:
                self._adopt(task)
                continue
            hint = hints[i] if i < len(hints) else None
            written = self.journal.pop(id, None)
            if written is not None and (hint is None or written.attempt > hint.attempt):
                hint = written
            if hint is not None:
                self._recover(task, hint, now)
            else:
                self._place(task, now)
        self._pump(now)

    def _on_replay(self, task: Task) -> None:
        """The client has no result of a task we know."""
        if task.state is State.ENDED:
            self._send_failure(task)
        if task.state is not State.DONE:
            return
        engine = task.holder
        assert engine is not None
        if engine.gone:
            self._fail(task, self._lost(task, engine, self.dead.get(engine.boot, Exit()), True))
        elif engine.control is not None:
            self._send(engine.control, m.SendAgain([task.id]))

    def _on_function(self, digest: str, frames: Sequence[Frame], now: float) -> None:
        for task in self.functions.add(digest, frames):
            if task.state is State.WAITING:
                task.state = State.QUEUED
                self._place(task, now)
        for engine in self.functions.take_wanting(digest):
            if engine.tasks is not None and digest not in engine.functions:
                engine.functions.add(digest)
                self._send(engine.tasks, m.Function(digest), frames)
        self._pump(now)

    def _on_cancel(self, client: Client, numbers: Iterable[int], now: float) -> None:
        recalls: dict[str, list[tuple[TaskId, int]]] = {}
        for number in numbers:
            task = client.tasks.get(number)
            if task is None or task.state in (State.DONE, State.ENDED):
                continue
            task.cancelled = True
            if task.state is State.SENT:
                assert task.holder is not None
                recalls.setdefault(task.holder.boot, []).append((task.id, task.attempt))
            else:
                self._fail(task, _cancelled(False))
        for boot, tasks in recalls.items():
            control = self.boots[boot].control
            if control is not None:
                self._send(control, m.Recall(tasks, interrupt=True))
        self._pump(now)

    def _on_clear_queue(self, client: Client, message: m.ClearQueue, now: float) -> None:
        chosen = self._in_order() if message.engines is None else self._named(message.engines)
        cleared = 0
        for engine in chosen:
            for task in engine.queue.clear():
                self._fail(task, _cancelled(False))
                cleared += 1
            if engine.sent and engine.control is not None:
                for task in engine.sent.values():
                    task.cancelled = True
                self._send(engine.control, m.Recall([(t.id, t.attempt) for t in engine.sent.values()]))
                cleared += len(engine.sent)
            self.pool.file(engine)
        if message.engines is None:
            for task in self.balanced.clear():
                self._fail(task, _cancelled(False))
                cleared += 1
        self._answer(client, message.request, {"cleared": cleared})
        self._pump(now)

    def _on_end_engines(self, client: Client, message: m.EndEngines) -> None:
        unsupervised = []
        for engine in self._named(message.engines):
            agent = self.agents.get(engine.record.agent or "")
            if agent is not None and agent.peer is not None:
                self._send(agent.peer, m.EndEngine(engine.boot, message.restart))
            elif message.restart:
                unsupervised.append(engine.id)
            elif engine.control is not None:
                self._send(engine.control, m.StopEngine())
        self._answer(client, message.request, {"unsupervised": unsupervised})

    def _on_goodbye(self, client: Client, now: float) -> None:
        if client.peer is not None:
            self.peers.pop(client.peer, None)
            self._out.append(Drop(client.peer))
        client.peer = None
        self._dismiss(client, now)

    def _on_ask(self, client: Client, ask: m.Ask, now: float) -> None:
        if ask.question == "queue_status":
            body: dict[str, Any] = {
                "engines": [[e.id, *self._load(e), e.completed] for e in self._in_order()],
                "unassigned": len(self.balanced) + self.functions.waiting,
            }
        else:
            body = {
                "controller": {
                    "pid": self.pid,
                    "host": self.host,
                    "uptime": now - self.started,
                    "epoch": self.epoch,
                    "refused": self.refused,
                },
                "engines": [self._record(e) for e in self._in_order()],
                "clients": [
                    {"id": c.id, "host": c.host, "pid": c.pid, "connected": c.peer is not None, "tasks": len(c.tasks)}
                    for c in self.clients.values()
                ],
                "queue": [[e.id, *self._load(e), e.completed] for e in self._in_order()],
                "unassigned": len(self.balanced) + self.functions.waiting,
                "expected": self._expecting(now),
            }
        self._answer(client, ask.request, body)

    # ------------------------------------------------------------ from engines

    def _from_engine(self, engine: Engine, message: m.FromEngine, frames: Sequence[Frame], now: float) -> None:
        match message:
            case m.Result():
                self._on_result(engine, message, frames, now)
            case m.Stream() | m.Display():
                self._on_output(engine, message)
            case m.GivenBack():
                self._on_given_back(engine, message.tasks, now)
            case m.NeedFunction():
                self._on_need_function(engine, message.digest)
            case m.Goodbye():
                self._engine_lost(engine, Exit(detail="it was stopped"), now)
            case m.HelloEngine() | m.HelloTasks():
                raise AssertionError("hellos are met by receive()")
            case _:
                self._refuse(engine.control, message, "an engine")

    def _on_result(self, engine: Engine, result: m.Result, frames: Sequence[Frame], now: float) -> None:
        task = self.tasks.get(result.task)
        if task is None:
            self._add_orphan(engine, result.task, result.attempt, True, now)
        if task is None or task.holder is not engine or task.attempt != result.attempt:
            return
        if task.state is State.SENT:
            del engine.sent[task.id]
            engine.done[task.id] = task
            engine.completed += 1
            engine.progress = now
            task.state = State.DONE
            task.frames = ()
            if task.function is not None:
                self.functions.release(task.function)
            engine.stuck = False
            if task.engine is None:
                engine.balanced -= 1
                learn(engine, result.seconds)
            self._tell_story(now, "done", task.id, engine)
        client = self.clients.get(task.id.client)
        if client is not None and client.peer is not None:
            self._send(client.peer, result, frames)
        elif client is None or client.left:
            self._end(task)
            self._forget(engine, task.id, now)
        self._fill(engine, now)
        self._pump(now)

    def _on_output(self, engine: Engine, message: m.Stream | m.Display) -> None:
        owner = message.task.client if message.task is not None else engine.last_client
        client = self.clients.get(owner or "")
        if client is not None and client.peer is not None:
            self._send(client.peer, message)

    def _on_given_back(self, engine: Engine, given: Iterable[tuple[TaskId, int]], now: float) -> None:
        back: list[Task] = []
        for id, attempt in given:
            task = engine.sent.get(id)
            if task is not None and task.attempt == attempt:
                back.append(task)
        for task in reversed(back):
            self._take_back(task, engine, now)
        self._fill(engine, now)
        self._pump(now)

    def _on_need_function(self, engine: Engine, digest: str) -> None:
        engine.functions.discard(digest)
        frames = self.functions.get(digest)
        if frames is None:
            self.functions.want(digest, engine)
            for task in engine.sent.values():
                if task.function == digest:
                    self._ask_function(task)
                    return
        elif engine.tasks is not None:
            engine.functions.add(digest)
            self._send(engine.tasks, m.Function(digest), frames)

    # ------------------------------------------------------------ from agents

    def _from_agent(self, agent: Agent, message: m.FromAgent, now: float) -> None:
        match message:
            case m.EngineExited():
                engine = self.boots.get(message.boot)
                if not message.restarting:
                    agent.expected -= 1
                if engine is not None:
                    self._engine_lost(engine, message.exit, now, restarting=message.restarting)
                else:
                    self._boot_died(message.boot, message.exit, now)
            case m.AgentTrouble():
                agent.expected = 0
                self.trouble = message.reason
                for boot in [boot for boot in self.vacant if boot in self.dead]:
                    self._out.append(Enlist(self.vacant.pop(boot), None))
                self._tell_clients(m.EngineTrouble(message.reason))
                self._fail_unservable(now)
            case m.Goodbye():
                self._agent_left(agent)
            case m.HelloAgent():
                raise AssertionError("hellos are met by receive()")
            case _:
                self._refuse(agent.peer, message, "an agent")

    def _agent_left(self, agent: Agent) -> None:
        if agent.peer is not None:
            self.peers.pop(agent.peer, None)
        agent.peer = None
        self.agents.pop(agent.id, None)

    # ------------------------------------------------------------ engines come and go

    def _admit(self, record: m.EngineRecord) -> Engine:
        id = self.vacant.pop(record.boot, None)
        if id is None and record.replaces is not None:
            id = self.vacant.pop(record.replaces, None)
        if id is None and record.rank is not None:
            id = record.rank
        if id is None or id in self.engines:
            id = self.next_id
        self.next_id = max(self.next_id, id + 1)
        engine = Engine(_with(record, id=id))
        self.engines[id] = self.boots[record.boot] = engine
        self._out.append(Enlist(id, record.boot))
        self._out.append(Log(logging.INFO, f"engine {id} is here: pid {record.pid} on {record.host}"))
        return engine

    def _reconcile(self, engine: Engine, inventory: m.Inventory, now: float) -> None:
        """Set what we believe the engine holds to what it says it holds."""
        unfinished = dict([*inventory.queued, *inventory.running])
        finished = dict(inventory.finished)
        engine.functions.clear()
        for task in reversed(list(engine.sent.values())):
            if finished.get(task.id) == task.attempt:
                self._send_again(engine, task)
            elif unfinished.get(task.id) != task.attempt:
                self._take_back(task, engine, now)
            elif task.cancelled and engine.control is not None:
                self._send(engine.control, m.Recall([(task.id, task.attempt)], interrupt=True))
        for id in list(engine.orphans):
            self._drop_orphan(id)
        for holdings, done in ((unfinished, False), (finished, True)):
            for id, attempt in holdings.items():
                self._claim(engine, id, attempt, done, now)
        for task in self.held.pop(engine.boot, []):
            if task.state is State.HELD:
                task.state = State.QUEUED
                self._place(task, now)

    def _claim(self, engine: Engine, id: TaskId, attempt: int, finished: bool, now: float) -> None:
        """The engine says it holds this task."""
        task = self.tasks.get(id)
        if task is None:
            self._add_orphan(engine, id, attempt, finished, now)
        elif task.state is State.HELD and task.hint is not None and attempt >= task.hint.attempt:
            self._add_orphan(engine, id, attempt, finished, now)
            self._adopt(task)
        elif task.holder is not engine and finished:
            self._forget(engine, id, now)
        elif task.holder is not engine and engine.control is not None:
            self._send(engine.control, m.Recall([(id, attempt)]))

    def _add_orphan(self, engine: Engine, id: TaskId, attempt: int, finished: bool, now: float) -> None:
        if not self.orphans:
            self.orphans_until = now + self.result_ttl
        engine.orphans[id] = Orphan(attempt, finished, now)
        self.orphans[id] = engine
        self._settle_orphan(id, now)

    def _settle_orphan(self, id: TaskId, now: float) -> None:
        """A result is not kept when its client is here and did not replay the task."""
        engine = self.orphans[id]
        client = self.clients.get(id.client)
        welcome = client is not None and client.peer is not None
        if engine.orphans[id].finished and welcome and id not in self.tasks and now >= self.recovery_until:
            self._drop_orphan(id)
            self._forget(engine, id, now)

    def _expire_orphans(self, now: float) -> None:
        """Results that no client has come for in all this time are dropped."""
        if now < self.orphans_until:
            return
        for id, engine in list(self.orphans.items()):
            if now >= engine.orphans[id].since + self.result_ttl:
                self._drop_orphan(id)
                self._forget(engine, id, now)
        since = [engine.orphans[id].since for id, engine in self.orphans.items()]
        self.orphans_until = min(since, default=now) + self.result_ttl

    def _drop_orphan(self, id: TaskId) -> None:
        engine = self.orphans.pop(id)
        engine.orphans.pop(id, None)

    def _adopt(self, task: Task) -> None:
        """The client replays a task that an engine already holds."""
        engine = self.orphans[task.id]
        attempt, finished, _ = engine.orphans[task.id]
        self._drop_orphan(task.id)
        written = self.journal.pop(task.id, None)
        if written is not None:
            task.losses = written.losses
        task.attempt = attempt
        task.holder = engine
        task.state = State.SENT
        engine.sent[task.id] = task
        engine.balanced += task.engine is None
        self._journal(task, engine)
        if finished:
            self._send_again(engine, task)
        self.pool.file(engine)

    def _send_again(self, engine: Engine, task: Task) -> None:
        if engine.control is not None:
            self._send(engine.control, m.SendAgain([task.id]))

    def _engine_away(self, engine: Engine, now: float) -> None:
        """Its connection is gone; it may come back."""
        for peer in (engine.control, engine.tasks):
            if peer is not None:
                self.peers.pop(peer, None)
        engine.control = engine.tasks = None
        self.silent[engine.boot] = engine
        if engine.away_since is None:
            engine.away_since = now
            self._tell_clients(m.EngineJoined(self._record(engine)))
        self.pool.file(engine)

    def _engine_lost(self, engine: Engine, exit: Exit, now: float, restarting: bool = False) -> None:
        """It is dead, or counts as dead."""
        if engine.gone:
            return
        engine.gone = True
        for peer in (engine.control, engine.tasks):
            if peer is not None:
                self.peers.pop(peer, None)
        engine.control = engine.tasks = None
        self.pool.file(engine)
        self.engines.pop(engine.id)
        self.boots.pop(engine.boot)
        self.forgetful.pop(engine.boot, None)
        self.silent.pop(engine.boot, None)
        self._bury(engine.boot, exit)
        if restarting:
            self.vacant[engine.boot] = engine.id
        else:
            self._out.append(Enlist(engine.id, None))
        self._out.append(Log(logging.WARNING, f"engine {engine.id} is lost: {_how(exit)}"))
        begun = self.begun(engine.boot)
        for task in engine.queue.clear():
            self._fail(task, self._lost(task, engine, exit, False))
        for task in reversed(list(engine.sent.values())):
            started = None if begun is None else (task.id, task.attempt) in begun
            self._lose(task, engine, exit, started, now)
        for id in list(engine.orphans):
            self._drop_orphan(id)
        self._tell_clients(m.EngineLeft(engine.id, engine.boot, exit))
        self._boot_died(engine.boot, exit, now)
        self._fail_unservable(now)
        self._pump(now)

    def _lose(self, task: Task, engine: Engine, exit: Exit, started: bool | None, now: float) -> None:
        """The engine that held this task is dead."""
        engine.sent.pop(task.id, None)
        engine.balanced -= task.engine is None
        task.holder = None
        task.losses += started is not False
        self._tell_story(now, "lost with", task.id, engine)
        if task.cancelled:
            self._fail(task, _cancelled(started))
        elif not task.addressed and (started is False or task.losses <= task.retries):
            self._requeue(task)
        else:
            self._fail(task, self._lost(task, engine, exit, started))

    def _boot_died(self, boot: str, exit: Exit, now: float) -> None:
        """Whatever waits for this boot waits in vain."""
        self._bury(boot, exit)
        for task in self.held.pop(boot, []):
            if task.state is State.HELD:
                self._resolve_held(task, exit, now)
        self._pump(now)

    def _resolve_held(self, task: Task, exit: Exit, now: float) -> None:
        assert task.hint is not None
        hint = task.hint
        begun = self.begun(hint.boot) if hint.boot in self.dead else None
        started = None if begun is None else (task.id, hint.attempt) in begun
        self._lose(task, _ghost(hint.boot, hint.engine), exit, started, now)

    def _bury(self, boot: str, exit: Exit) -> None:
        self.dead[boot] = exit
        while len(self.dead) > 1024:
            del self.dead[next(iter(self.dead))]

    def _end_recovery(self, now: float) -> None:
        """Engines of the earlier life that have not come back by now count as lost."""
        self.recovery_until = 0.0
        for tasks in list(self.held.values()):
            for task in tasks:
                if task.state is State.HELD:
                    self._resolve_held(task, Exit(detail="it did not come back after the controller restarted"), now)
        self.held.clear()
        self.journal.clear()
        for boot, id in list(self.vacant.items()):
            if boot not in self.dead:
                del self.vacant[boot]
                self._out.append(Enlist(id, None))
        self._fail_unservable(now)
        self._pump(now)

    # ------------------------------------------------------------ tasks move

    def _recover(self, task: Task, hint: Hint, now: float) -> None:
        """A replayed task that an earlier life handed out."""
        task.attempt = hint.attempt
        task.losses = hint.losses
        task.hint = hint
        if not hint.boot or hint.boot in self.boots:
            self._place(task, now)  # nobody has it: that engine said hello, and would have said so
        elif hint.boot in self.dead or not self.recovery_until:
            self._resolve_held(task, self.dead.get(hint.boot, Exit(detail="nothing is known of it")), now)
        else:
            task.state = State.HELD
            self.held.setdefault(hint.boot, []).append(task)

    def _place(self, task: Task, now: float) -> None:
        """Queue a task where it belongs, or fail it if it belongs nowhere."""
        if task.function is not None and self.functions.get(task.function) is None:
            task.state = State.WAITING
            if self.functions.wait(task):
                self._ask_function(task)
        elif task.engine is None:
            if not self.engines and not self._expecting(now):
                self._fail(task, _no_engines(self.trouble))
            else:
                self.balanced.append(task)
        else:
            self._place_addressed(task, now)

    def _place_addressed(self, task: Task, now: float) -> None:
        assert task.engine is not None
        engine = self.engines.get(task.engine)
        if engine is None and task.boot is not None and task.boot in self.vacant and self.recovery_until:
            task.hint = Hint(task.engine, task.boot, task.attempt)
            task.state = State.HELD
            self.held.setdefault(task.boot, []).append(task)
        elif engine is None and task.boot is not None and (task.boot in self.dead or task.boot in self.vacant):
            ghost = _ghost(task.boot, task.engine)
            self._fail(task, self._lost(task, ghost, self.dead.get(task.boot, Exit()), False))
        elif engine is None:
            self._fail(task, _no_such_engine(task.engine, self.engines))
        elif task.boot is not None and task.boot != engine.boot:
            self._fail(task, _restarted(engine.id, self.dead.get(task.boot)))
        else:
            engine.queue.append(task)
            self._fill(engine, now)

    def _requeue(self, task: Task) -> None:
        """Put a balanced task back at the front."""
        task.state = State.QUEUED
        task.holder = None
        self._unassign(task)
        self.balanced.appendleft(task)

    def _unassign(self, task: Task) -> None:
        """Nobody has this task now."""
        hint = Hint(-1, "", task.attempt, task.losses) if task.losses else None
        self._out.append(Journal(task.id, hint))

    def _take_back(self, task: Task, engine: Engine, now: float) -> None:
        """The engine does not have this task, and never began it."""
        del engine.sent[task.id]
        engine.balanced -= task.engine is None
        task.holder = None
        self._tell_story(now, "given back by", task.id, engine)
        if task.cancelled:
            self._fail(task, _cancelled(False))
        elif task.addressed:
            task.state = State.QUEUED
            self._unassign(task)
            engine.queue.appendleft(task)
        else:
            self._requeue(task)

    def _fill(self, engine: Engine, now: float) -> None:
        """Hand out addressed tasks, as far as the window allows."""
        while engine.queue and engine.present and len(engine.sent) < WINDOW:
            self._hand_out(engine.queue.pop(), engine, now)
        self.pool.file(engine)

    def _pump(self, now: float) -> None:
        """Hand out balanced tasks while somebody can take one."""
        while self.balanced:
            engine = self.pool.choose()
            if engine is None:
                break
            self._hand_out(self.balanced.pop(), engine, now)
            self.pool.file(engine)
        if self.pool.lopsided and not self.balanced:
            if self.rebalance_at is None:
                self.rebalance_at = now + RECALL_AFTER
        else:
            self.rebalance_at = None

    def _hand_out(self, task: Task, engine: Engine, now: float) -> None:
        if not engine.sent:
            engine.progress = now
        task.attempt += 1
        task.state = State.SENT
        task.holder = engine
        engine.sent[task.id] = task
        engine.balanced += task.engine is None
        engine.last_client = task.id.client
        self._journal(task, engine)
        assert engine.tasks is not None
        if task.function is not None and task.function not in engine.functions:
            function = self.functions.get(task.function)
            assert function is not None
            engine.functions.add(task.function)
            self._send(engine.tasks, m.Function(task.function), function)
        self._send(
            engine.tasks, m.Task(task.id, task.attempt, task.work, task.engine is not None), task.frames
        )
        self.hints.append((now + HINT_AFTER, task, task.attempt))
        self._tell_story(now, "handed to", task.id, engine)

    def _journal(self, task: Task, engine: Engine) -> None:
        self._out.append(Journal(task.id, self._hint(task, engine)))

    def _hint(self, task: Task, engine: Engine) -> Hint:
        return Hint(engine.id, engine.boot, task.attempt, task.losses)

    def _rebalance(self, now: float) -> None:
        """Take unstarted work back from engines that make no progress, for those that have none."""
        for engine in self.pool.stuck(now):
            engine.stuck = True
            self.pool.file(engine)
            wanted = [(t.id, t.attempt) for t in engine.sent.values() if t.engine is None and not t.cancelled]
            if engine.control is not None:
                self._send(engine.control, m.Recall(wanted))
        self.rebalance_at = now + RECALL_AFTER if self.pool.lopsided else None

    def _acknowledge(self, client: Client, numbers: Iterable[int], now: float) -> None:
        for number in numbers:
            task = client.tasks.get(number)
            if task is None:
                continue
            holder = task.holder
            if task.state is State.DONE or task.state is State.ENDED:
                self._end(task)
            else:
                task.cancelled = True  # the client gave it up; whatever it still does is nobody's
                if task.state is not State.SENT:
                    self._end(task)
                continue
            if holder is not None and not holder.gone:
                self._forget(holder, task.id, now)

    def _forget(self, engine: Engine, id: TaskId, now: float) -> None:
        engine.forget.append(id)
        self.forgetful[engine.boot] = engine
        if self.forget_at is None:
            self.forget_at = now + FORGET_AFTER
        if len(engine.forget) >= FORGET_AT:
            self._send_forget(engine)

    def _send_forget(self, engine: Engine) -> None:
        if engine.control is not None and engine.forget:
            self._send(engine.control, m.Forget(engine.forget))
            engine.forget = []
        if not engine.forget:
            self.forgetful.pop(engine.boot, None)

    def _flush_forget(self) -> None:
        for engine in list(self.forgetful.values()):
            self._send_forget(engine)
        self.forget_at = None

    def _send_hints(self, now: float) -> None:
        """Tell clients where their longer tasks are, so that a replay can say so."""
        told: dict[tuple[str, str], m.Assigned] = {}
        while self.hints and self.hints[0][0] <= now:
            _, task, attempt = self.hints.popleft()
            if task.state is State.SENT and task.attempt == attempt and task.holder is not None:
                key = (task.id.client, task.holder.boot)
                if key not in told:
                    told[key] = m.Assigned([], [])
                told[key].numbers.append(task.id.number)
                told[key].hints.append(self._hint(task, task.holder))
        for (owner, _), assigned in told.items():
            client = self.clients.get(owner)
            if client is not None and client.peer is not None:
                self._send(client.peer, assigned)

    def _fail(self, task: Task, failure: Failure) -> None:
        """A task ends here without having a result on any engine; kept until its client has heard."""
        if task.queue is not None:
            task.queue.discard(task)
        if task.function is not None:
            self.functions.release(task.function)
        task.state = State.ENDED
        task.failure = failure
        task.frames = ()
        client = self.clients.get(task.id.client)
        if client is None or client.left:
            self._end(task)
        else:
            self._send_failure(task)

    def _send_failure(self, task: Task) -> None:
        client = self.clients[task.id.client]
        engine = -1 if task.engine is None else task.engine
        if client.peer is not None:
            self._send(client.peer, m.Result(task.id, task.attempt, engine, failure=task.failure))

    def _end(self, task: Task) -> None:
        """Nothing of this task needs to be known any more."""
        if task.queue is not None:
            task.queue.discard(task)
        if task.function is not None and task.state not in (State.DONE, State.ENDED):
            self.functions.release(task.function)
        if task.holder is not None:
            task.holder.done.pop(task.id, None)
        task.state = State.ENDED
        self.tasks.pop(task.id, None)
        self._out.append(Journal(task.id, None))
        client = self.clients.get(task.id.client)
        if client is not None:
            client.tasks.pop(task.id.number, None)
            if client.left and not client.tasks:
                del self.clients[client.id]

    def _dismiss(self, client: Client, now: float) -> None:
        """The client has left, or been away too long: what is queued still runs, results are dropped."""
        client.left = True
        client.away_since = None
        self.absent.pop(client.id, None)
        self._acknowledge(client, [n for n, t in client.tasks.items() if t.state in (State.DONE, State.ENDED)], now)
        if not client.tasks:
            self.clients.pop(client.id, None)

    def _fail_unservable(self, now: float) -> None:
        """With no engine here or to come, balanced tasks must not wait."""
        if not self.engines and not self._expecting(now):
            for task in self.balanced.clear():
                self._fail(task, _no_engines(self.trouble))

    def _expecting(self, now: float) -> bool:
        """Whether an engine may still come without anybody's doing."""
        return (
            now < self.recovery_until
            or any(agent.expected > 0 for agent in self.agents.values())
            or any(boot in self.dead for boot in self.vacant)
        )

    def shut_down(self, reason: str) -> list[Effect]:
        """End the cluster."""
        self._shut_down(reason)
        return self._take()

    def _shut_down(self, reason: str) -> None:
        if self.stopping:
            return
        self.stopping = True
        self._tell_clients(m.ClusterEnds(reason))
        for engine in self.engines.values():
            if engine.control is not None:
                self._send(engine.control, m.StopEngine())
        for agent in self.agents.values():
            if agent.peer is not None:
                self._send(agent.peer, m.StopAgent())
        self._out.append(Stop(reason))

    # ------------------------------------------------------------ small things

    def _in_order(self) -> list[Engine]:
        return [self.engines[id] for id in sorted(self.engines)]

    def _named(self, ids: Iterable[int]) -> list[Engine]:
        return [self.engines[id] for id in ids if id in self.engines]

    def _load(self, engine: Engine) -> tuple[int, int]:
        """Queued and running tasks of an engine (it runs one thing at a time)."""
        running = min(1, len(engine.sent))
        return len(engine.queue) + len(engine.sent) - running, running

    def _record(self, engine: Engine) -> m.EngineRecord:
        state = "away" if engine.away_since is not None else "ready"
        return engine.record if engine.record.state == state else _with(engine.record, state=state)

    def _send(self, peer: Peer, message: Any, frames: Sequence[Frame] = ()) -> None:
        self._out.append(Send(peer, message, frames))

    def _tell_clients(self, message: Any) -> None:
        for client in self.clients.values():
            if client.peer is not None:
                self._send(client.peer, message)

    def _answer(self, client: Client, request: int, body: dict[str, Any]) -> None:
        if client.peer is not None:
            self._send(client.peer, m.Answer(request, body))

    def _ask_function(self, task: Task) -> None:
        client = self.clients.get(task.id.client)
        if client is not None and client.peer is not None and task.function is not None:
            self._send(client.peer, m.NeedFunction(task.function))

    def _refuse(self, peer: Peer | None, message: Any, who: str) -> None:
        self.refused += 1
        text = f"{type(message).__name__} is not for {who} to send"
        self._out.append(Log(logging.WARNING, text))
        if peer is not None:
            self._send(peer, m.Refused(Failure("ProtocolError", "ProtocolError", text)))

    def _lost(self, task: Task, engine: Engine, exit: Exit, started: bool | None) -> Failure:
        began = {True: "the task had begun", False: "the task had not begun", None: "whether the task had begun is not known"}
        where = f"engine {engine.id}" if engine.id >= 0 else "the engine"
        return Failure(
            "EngineLost",
            "EngineLost",
            f"{where} is lost: {_how(exit)}; {began[started]} (task {task.id})",
            exit_code=exit.exit_code,
            signal=exit.signal,
            started=started,
        )

    def _tell_story(self, now: float, event: str, task: TaskId, engine: Engine) -> None:
        self.stories.append((now, event, task, engine.boot))

    def story(self, task: TaskId) -> list[str]:
        """What happened to a task, as far as remembered, one line an event."""
        return [f"{now:.6f} {event} {boot}" for now, event, id, boot in self.stories if id == task]

    def _take(self) -> list[Effect]:
        out, self._out = self._out, []
        return out

    def check(self) -> None:
        """Assert what must hold between stimuli."""
        for number, engine in self.engines.items():
            assert engine.id == number and not engine.gone, f"engine {number}"
            assert self.boots[engine.boot] is engine, f"boot of engine {number}"
            assert engine.balanced == sum(t.engine is None for t in engine.sent.values()), f"balanced on {number}"
            for task in engine.sent.values():
                assert task.state is State.SENT and task.holder is engine, f"sent {task.id} {task.state}"
                assert self.tasks.get(task.id) is task, f"sent but unknown {task.id}"
            for task in engine.done.values():
                assert task.state is State.DONE and task.holder is engine, f"done {task.id} {task.state}"
            for orphan in engine.orphans:
                assert self.orphans.get(orphan) is engine, f"orphan {orphan}"
                assert orphan not in self.tasks, f"orphan with an owner {orphan}"
            assert len(engine.queue) == sum(1 for _ in engine.queue), f"queue of {number}"
        assert len(self.balanced) == sum(1 for _ in self.balanced), "balanced queue"
        queued = set(map(id, self.balanced))
        for engine in self.engines.values():
            queued.update(map(id, engine.queue))
        for client in self.clients.values():
            for number, task in client.tasks.items():
                assert self.tasks.get(TaskId(client.id, number)) is task, f"client's task {number}"
        for task in self.tasks.values():
            if task.state is State.SENT:
                assert task.holder is not None and task.id in task.holder.sent, f"sent nowhere {task.id}"
            elif task.state is State.QUEUED:
                assert id(task) in queued, f"queued nowhere {task.id}"
            elif task.state is State.HELD:
                assert task.hint is not None and task in self.held.get(task.hint.boot, []), f"held nowhere {task.id}"
            assert task.state is not State.ENDED or task.id.client in self.clients, f"ended {task.id}"
        self.functions.check(self.tasks.values())


def _with(record: m.EngineRecord, **changes: Any) -> m.EngineRecord:
    return msgspec.structs.replace(record, **changes)


def _ghost(boot: str, id: int) -> Engine:
    """An engine that this life of the controller never met."""
    return Engine(m.EngineRecord(boot, "", 0, "", id=id))


def _how(exit: Exit) -> str:
    """How a process ended, in words."""
    if exit.signal is not None:
        text = f"killed by signal {exit.signal}"
    elif exit.exit_code is not None:
        text = f"exited with code {exit.exit_code}"
    else:
        return exit.detail or "its process ended"
    return f"{text} ({exit.detail})" if exit.detail else text


def _cancelled(started: bool | None) -> Failure:
    text = {
        True: "the task was cancelled while it ran",
        False: "the task was cancelled before it began",
        None: "the task was cancelled",
    }[started]
    return Failure("TaskCancelled", "TaskCancelled", text, started=started)


def _no_engines(trouble: str) -> Failure:
    text = trouble or "no engines: start some with `ipengine` or `ipcluster start`"
    return Failure("NoEngines", "NoEngines", text)


def _no_such_engine(id: int, engines: Iterable[int]) -> Failure:
    text = f"engine {id} does not exist; there are {sorted(engines)}"
    return Failure("NoSuchEngine", "NoSuchEngine", text)


def _restarted(id: int, exit: Exit | None) -> Failure:
    how = f" ({_how(exit)})" if exit is not None else ""
    return Failure(
        "EngineLost",
        "EngineLost",
        f"engine {id} was restarted{how} and its namespace is empty; nothing was run, the next call reaches the new one",
        exit_code=exit.exit_code if exit else None,
        signal=exit.signal if exit else None,
        started=False,
        restarted=True,
    )
