"""The simulation is tested too: bugs planted in the cores, each of which it has to find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.answering import Answering
from ipkernel_ext.core.client import ClientCore
from ipkernel_ext.core.controller import ControllerCore
from ipkernel_ext.core.dependencies import Dependencies
from ipkernel_ext.core.dispatch import Dispatch
from ipkernel_ext.core.engine import EngineCore
from ipkernel_ext.core.jobs import Jobs
from ipkernel_ext.core.ledger import Ledger
from ipkernel_ext.core.lives import Lives
from ipkernel_ext.core.queues import Queue, State
from ipkernel_ext.core.recovery import Recovery
from ipkernel_ext.core.roster import Roster
from ipkernel_ext.core.scheduling import Pool
from tests.simulation.running import live

SEEDS = 500

Plant = Callable[[pytest.MonkeyPatch], None]
BUGS: dict[str, tuple[Plant, int]] = {}


def bug(seed: int) -> Callable[[Plant], Plant]:
    """Register a planted bug under its name, with a world that found it; it may be another one when worlds change."""

    def register(plant: Plant) -> Plant:
        BUGS[plant.__name__] = plant, seed
        return plant

    return register


@bug(1)
def replays_are_new_tasks(patch: pytest.MonkeyPatch) -> None:
    def repeat(self: Any, task: Any, now: float) -> None:
        if task.state is State.SENT and task.engine is None:
            self._ledger.unsent(task, task.holder)
            self.place(task, now)

    patch.setattr(Dispatch, "repeat", repeat)


@bug(2)
def no_tombstones(patch: pytest.MonkeyPatch) -> None:
    remove = EngineCore._remove
    patch.setattr(EngineCore, "_remove", lambda self, id, attempt: remove(self, id, attempt) or True)


@bug(34)
def no_journal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "_write", lambda *_: None)


@bug(10)
def no_recovery_window(patch: pytest.MonkeyPatch) -> None:
    def recover(self: Any, task: Any, hint: Any, now: float) -> None:
        task.attempt = task.attempts = hint.attempt
        self._dispatch.place(task, now)

    patch.setattr(Recovery, "_recover", recover)


@bug(123)
def attempts_are_reused(patch: pytest.MonkeyPatch) -> None:
    unsent = Ledger.unsent

    def again(self: Any, task: Any, engine: Any) -> None:
        unsent(self, task, engine)
        task.attempts = 0

    patch.setattr(Ledger, "unsent", again)


@bug(0)
def the_engine_ignores_epochs_and_generations(patch: pytest.MonkeyPatch) -> None:
    receive = EngineCore.receive

    def unfenced(self: Any, channel: Any, generation: int, epoch: int, message: Any, frames: Any) -> Any:
        return receive(self, channel, self.generation, max(epoch, self.epoch), message, frames)

    patch.setattr(EngineCore, "receive", unfenced)


@bug(1)
def a_forget_is_lost(patch: pytest.MonkeyPatch) -> None:
    def send(self: Any, engine: Any) -> None:
        engine.forget = []
        self.forgetful.pop(engine.boot, None)

    patch.setattr(Ledger, "_send_forget", send)


@bug(111)
def silence_counts_as_a_certain_death(patch: pytest.MonkeyPatch) -> None:
    lost = Lives.lost

    def certainly(self: Any, engine: Any, exit: Any, now: float, restarting: Any = None, certain: bool = True) -> None:
        lost(self, engine, exit, now, restarting)

    patch.setattr(Lives, "lost", certainly)


@bug(2)
def what_had_begun_is_not_looked_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Roster, "started", lambda self, boot, tasks: [False for _ in tasks])


@bug(1)
def every_task_is_retried(patch: pytest.MonkeyPatch) -> None:
    lose = Dispatch.lose

    def retry(self: Any, task: Any, engine: int, exit: Any, started: bool | None, now: float) -> None:
        task.retries += 1
        lose(self, task, engine, exit, started, now)

    patch.setattr(Dispatch, "lose", retry)


@bug(0)
def the_client_does_not_replay(patch: pytest.MonkeyPatch) -> None:
    welcome = ClientCore._on_welcome

    def forgetful(self: Any, message: Any) -> Any:
        return [effect for effect in welcome(self, message) if not isinstance(getattr(effect, "message", 0), m.Submit)]

    patch.setattr(ClientCore, "_on_welcome", forgetful)


@bug(8)
def late_results_are_not_said(patch: pytest.MonkeyPatch) -> None:
    connect = EngineCore.connect_tasks
    patch.setattr(EngineCore, "connect_tasks", lambda self: connect(self)[:1])


@bug(0)
def cancel_does_not_wait_for_the_engine(patch: pytest.MonkeyPatch) -> None:
    def cancel(self: Any, tasks: Any, now: float) -> None:
        for task in tasks:
            if task.state is State.SENT:
                self._ledger.unsent(task, task.holder)
            if task.state is not State.DONE and task.state is not State.ENDED:
                self._ledger.fail_cancelled(task)
        self.retry_blocked(now)

    patch.setattr(Dispatch, "cancel", cancel)


@bug(0)
def the_engine_does_not_keep_results(patch: pytest.MonkeyPatch) -> None:
    finish = EngineCore.finish

    def drop(self: Any, *args: Any, **fields: Any) -> Any:
        id, _ = self.running
        effects = finish(self, *args, **fields)
        self._finished.pop(id, None)
        return effects

    patch.setattr(EngineCore, "finish", drop)


@bug(3)
def nothing_is_sent_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dispatch, "send_again", lambda *_: None)


@bug(0)
def results_together_are_taken_for_done(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dispatch, "results", lambda *_: True)


@bug(2)
def of_tasks_together_only_the_first_is_taken(patch: pytest.MonkeyPatch) -> None:
    take = EngineCore._on_tasks

    def first(self: Any, tasks: Any, frames: Any) -> Any:
        return take(self, replace(tasks, numbers=tasks.numbers[:1], attempts=tasks.attempts[:1]), frames[:1])

    patch.setattr(EngineCore, "_on_tasks", first)


@bug(0)
def results_do_not_wait_for_output(patch: pytest.MonkeyPatch) -> None:
    def on_result(self: Any, result: Any, frames: Any, now: float) -> Any:
        if result.task.number not in self._pending:
            return self._note_acknowledge(result.task.number, now)
        return self._resolve(result, frames, now)

    patch.setattr(ClientCore, "_on_result", on_result)


@bug(11)
def what_is_taken_back_goes_to_the_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Queue, "appendleft", Queue.append)


@bug(0)
def a_replay_under_way_is_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Recovery, "_may_be_wanted", lambda self, id: False)


@bug(272)
def a_job_has_no_seats_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    begin = Jobs.__init__
    patch.setattr(Jobs, "__init__", lambda self, out, roster, enlisted: begin(self, out, roster, {}))


@bug(11)
def balanced_tasks_go_anywhere(patch: pytest.MonkeyPatch) -> None:
    choose = Pool.choose
    patch.setattr(Pool, "choose", lambda self, among=None, idle=False: choose(self, None, idle))


@bug(4)
def what_comes_after_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "wait", lambda self, task, ids: False)


@bug(8)
def what_comes_after_a_failure_runs(patch: pytest.MonkeyPatch) -> None:
    ended = Dependencies.ended
    patch.setattr(Dependencies, "ended", lambda self, id, error: ended(self, id, ""))


@bug(26)
def what_timed_out_goes_elsewhere(patch: pytest.MonkeyPatch) -> None:
    def time_out(self: Any, engine: Any, tasks: Any, silence: float, now: float) -> None:
        for task in tasks:
            self._ledger.unsent(task, engine)
            self.place(task, now, first=True)
        self.fill(engine, now)
        self.pump(now)

    patch.setattr(Dispatch, "time_out", time_out)


@bug(26)
def an_engine_stays_unresponsive(patch: pytest.MonkeyPatch) -> None:
    def answered(self: Any, engine: Any, measured: Any, now: float) -> None:
        engine.measured, engine.asked_since = measured, None
        self._asked.pop(engine.boot, None)
        self._wait_no_more(engine)

    patch.setattr(Answering, "answered", answered)


@bug(120)
def whoever_counts_as_away_is_not_told(patch: pytest.MonkeyPatch) -> None:
    def owe(self: Any, task: Any, frames: Any, now: float) -> None:
        client = self._roster.clients.get(task.id.client)
        if client is not None and client.peer is not None:
            client.credit.owe(task.id.number, task.shown, now)
            if client.credit.exhausted(now):
                self._roster.peers.pop(client.peer, None)
                self._client_away(client, now)

    patch.setattr(ControllerCore, "_owe", owe)


@pytest.mark.timeout(300)  # some are rare
@pytest.mark.parametrize("name", BUGS)
def test_the_simulation_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, first = BUGS[name]
    plant(monkeypatch)
    for seed in (first, *range(SEEDS)):
        if live(seed)[1] is not None:
            return
    pytest.fail(f"not found in {SEEDS} worlds")
