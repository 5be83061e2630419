"""An engine's decisions: what it holds, what it runs next, what it keeps until it is acknowledged.

Two connections lead to the controller. The *task* connection is read by the main thread, which
also runs user code, so a task takes no thread hand-over. The *control* connection is served by a
thread of its own, so that interrupt, recall and output work while user code runs. Both threads
call this core under one lock, which the shell (``net.engine_server``) owns.

* A task is *claimed* in here before user code of it runs. Recall answers "given back" for a task
  that is not claimed: if it has been read it is removed, if it still sits unread in the task
  connection it gets a tombstone that meets it on arrival.
* A result, with its output, is kept until its client has acknowledged it.
* A *generation* is one pair of connections. When one of them is lost both are given up: what the
  old task connection still held is not ours any more, and the hello says so. What ends between
  that hello and the opening of the new task connection is sent when it opens.
* A task may have a time for each of its items. When it is up the item is interrupted; if that has no
  effect the task fails, and the engine is *overrun* until its user code ends after all.
* The epoch fences off an earlier life of the controller: lower ones are ignored.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum
from typing import Any, Literal

import msgspec

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.effects import (
    Begin,
    Claimable,
    Effect,
    LookInside,
    RaiseInterrupt,
    Reconnect,
    Send,
    Stop,
    TellUsage,
    Typed,
)
from ipkernel_ext.core.messages import EngineRecord, TaskId
from ipkernel_ext.core.wire import Entry, Frame

FUNCTIONS = 512  # functions kept, the most recently used
OVERRUN_AFTER = 5.0  # seconds that user code has to obey the interrupt when its time is up


class Channel(Enum):
    """An engine's two connections."""

    CONTROL = "control"
    TASKS = "tasks"


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A task that this engine runs now."""

    task: m.Task
    frames: Sequence[Frame]
    function: Sequence[Frame] | None


class _Finished(msgspec.Struct, frozen=True, gc=False):
    result: m.Result
    frames: Sequence[Frame]
    outputs: list[Any]

    def effects(self, channel: Channel, outputs: Sequence[Any]) -> list[Effect]:
        """Some of its output, then the result."""
        result = Send(channel, self.result, self.frames)
        return [*(Send(channel, output) for output in outputs), result] if outputs else [result]


class EngineCore:
    """The engine as a state machine.

    Parameters
    ----------
    record : EngineRecord
        What to say of itself at each hello.
    """

    def __init__(self, record: EngineRecord) -> None:
        self.record = record
        self.epoch = 0
        self.generation = 0
        self.id = -1
        self.running: tuple[TaskId, int] | None = None
        self._welcomed = 0  # generation that the controller knows
        self._open = 0  # generation of the task connection
        self._outputs: list[Any] = []  # of the running task, those already sent
        self._claimed_in = 0  # generation in which the running task was claimed
        self._late: list[TaskId] = []  # ended since the last hello, with no task connection to say so
        self._ahead: dict[TaskId, Entry] = {}  # addressed tasks, in order
        self._balanced: dict[TaskId, Entry] = {}
        self._tombstones: set[tuple[TaskId, int]] = set()
        self._finished: dict[TaskId, _Finished] = {}
        self._timeout = 0.0  # of the running task
        self._due: float | None = None  # when the running item's time is up, or the interrupt has had no effect
        self._expired = False  # the running item's time is up
        self._overrun = False  # and the interrupt had no effect: the task has failed, and still runs
        self._wanted: m.InputWanted | None = None  # what the running task asks its user
        self._times_asked = 0
        self._functions: OrderedDict[str, Sequence[Frame]] = OrderedDict()
        self._asked: set[str] = set()  # functions asked for
        self.stopping = False

    # ------------------------------------------------------------ connections

    def connect(self) -> list[Effect]:
        """A new pair of connections begins."""
        self.generation += 1
        self._tombstones.clear()
        self._asked.clear()
        self._late.clear()
        self.id = -1 if self.epoch == 0 else self.id
        hello = m.HelloEngine(m.PROTOCOL, self.record, self.generation, self.inventory())
        return [Send(Channel.CONTROL, hello)]

    def connect_tasks(self) -> list[Effect]:
        """A task connection is open, now that the controller knows this generation.

        If the generation has been given up meanwhile nothing is said on that connection; another one
        is to be opened after the next welcome.
        """
        if self._welcomed != self.generation:
            return []
        self._open = self.generation
        self._asked.clear()
        effects: list[Effect] = [Send(Channel.TASKS, m.HelloTasks(self.record.boot, self.generation))]
        late, self._late = self._late, []
        for id in late:
            kept = self._finished.get(id)
            if kept is not None:
                effects.extend(kept.effects(Channel.TASKS, kept.outputs))
        return effects

    def inventory(self) -> m.Inventory:
        """What this engine holds."""
        queued = [(id, entry[0].attempt) for part in (self._ahead, self._balanced) for id, entry in part.items()]
        finished = [(id, kept.result.attempt) for id, kept in self._finished.items()]
        return m.Inventory(queued, [self.running] if self.running and not self._overrun else [], finished)

    # ------------------------------------------------------------ messages

    def receive(
        self, channel: Channel, generation: int, epoch: int, message: m.ToEngine, frames: Sequence[Frame]
    ) -> list[Effect]:
        """A message arrived on a connection of this generation."""
        if generation != self.generation or epoch < self.epoch:
            return []
        self.epoch = epoch
        match message:
            case m.Tasks():
                return self._on_tasks(message, frames)
            case m.Task():
                return self._on_task(message, frames)
            case m.Function():
                return self._on_function(message.digest, frames)
            case m.Recall():
                return self._on_recall(message)
            case m.InterruptRunning():
                return [] if self.running is None else [RaiseInterrupt(*self.running)]
            case m.Measure():
                return [TellUsage()]
            case m.Input():
                return self._on_input(message)
            case m.Look():
                return [LookInside(message.number, message.inspection)]
            case m.Forget():
                for id, attempt in message.tasks:
                    if self._has_ended(id, attempt):
                        del self._finished[id]
                return []
            case m.SendAgain():
                return [e for id in message.tasks if id in self._finished for e in self._deliver(id)]
            case m.WelcomeEngine():
                self._welcomed = generation
                self.id = message.id
                self.record = msgspec.structs.replace(self.record, id=message.id)
                return [] if self._wanted is None else [Send(Channel.CONTROL, self._wanted)]
            case m.HelloWanted():
                return [Reconnect()]
            case m.StopEngine():
                return self.stop("asked to")
            case m.ClusterEnds():
                return self.stop(message.reason)
            case m.Refused():
                fatal = message.failure.kind in ("VersionMismatch", "AuthenticationError")
                return self.stop(message.failure.message) if fatal else []

    def _on_task(self, task: m.Task, frames: Sequence[Frame]) -> list[Effect]:
        id = task.id
        key = (id, task.attempt)
        if key in self._tombstones:
            self._tombstones.discard(key)
            return []
        if self._has_ended(id, task.attempt):
            return self._deliver(id)
        if key == self.running or id in self._ahead or id in self._balanced:
            return []
        (self._ahead if task.ahead else self._balanced)[id] = (task, frames)
        digest = m.function_of(task.work)
        if digest is None or digest in self._functions:
            return []
        return self._ask(Channel.CONTROL, digest)

    def _on_tasks(self, tasks: m.Tasks, frames: Sequence[Frame]) -> list[Effect]:
        """As many tasks."""
        effects: list[Effect] = []
        client, work, limit = tasks.client, tasks.work, tasks.max_result
        for number, attempt, frame in zip(tasks.numbers, tasks.attempts, frames, strict=True):
            effects += self._on_task(m.Task(TaskId(client, number), attempt, work, max_result=limit), (frame,))
        return effects

    def _on_function(self, digest: str, frames: Sequence[Frame]) -> list[Effect]:
        self._asked.discard(digest)
        self._functions[digest] = frames
        self._functions.move_to_end(digest)
        while len(self._functions) > FUNCTIONS:
            self._functions.popitem(last=False)
        return []

    def _on_recall(self, recall: m.Recall) -> list[Effect]:
        effects: list[Effect] = []
        given: list[tuple[TaskId, int]] = []
        for id, attempt in recall.tasks:
            if self.running == (id, attempt):
                if recall.interrupt:
                    effects.append(RaiseInterrupt(id, attempt))
            elif not recall.again and not self._has_ended(id, attempt):
                given.append((id, attempt))
                if not self._remove(id, attempt):
                    self._tombstones.add((id, attempt))
        if self._asked:
            waiting = [task.work for part in (self._ahead, self._balanced) for task, _ in part.values()]
            self._asked.intersection_update([m.function_of(work) or "" for work in waiting])
        if given:
            effects.append(Send(Channel.CONTROL, m.GivenBack(given)))
            if self._ahead:
                effects.append(Claimable())  # what was taken out may have been in the way of the others
        return effects

    def _remove(self, id: TaskId, attempt: int) -> bool:
        """Take a task out of those that wait. False if this attempt of it has not been read yet."""
        for part in (self._ahead, self._balanced):
            entry = part.get(id)
            if entry is not None and entry[0].attempt == attempt:
                del part[id]
                return True
        return False

    def _has_ended(self, id: TaskId, attempt: int) -> bool:
        kept = self._finished.get(id)
        return kept is not None and kept.result.attempt == attempt

    def _deliver(self, id: TaskId) -> list[Effect]:
        kept = self._finished[id]
        return kept.effects(Channel.CONTROL, kept.outputs)

    # ------------------------------------------------------------ the main thread

    @property
    def busy(self) -> bool:
        """Whether tasks wait here."""
        return bool(self._ahead or self._balanced)

    def claim(self) -> tuple[Claim | None, list[Effect]]:
        """The next task to run, which from now on cannot be taken back."""
        assert self.running is None, "one thing at a time"
        effects: list[Effect] = []
        if self.stopping:
            return None, effects
        for part in (self._ahead, self._balanced):
            if not part:
                continue
            waiting: set[str] = set()  # clients whose addressed task must not be overtaken by a later one
            for id, (task, frames) in part.items():
                if waiting and id.client in waiting:
                    continue
                digest = m.function_of(task.work)
                function = None
                if digest is not None:
                    function = self._functions.get(digest)
                    if function is None:
                        effects.extend(self._ask(Channel.TASKS, digest))
                        if task.ahead:
                            waiting.add(id.client)
                        continue
                    self._functions.move_to_end(digest)
                del part[id]
                attempt = task.attempt
                self.running = (id, attempt)
                self._outputs = []
                self._claimed_in = self.generation
                self._timeout = task.timeout
                effects.append(Begin(id, attempt))
                return Claim(task, frames, function), effects
        return None, effects

    def _ask(self, channel: Channel, digest: str) -> list[Effect]:
        """Ask for a function, once."""
        if digest in self._asked:
            return []
        self._asked.add(digest)
        return [Send(channel, m.NeedFunction(digest))]

    # ------------------------------------------------------------ a line from the user

    def ask(self, prompt: str, module: str = "") -> list[Effect]:
        """The running task asks for a line or a module, and waits. What it has written was handed in before."""
        assert self.running is not None, "nothing runs"
        self._times_asked += 1
        self._wanted = m.InputWanted(self.running[0], self.id, self._times_asked, prompt, module)
        return [Send(Channel.CONTROL, self._wanted)]

    def ask_no_more(self) -> None:
        """It does not wait for its line any more."""
        self._wanted = None

    def _on_input(self, input: m.Input) -> list[Effect]:
        wanted = self._wanted
        if wanted is None or (wanted.task, wanted.asked) != (input.task, input.asked):
            return []
        self._wanted = None
        return [Typed(input.text, input.why)]

    # ------------------------------------------------------------ time

    def begin_item(self, now: float) -> bool:
        """An item of the running task begins, and its time.

        Returns
        -------
        bool
            Whether the time of the item before was up: an interrupt that was meant for it may still come.
        """
        late, self._expired = self._expired, False
        self._due = now + self._timeout
        return late

    @property
    def expired(self) -> bool:
        """Whether the running item's time is up."""
        return self._expired

    def tick(self, now: float) -> list[Effect]:
        """Do what is due. What the running task has written so far must have been handed in before."""
        if self.running is None or self._due is None or now < self._due:
            return []
        if not self._expired:
            self._expired = True
            self._due = now + OVERRUN_AFTER
            return [RaiseInterrupt(*self.running)]
        return self._give_up()

    def next_deadline(self) -> float | None:
        """When ``tick`` is wanted, or None."""
        return self._due

    def _give_up(self) -> list[Effect]:
        """The interrupt had no effect: the task has failed, though it still runs."""
        assert self.running is not None
        id, attempt = self.running
        text = (
            f"it ran longer than {self._timeout:g} s and does not obey the interrupt; "
            f"engine {self.id} still runs it: kill() or restart() ends that"
        )
        result = m.Result(id, attempt, self.id, len(self._outputs), m.Failure("TaskTimeout", "TaskTimeout", text))
        kept = self._finished[id] = _Finished(result, (), self._outputs)
        same = self._claimed_in == self.generation
        effects = self._become("overrun")
        effects.extend(kept.effects(Channel.CONTROL, () if same else kept.outputs))
        return effects

    def _become(self, state: Literal["ready", "overrun"]) -> list[Effect]:
        self._overrun = state == "overrun"
        self._due = None
        self.record = msgspec.structs.replace(self.record, state=state)
        return [Send(Channel.CONTROL, m.EngineState(state))]

    def measured(self, seconds: float, cpu: float, rss: int | None) -> m.Measured:
        """What to answer to a question.

        Parameters
        ----------
        seconds : float
            Since the last task was claimed.
        cpu, rss
            Of this process: percent of a core, bytes.
        """
        return m.Measured(self.running, 0.0 if self.running is None else seconds, cpu, rss)

    # ------------------------------------------------------------ results

    def output(self, outputs: Sequence[Any]) -> list[Effect]:
        """Output of the running task, or of none, to be sent while user code runs."""
        if self._overrun:
            outputs = [o for o in outputs if o.task is None]
        self._outputs.extend(o for o in outputs if o.task is not None)
        return [Send(Channel.CONTROL, output) for output in outputs]

    def finish(
        self,
        outputs: Sequence[Any],
        count: int,
        frames: Sequence[Frame],
        failure: m.Failure | None = None,
        execution: int | None = None,
        has_value: bool = False,
        seconds: float = 0.0,
        unseeded: bool = False,
        cpu: float = 0.0,
    ) -> list[Effect]:
        """The running task ended.

        Parameters
        ----------
        outputs
            Its output that has not been sent yet.
        count : int
            How much output it has in all, so that the client knows when it is complete.
        """
        assert self.running is not None, "nothing runs"
        id, attempt = self.running
        self._wanted = None
        expired, self._expired, self._due = self._expired, False, None
        if self._overrun:
            self.running = None
            self._outputs = []
            return self._become("ready")
        if expired and failure is not None and failure.kind == "TaskInterrupted":
            text = f"it ran longer than {self._timeout:g} s"
            failure = msgspec.structs.replace(failure, kind="TaskTimeout", type_name="TaskTimeout", message=text)
        result = m.Result(id, attempt, self.id, count, failure, execution, has_value, seconds, unseeded, cpu)
        kept = self._finished[id] = _Finished(result, frames, [*self._outputs, *outputs])
        self.running = None
        self._outputs = []
        if self._open != self.generation:
            self._late.append(id)
            return []
        same = self._claimed_in == self.generation  # else what was sent may be lost
        return kept.effects(Channel.TASKS, outputs if same else kept.outputs)

    def stop(self, reason: str) -> list[Effect]:
        """End after what runs now."""
        self.stopping = True
        return [Stop(reason)]

    def check(self) -> None:
        """Assert what must hold between stimuli."""
        inventory = self.inventory()
        held = [*inventory.queued, *inventory.running, *inventory.finished]
        assert len(held) == len(set(held)), "an attempt is in two places"
        assert not self._ahead.keys() & self._balanced.keys(), "a task waits twice"
        assert len(self._functions) <= FUNCTIONS
        assert self._due is None or self.running is not None, "nothing runs that has a time"
        assert not self._overrun or (self.running is not None and self.record.state == "overrun"), "overrun by nothing"
        assert self._wanted is None or self.running is not None, "nothing runs that asks"
        assert not self._late or self._open != self.generation, "a result was not sent"

    def sizes(self) -> dict[str, int]:
        """How much is kept that should not last; all 0 when nothing is going on."""
        return {
            "waiting tasks": len(self._ahead) + len(self._balanced),
            "results": len(self._finished),
            "tombstones": len(self._tombstones),
            "late results": len(self._late),
            "functions asked for": len(self._asked),
        }
