"""Engines and their agents come and go: ids, vacancies, silence, death.

An engine whose process ended is dead. One that is silent for too long only counts as dead: it may
still run what it had begun, so what it had is lost with ``started=None`` unless it is known to
have begun, and a task goes to another engine only if its client allowed retries.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from msgspec.structs import replace

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.answering import Answering
from ipkernel_ext.core.dispatch import Dispatch
from ipkernel_ext.core.effects import Enlist, Peer, Watch
from ipkernel_ext.core.failures import how
from ipkernel_ext.core.jobs import Jobs
from ipkernel_ext.core.looking import Looking
from ipkernel_ext.core.messages import EngineRecord, Exit
from ipkernel_ext.core.outbox import Outbox
from ipkernel_ext.core.recovery import Recovery
from ipkernel_ext.core.roster import REMEMBERED, Agent, Death, Engine, Roster, Vacancy

EXIT_REPORT = 3.0  # seconds an agent has to say how an engine ended, once the kernel said that it did
REPLACED = Exit(detail="it was restarted")


class Lives:
    """Comings and goings."""

    def __init__(
        self,
        out: Outbox,
        roster: Roster,
        jobs: Jobs,
        dispatch: Dispatch,
        recovery: Recovery,
        answering: Answering,
        looking: Looking,
        host: str,
        grace: float,
    ) -> None:
        self._out = out
        self._roster = roster
        self._jobs = jobs
        self._dispatch = dispatch
        self._recovery = recovery
        self._answering = answering
        self._looking = looking
        self._host = host
        self._grace = grace
        self._silent: dict[str, Engine] = {}  # away or dying
        self._absent: dict[str, Agent] = {}
        self.due: float | None = None  # no tick is needed before

    # ------------------------------------------------------------ engines come

    def hello(self, peer: Peer, hello: m.HelloEngine, now: float) -> None:
        """An engine's control connection."""
        record = hello.engine
        engine = self._roster.boots.get(record.boot)
        if record.boot in self._roster.dead:
            self._out.send(peer, m.StopEngine())
            return
        if engine is None:
            engine = self._admit(record, now)
        elif hello.generation < engine.generation or engine.dying_since is not None:
            return  # of a connection that has been given up, or of a process that has ended
        for old in (engine.control, engine.tasks):
            if old is not None and old != peer:
                self._roster.peers.pop(old, None)
        engine.control, engine.tasks, engine.generation = peer, None, hello.generation
        engine.away_since = None
        engine.stuck = False
        self._answering.forget(engine)
        self._looking.forget(engine)
        engine.overrun = record.state == "overrun"
        agent = self._roster.agents.get(record.agent or "")
        engine.leaving = agent.draining if agent is not None else engine.leaving
        engine.functions.clear()
        self._dispatch.unwant(engine)
        self._silent.pop(engine.boot, None)
        self._roster.peers[peer] = engine
        self._out.send(peer, m.WelcomeEngine(engine.id))
        if record.host == self._host:
            self._out.add(Watch(engine.boot, record.pid))
        self._recovery.reconcile(engine, hello.inventory, now)
        if record.replaces is not None:
            self._recovery.engine_is_here(record.replaces, now)
        self._dispatch.pool.file(engine)
        self._dispatch.fail_unservable(now)  # it may have taken another id than the one that was waited for
        self._dispatch.pump(now)
        self._roster.tell_clients(m.EngineJoined(self._roster.record(engine)))

    def hello_tasks(self, peer: Peer, hello: m.HelloTasks, now: float) -> None:
        """An engine's task connection."""
        engine = self._roster.boots.get(hello.boot)
        if engine is None or engine.control is None or hello.generation != engine.generation:
            return  # of a connection that has been given up; its engine says hello again
        if engine.tasks is not None and engine.tasks != peer:
            self._out.send(engine.control, m.HelloWanted())  # what the other one held cannot be known
            self.away(engine, now)
            return
        engine.tasks = peer
        engine.progress = now
        self._roster.peers[peer] = engine
        self._dispatch.fill(engine, now)
        self._dispatch.pump(now)

    def state(self, engine: Engine, state: str, now: float) -> None:
        """An engine says whether it can run anything."""
        engine.overrun = state == "overrun"
        engine.given_up = self._roster.begun_by(engine) if engine.overrun else None
        self._roster.tell_clients(m.EngineJoined(self._roster.record(engine)))
        self._dispatch.engine_changed(engine, now)

    def _admit(self, record: EngineRecord, now: float) -> Engine:
        roster = self._roster
        if record.replaces is not None and record.replaces != record.boot:
            self._was_replaced(record.replaces, record.agent, now)
        engine = Engine(replace(record, id=self._choose_id(record)))
        roster.next_id = max(roster.next_id, engine.id + 1)
        roster.engines[engine.id] = roster.boots[record.boot] = engine
        roster.trouble = ""
        self._jobs.join(engine)
        self._out.add(Enlist(engine.id, record.boot))
        self._out.log(f"engine {engine.id} is here: pid {record.pid} on {record.host}")
        return engine

    def _was_replaced(self, boot: str, agent: str | None, now: float) -> None:
        """The successor is here before the news of the end."""
        engine = self._roster.boots.get(boot)
        if engine is not None:
            self.lost(engine, REPLACED, now, restarting=agent or "")
        elif boot not in self._roster.dead:
            vacancy = self._roster.vacant.get(boot)
            self._roster.bury(boot, Death(REPLACED, vacancy.id if vacancy is not None else -1, True))
            self._recovery.boot_is_dead(boot, now)

    def _choose_id(self, record: EngineRecord) -> int:
        """The id it had, or that of the one it replaces, or that of its rank, or a new one."""
        roster = self._roster
        wanted: list[int] = []
        for boot in (record.boot, record.replaces):
            vacancy = roster.vacant.pop(boot or "", None)
            if vacancy is not None:
                wanted.append(vacancy.id)
                self._out.add(Enlist(vacancy.id, None))
        death = roster.dead.get(record.replaces or "")
        if death is not None:
            wanted.append(death.id)
        wanted += [self._jobs.place_of(record), record.id]
        for id in wanted:
            if self._jobs.is_free(id, record.rank):
                return id
        return self._jobs.id_for(record)

    # ------------------------------------------------------------ engines go

    def left(self, engine: Engine, peer: Peer, now: float) -> None:
        """One of its connections is gone."""
        if peer == engine.tasks and engine.control is not None:
            self._out.send(engine.control, m.HelloWanted())
        self.away(engine, now)

    def away(self, engine: Engine, now: float) -> None:
        """Its connections are gone; it may come back."""
        self._disconnect(engine)
        self._silent[engine.boot] = engine
        if engine.away_since is None:
            engine.away_since = now
            self._roster.tell_clients(m.EngineJoined(self._roster.record(engine)))
        self._due_at(now + self._grace)
        self._dispatch.pool.file(engine)

    def _disconnect(self, engine: Engine) -> None:
        for peer in (engine.control, engine.tasks):
            if peer is not None:
                self._roster.peers.pop(peer, None)
        engine.control = engine.tasks = None
        self._answering.forget(engine)
        self._looking.forget(engine)

    def process_ended(self, boot: str, now: float) -> None:
        """Its process is gone; if it has an agent, that one will say how it ended."""
        engine = self._roster.boots.get(boot)
        if engine is not None:
            self._end(engine, Exit(), now)
        else:
            self._boot_ended(boot, Exit(), now)

    def goodbye(self, engine: Engine, now: float) -> None:
        """It stops on purpose, and begins nothing any more."""
        engine.said_goodbye = True
        self._end(engine, Exit(detail="it was stopped"), now)

    def _end(self, engine: Engine, exit: Exit, now: float) -> None:
        agent = self._roster.agents.get(engine.record.agent or "")
        if agent is not None and agent.peer is not None:
            engine.dying_since = now if engine.dying_since is None else engine.dying_since
            self.away(engine, now)
            self._due_at(engine.dying_since + EXIT_REPORT)
        else:
            self.lost(engine, exit, now)

    def lost(self, engine: Engine, exit: Exit, now: float, restarting: str | None = None, certain: bool = True) -> None:
        """It is dead, or counts as dead.

        Parameters
        ----------
        restarting : str or None
            The agent that starts a successor with the same id.
        certain : bool
            Whether its process is known to have ended.
        """
        roster = self._roster
        self._disconnect(engine)
        engine.gone = True
        del roster.engines[engine.id]
        del roster.boots[engine.boot]
        self._silent.pop(engine.boot, None)
        roster.bury(engine.boot, Death(exit, engine.id, certain))
        if restarting is not None:
            roster.vacant[engine.boot] = Vacancy(engine.id, restarting)
        else:
            self._out.add(Enlist(engine.id, self._jobs.leave(engine)))
        if engine.said_goodbye:
            self._out.log(f"engine {engine.id} has left")
        else:
            self._out.log(f"engine {engine.id} is lost: {how(exit)}", logging.WARNING)
        self._recovery.engine_is_dead(engine)
        self._dispatch.abandon(engine, exit, now)
        roster.tell_clients(m.EngineLeft(engine.id, engine.boot, exit, restarting is not None))
        self._dispatch.fail_unservable(now)
        self._dispatch.pump(now)

    def _boot_ended(self, boot: str, exit: Exit, now: float, restarting: str | None = None) -> None:
        """A process that is not (or no longer) on the roster ended."""
        vacancy = self._roster.vacant.get(boot)
        self._roster.bury(boot, Death(exit, vacancy.id if vacancy is not None else -1, True))
        if vacancy is not None and restarting is not None:
            self._roster.vacant[boot] = Vacancy(vacancy.id, restarting)
            if vacancy.agent is None:
                self._roster.tell_clients(m.EngineLeft(vacancy.id, boot, exit))
        elif vacancy is not None and vacancy.agent is None:
            self._recovery.vacate(boot, now)
        self._recovery.boot_is_dead(boot, now)
        self._dispatch.fail_unservable(now)
        self._dispatch.pump(now)

    # ------------------------------------------------------------ agents

    def hello_agent(self, peer: Peer, hello: m.HelloAgent, now: float) -> None:
        """An agent's connection."""
        agent = self._roster.agents.setdefault(hello.agent, Agent(hello.agent))
        if hello.generation < agent.generation:
            return
        if agent.peer is not None and agent.peer != peer:
            self._roster.peers.pop(agent.peer, None)
        agent.peer = peer
        agent.generation = hello.generation
        agent.host, agent.pid, agent.expected = hello.host, hello.pid, hello.expected
        agent.scales, agent.fixed = hello.scales, hello.fixed
        agent.away_since = None
        self._absent.pop(agent.id, None)
        self._roster.peers[peer] = agent
        self._out.send(peer, m.WelcomeAgent())
        for exited in hello.exits:
            agent.exited[exited.boot] = None  # not among those expected
            self.exited(agent, exited, now)

    def exited(self, agent: Agent, exited: m.EngineExited, now: float) -> None:
        """An agent says how an engine ended."""
        if exited.boot not in agent.exited:
            agent.exited[exited.boot] = None
            if not exited.restarting:
                agent.expected = max(0, agent.expected - 1)
        while len(agent.exited) > REMEMBERED:
            del agent.exited[next(iter(agent.exited))]
        restarting = agent.id if exited.restarting else None
        engine = self._roster.boots.get(exited.boot)
        if engine is not None:
            self.lost(engine, exited.exit, now, restarting)
        else:
            self._settle_chain(exited, restarting, now)
            self._boot_ended(exited.boot, exited.exit, now, restarting)

    def _settle_chain(self, exited: m.EngineExited, restarting: str | None, now: float) -> None:
        """The engine that ended was to take the id of an earlier one, and may never have said hello."""
        roster = self._roster
        earlier = exited.replaces
        if earlier is None or earlier not in roster.vacant:
            return
        if earlier not in roster.dead:
            roster.bury(earlier, Death(REPLACED, -1, True))
            self._recovery.boot_is_dead(earlier, now)
        had_another = exited.boot in roster.vacant
        succeeded = any(engine.record.replaces == exited.boot for engine in roster.boots.values())
        if restarting is not None and not had_another and not succeeded:
            self._recovery.inherit(earlier, exited.boot, restarting)
        else:
            self._recovery.vacate(earlier, now)

    def scale(self, engines: int) -> tuple[int, str]:
        """Have so many engines; how many agents there are to ask, and why none of them can do it.

        Where engines are started elsewhere, those with the highest ids are ended from here.
        """
        here = [agent for agent in self._roster.agents.values() if agent.peer is not None]
        able = [agent for agent in here if agent.scales != "none"]
        if able and self._roster.trouble:  # that was then
            self._roster.trouble = ""
            self._roster.tell_clients(m.EngineTrouble(""))
        for agent in able[:1]:
            assert agent.peer is not None
            ids = sorted(self._roster.engines)
            if agent.scales == "elsewhere":
                for engine in self._roster.named(ids[engines:]):
                    if engine.control is not None:
                        self._out.send(engine.control, m.StopEngine())
                agent.expected = engines
            agent.expected = max(agent.expected, engines)
            self._out.send(agent.peer, m.ScaleAgent(engines, ids[:engines]))
        return len(able), next((agent.fixed for agent in here if agent.fixed), "")

    def drain(self, agent: Agent, reason: str, now: float) -> None:
        """An agent's engines have to end soon."""
        agent.draining = reason
        for engine in [engine for engine in self._roster.in_order() if engine.record.agent == agent.id]:
            engine.leaving = reason
            self._out.log(f"engine {engine.id} gets nothing new: {reason}")
            self._roster.tell_clients(m.EngineJoined(self._roster.record(engine)))
            self._dispatch.engine_changed(engine, now)

    def trouble(self, agent: Agent, trouble: m.AgentTrouble, now: float) -> None:
        """An agent could not start engines, or waits for somebody else to do it."""
        if trouble.expected:
            agent.expected = trouble.expected
            self._roster.waits = trouble.reason
            self._roster.tell_clients(m.EngineTrouble(trouble.reason, False))
            return
        self._roster.trouble = trouble.reason
        self._roster.waits = ""
        self._roster.tell_clients(m.EngineTrouble(trouble.reason))
        self._give_up(agent, now)

    def agent_left(self, agent: Agent, now: float, on_purpose: bool = False) -> None:
        """Its connection is gone."""
        if agent.peer is not None:
            self._roster.peers.pop(agent.peer, None)
        agent.peer = None
        if on_purpose:
            self._roster.agents.pop(agent.id, None)
            self._absent.pop(agent.id, None)
            self._give_up(agent, now)
        else:
            agent.away_since = now
            self._absent[agent.id] = agent
            self._due_at(now + self._grace)
            for boot, vacancy in self._roster.vacant.items():
                if vacancy.agent == agent.id:  # it may not come to start these successors
                    exit = self._roster.exit_of(boot)
                    self._roster.tell_clients(m.EngineLeft(vacancy.id, boot, exit))

    def _give_up(self, agent: Agent, now: float) -> None:
        """No engine is to come from this agent."""
        agent.expected = 0
        for boot in [boot for boot, vacancy in self._roster.vacant.items() if vacancy.agent == agent.id]:
            self._recovery.vacate(boot, now)
        self._dispatch.fail_unservable(now)
        self._dispatch.pump(now)

    # ------------------------------------------------------------ time

    def tick(self, now: float) -> None:
        """Whoever has been silent for too long is lost."""
        if self.due is None or now < self.due:
            return
        for engine in list(self._silent.values()):
            if engine.dying_since is not None and now >= engine.dying_since + EXIT_REPORT:
                self.lost(engine, Exit(), now)
            elif engine.away_since is not None and now >= engine.away_since + self._grace:
                exit = Exit(detail=f"nothing heard for {self._grace:g} s")
                self.lost(engine, exit, now, certain=engine.dying_since is not None)
        for agent in list(self._absent.values()):
            if agent.away_since is not None and now >= agent.away_since + self._grace:
                self.agent_left(agent, now, on_purpose=True)
        self.due = min(self._deadlines(), default=None)

    def _deadlines(self) -> Iterable[float]:
        for engine in self._silent.values():
            if engine.dying_since is not None:
                yield engine.dying_since + EXIT_REPORT
            elif engine.away_since is not None:
                yield engine.away_since + self._grace
        for agent in self._absent.values():
            if agent.away_since is not None:
                yield agent.away_since + self._grace

    def _due_at(self, time: float) -> None:
        self.due = time if self.due is None else min(self.due, time)
