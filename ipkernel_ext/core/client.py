"""A client's decisions: what it has sent, what it still has to hear, what it must say again.

Every submission is kept until its result came, together with what the controller told of where
it went (hints), and is replayed after each new welcome. Results are acknowledged, also those that
came twice. A result is handed on when all the output that belongs to it has come.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ipkernel_ext import errors
from ipkernel_ext.core import failures
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.columns import parted
from ipkernel_ext.core.effects import (
    Answered,
    AskUser,
    Effect,
    Overheard,
    Reconnect,
    Resolve,
    RosterChanged,
    Send,
    Show,
)
from ipkernel_ext.core.messages import Failure, Hint, TaskId
from ipkernel_ext.core.wire import Frame, has_large

ACKNOWLEDGE_AFTER = 0.05  # seconds an acknowledgement may wait for company
ACKNOWLEDGE_AT = 256
TOGETHER = 256  # calls in one message, at most
FUNCTIONS = 4096  # functions believed to be at the controller
FAILED = 4096  # failed tasks remembered, for those that are to come after them

FATAL = ("VersionMismatch", "AuthenticationError")
"""Refusals after which this client cannot work with this controller."""

CONTROLLER = "controller"
"""The one peer of a client, in its effects."""


class Submission(Struct, eq=False, gc=False):
    """Tasks that share their work, until the last of them is resolved. It can be part of no cycle."""

    numbers: Sequence[int]
    work: m.Work | m.Fetch
    frames: Sequence[Frame]
    engines: Sequence[int] | None = None
    boots: Sequence[str] | None = None
    retries: int = 0
    function: Sequence[Frame] | None = None  # frames of the function that the work names
    among: Sequence[int] | None = None  # engines that may run it, if balanced
    after: Sequence[TaskId] = ()
    unmet: Failure | None = None  # one of those has failed
    timeout: float = 0.0  # seconds for each item; 0: none
    max_result: int = 0  # bytes of each task's value; 0: any

    @property
    def is_one_call(self) -> bool:
        """Whether it is one balanced task, with arguments, that waits for none."""
        return len(self.numbers) == 1 and self.engines is None and bool(self.frames) and not (self.after or self.unmet)

    def is_like(self, other: Submission) -> bool:
        """Whether two single calls differ in their arguments alone."""
        return (
            self.work == other.work
            and len(self.frames) == len(other.frames)
            and self.retries == other.retries
            and self.among == other.among
            and self.timeout == other.timeout
            and self.max_result == other.max_result
        )


class _Pending(Struct, eq=False, gc=False):
    """One task that has no result yet."""

    submission: Submission
    index: int
    attempt: int = 0  # whose output is being collected
    outputs: dict[int, Any] | None = None  # that came too early, by sequence; -1: how far it came
    hint: Hint | None = None
    result: tuple[m.Result, Sequence[Frame]] | None = None  # waits for its output
    cancelled: bool = False
    typed: m.Input | None = None  # the last line that it was given


class ClientCore:
    """The client as a state machine.

    Parameters
    ----------
    client : str
        Its id, unlike any other's.
    python, host, pid
        Said at each hello.
    """

    def __init__(self, client: str, *, python: str, host: str, pid: int) -> None:
        self.client = client
        self._python = python
        self._host = host
        self._pid = pid
        self.epoch = 0
        self.generation = 0  # counts connections
        self.connected = False
        self.engines: dict[int, m.EngineRecord] = {}
        self.lost: dict[str, m.Exit] = {}  # how boots ended, the latest few
        self.trouble = ""
        self.waits = ""  # why engines that are expected are not here yet
        self.controller: tuple[str, int] = ("", 0)  # host, pid
        self._pending: dict[int, _Pending] = {}
        self._unheard: dict[int, Any] = {}  # questions by request
        self._acknowledge: list[int] = []
        self._acknowledge_at: float | None = None
        self._follows = False
        self._told = -1  # number of the last event that this client was told of
        self._functions: OrderedDict[str, None] = OrderedDict()
        self._failed: dict[int, str] = {}  # what went wrong, the latest

    @property
    def unresolved(self) -> int:
        """How many tasks have no result yet."""
        return len(self._pending)

    # ------------------------------------------------------------ connection

    def connect(self) -> list[Effect]:
        """A new connection begins."""
        self.connected = False
        self.generation += 1
        self._functions.clear()
        self._acknowledge.clear()
        self._acknowledge_at = None
        unresolved = list(self._pending)
        waited_for = {
            id.number for p in self._pending.values() for id in p.submission.after if id.client == self.client
        }
        failed = [(number, self._failed[number]) for number in sorted(waited_for) if number in self._failed]
        hello = m.HelloClient(
            self.client, m.PROTOCOL, self._python, self._host, self._pid, unresolved, self.generation, failed
        )
        return [Send(CONTROLLER, hello), RosterChanged()]

    def disconnected(self) -> list[Effect]:
        """The connection is gone."""
        self.connected = False
        return [RosterChanged()]

    # ------------------------------------------------------------ what the user wants

    def submit(self, *submissions: Submission) -> list[Effect]:
        """New tasks. Those that differ in their arguments alone leave as one message."""
        for submission in submissions:
            for index, number in enumerate(submission.numbers):
                self._pending[number] = _Pending(submission, index)
        return self._send_together(submissions) if self.connected else []

    def cancel(self, numbers: Sequence[int]) -> list[Effect]:
        """These tasks are to end: queued ones are taken away, running ones interrupted."""
        open = [number for number in numbers if number in self._pending]
        for number in open:
            self._pending[number].cancelled = True
        return [Send(CONTROLLER, m.Cancel(open))] if open and self.connected else []

    def ask(self, question: m.Question) -> list[Effect]:
        """A question; Answered follows, at the latest with an error when the connection is lost."""
        if isinstance(question, m.Follow):
            self._follows, self._told = question.on, -1
        self._unheard[question.request] = question
        return [Send(CONTROLLER, question)] if self.connected else []

    def give(self, number: int, asked: int, text: str | None, why: str) -> list[Effect]:
        """The line that a task has asked for; None: there is none, and why."""
        pending = self._pending.get(number)
        if pending is None:
            return []
        pending.typed = m.Input(TaskId(self.client, number), asked, text, why)
        return [Send(CONTROLLER, pending.typed)] if self.connected else []

    def tell(self, message: m.Interrupt | m.ShutDown) -> list[Effect]:
        """Something without an answer."""
        return [Send(CONTROLLER, message)]

    def leave(self) -> list[Effect]:
        """Goodbye; what was sent goes on."""
        effects = self._flush_acknowledge()
        effects.append(Send(CONTROLLER, m.Goodbye()))
        return effects

    # ------------------------------------------------------------ messages

    def receive(self, epoch: int, message: m.ToClient, frames: Sequence[Frame], now: float) -> list[Effect]:
        """A message arrived."""
        if epoch < self.epoch:
            return []
        if epoch > self.epoch:
            self._told = min(self._told, 0)  # each life numbers its events anew
        self.epoch = epoch
        match message:
            case m.Results():
                return self._on_results(message, frames, now)
            case m.Result():
                return self._on_result(message, frames, now)
            case m.Stream() | m.Display():
                return self._on_output(message, now)
            case m.InputWanted():
                return self._on_input_wanted(message)
            case m.WelcomeClient():
                return self._on_welcome(message)
            case m.EngineJoined():
                self.engines[message.engine.id] = message.engine
                self.trouble = ""
                return [RosterChanged()]
            case m.EngineLeft():
                return self._on_engine_left(message, now)
            case m.EngineTrouble():
                self.trouble, self.waits = (message.reason, "") if message.final else ("", message.reason)
                return [RosterChanged()]
            case m.Assigned():
                for number, hint in zip(message.numbers, message.hints, strict=True):
                    if number in self._pending:
                        self._pending[number].hint = hint
                return []
            case m.NeedFunction():
                return self._on_need_function(message.digest)
            case m.Followed():
                self._told = message.number if self._follows else -1
                return [Overheard(message)]
            case m.Answer():
                question = self._unheard.pop(message.request, None)
                if isinstance(question, m.Follow) and question.on:
                    self._told = max(self._told, int(message.body["latest"]))
                return [Answered(message.request, message.body)]
            case m.HelloWanted():
                return [Reconnect()]
            case m.Refused():
                return self._on_refused(message)
            case m.ClusterEnds():
                return self.end(f"the cluster has ended: {message.reason}")

    def _on_welcome(self, welcome: m.WelcomeClient) -> list[Effect]:
        self.connected = True
        before = {engine.boot: engine for engine in self.engines.values()}
        away = [
            replace(before.get(boot) or m.EngineRecord(boot, "", 0, "", id), state="away")
            for id, boot in welcome.awaited
        ]
        self.engines = {engine.id: engine for engine in (*away, *welcome.engines)}
        self.controller = (welcome.host, welcome.pid)
        effects: list[Effect] = [RosterChanged()]
        effects.extend(Send(CONTROLLER, question) for question in self._unheard.values())
        if self._follows:
            effects.append(Send(CONTROLLER, m.Follow(0, True, self._told)))
        by_submission: dict[int, tuple[Submission, list[int]]] = {}
        for number, pending in self._pending.items():
            by_submission.setdefault(id(pending.submission), (pending.submission, []))[1].append(number)
        for submission, numbers in by_submission.values():
            effects.extend(self._send_submission(submission, numbers))
        cancelled = [number for number, pending in self._pending.items() if pending.cancelled]
        if cancelled:
            effects.append(Send(CONTROLLER, m.Cancel(cancelled)))
        return effects

    def _send_together(self, submissions: Sequence[Submission]) -> list[Effect]:
        """Each as a message, or as a part of the one before."""
        effects: list[Effect] = []
        first: Submission | None = None  # of a message that others may join
        for submission in submissions:
            if first is not None and submission.is_one_call and first.is_like(submission):
                message, frames = self._joined(effects, len(submission.frames))
                message.numbers.extend(submission.numbers)
                frames.extend(submission.frames)
                first = first if len(message.numbers) < TOGETHER else None
                continue
            effects.extend(self._send_submission(submission, submission.numbers))
            first = submission if submission.is_one_call else None
        return effects

    @staticmethod
    def _joined(effects: list[Effect], each: int) -> tuple[m.Submit, list[Frame]]:
        """The last message and its frames, with room for more calls."""
        last = effects[-1]
        assert isinstance(last, Send)
        if not last.message.each:
            last = effects[-1] = Send(CONTROLLER, replace(last.message, each=each), list(last.frames))
        assert isinstance(last.frames, list)
        return last.message, last.frames

    def _send_submission(self, submission: Submission, numbers: Sequence[int]) -> list[Effect]:
        effects: list[Effect] = []
        digest = m.function_of(submission.work)
        if digest is not None and digest not in self._functions:
            self._functions[digest] = None
            while len(self._functions) > FUNCTIONS:
                self._functions.popitem(last=False)
            effects.append(Send(CONTROLLER, m.Function(digest), submission.function or ()))
        pending = [self._pending[number] for number in numbers]
        engines = submission.engines
        boots = submission.boots
        message = m.Submit(
            list(numbers),
            submission.work,
            None if engines is None else [engines[p.index] for p in pending],
            None if boots is None else [boots[p.index] for p in pending],
            submission.retries,
            [p.hint for p in pending] if any(p.hint for p in pending) else [],
            None if submission.among is None else list(submission.among),
            [id for id in submission.after if id.client != self.client or id.number in self._pending],
            submission.unmet or self._unmet(submission),
            submission.timeout,
            submission.max_result,
        )
        effects.append(Send(CONTROLLER, message, submission.frames))
        return effects

    def _unmet(self, submission: Submission) -> Failure | None:
        """The first of those it is to come after that has failed or never was, as a reason not to run it."""
        for id in submission.after:
            if id.client != self.client:
                continue
            if id.number >= submission.numbers[0]:
                return failures.unknown_dependency(id, "nothing of that id was sent before")
            if id.number in self._failed:
                return failures.dependency(id, self._failed[id.number])
        return None

    def _note_failed(self, number: int, failure: Failure) -> None:
        self._failed[number] = failures.brief(failure)
        while len(self._failed) > FAILED:
            del self._failed[next(iter(self._failed))]

    def _on_need_function(self, digest: str) -> list[Effect]:
        for pending in self._pending.values():
            submission = pending.submission
            if m.function_of(submission.work) == digest and submission.function is not None:
                return [Send(CONTROLLER, m.Function(digest), submission.function)]
        return []

    def _on_output(self, output: m.Stream | m.Display, now: float) -> list[Effect]:
        if output.task is None:
            return [Show(output)]
        pending = self._pending.get(output.task.number)
        if pending is None or output.task.client != self.client:
            return []
        if pending.outputs is None or output.attempt != pending.attempt:
            pending.attempt = output.attempt
            pending.outputs = {}
        seen = pending.outputs.get(-1, 0)
        if output.sequence < seen:
            return []
        pending.outputs[output.sequence] = output
        effects: list[Effect] = []
        while seen in pending.outputs:
            effects.append(Show(pending.outputs.pop(seen)))
            seen += 1
        pending.outputs[-1] = seen
        kept = pending.result
        if kept is not None and kept[0].attempt == pending.attempt and kept[0].outputs <= seen:
            effects.extend(self._resolve(*kept, now))
        return effects

    def _on_input_wanted(self, wanted: m.InputWanted) -> list[Effect]:
        """It is said again after each loss of a connection; a line that was lost on its way is given again."""
        pending = self._pending.get(wanted.task.number)
        if pending is None or wanted.task.client != self.client:
            return []
        if pending.typed is not None and pending.typed.asked == wanted.asked:
            return [Send(CONTROLLER, pending.typed)]
        if pending.cancelled:
            return self.give(wanted.task.number, wanted.asked, None, "")
        return [AskUser(wanted)]

    def _on_result(self, result: m.Result, frames: Sequence[Frame], now: float) -> list[Effect]:
        number = result.task.number
        pending = self._pending.get(number)
        if pending is None or result.task.client != self.client:
            return self._note_acknowledge([number], now)
        if pending.result is not None and result.failure is not None and result.failure.kind == "EngineLost":
            return self._resolve(*pending.result, now)  # its engine died, but had ended the task
        seen = pending.outputs.get(-1, 0) if pending.outputs and pending.attempt == result.attempt else 0
        if result.outputs > seen:
            pending.result = (result, frames)
            return []
        return self._resolve(result, frames, now)

    def _on_results(self, results: m.Results, frames: Sequence[Frame], now: float) -> list[Effect]:
        """As many results."""
        effects: list[Effect] = []
        pending = self._pending if results.client == self.client else {}
        numbers: list[int] = []
        for result, own in parted(results, frames):
            number = result.task.number
            known = pending.get(number)
            if known is None or known.outputs is not None or known.result is not None:
                effects += self._on_result(result, own, now)
                continue
            del pending[number]
            numbers.append(number)
            effects.append(Resolve(result, own))
        return [*effects, *self._note_acknowledge(numbers, now)]

    def _resolve(self, result: m.Result, frames: Sequence[Frame], now: float) -> list[Effect]:
        number = result.task.number
        pending = self._pending.pop(number)
        failure = result.failure
        if failure is not None and failure.kind == "TaskInterrupted" and pending.cancelled:
            text = "the task was cancelled while it ran"
            result = m.Result(
                result.task,
                result.attempt,
                result.engine,
                result.outputs,
                Failure("TaskCancelled", "TaskCancelled", text, failure.traceback, started=True),
            )
            frames = ()
        if result.failure is not None:
            self._note_failed(number, result.failure)
        acknowledge = self._note_acknowledge([number], now)
        return [Resolve(result, frames), *(acknowledge or (self._flush_acknowledge() if has_large(frames) else ()))]

    def _on_refused(self, refused: m.Refused) -> list[Effect]:
        failure = refused.failure
        if failure.kind in FATAL:
            return [*self._fail_all(_error(failure), failure), *self.disconnected()]
        effects = [effect for number in refused.numbers for effect in self._fail(number, failure)]
        if self._unheard.pop(refused.request, None) is not None:
            effects.append(Answered(refused.request, None, _error(failure)))
        return effects

    def _fail(self, number: int, failure: Failure) -> list[Effect]:
        if self._pending.pop(number, None) is None:
            return []
        self._note_failed(number, failure)
        return [Resolve(m.Result(TaskId(self.client, number), 0, -1, failure=failure), ())]

    def _on_engine_left(self, left: m.EngineLeft, now: float) -> list[Effect]:
        self.lost[left.boot] = left.exit
        while len(self.lost) > 1024:
            del self.lost[next(iter(self.lost))]
        engine = self.engines.get(left.engine)
        if engine is not None and (engine.boot == left.boot or engine.state == "restarting"):
            if left.restarting:
                self.engines[left.engine] = replace(engine, state="restarting")
            else:
                del self.engines[left.engine]
        effects: list[Effect] = [RosterChanged()]
        for result, frames in [p.result for p in self._pending.values() if p.result is not None]:
            if result.engine == left.engine:  # the rest of its output is lost
                effects.extend(self._resolve(result, frames, now))
        return effects

    def end(self, reason: str) -> list[Effect]:
        """The cluster ended, or this client does: nothing more will come."""
        self.connected = False
        self.engines = {}
        failure = Failure("TaskCancelled", "TaskCancelled", reason)
        return [
            *self._fail_all(errors.NotConnected(reason), failure),
            RosterChanged(),
        ]

    def _fail_all(self, error: Exception, failure: Failure) -> list[Effect]:
        effects = [effect for number in list(self._pending) for effect in self._fail(number, failure)]
        effects.extend(Answered(request, None, error) for request in self._unheard)
        self._unheard.clear()
        return effects

    # ------------------------------------------------------------ acknowledgements

    def _note_acknowledge(self, numbers: Sequence[int], now: float) -> list[Effect]:
        self._acknowledge += numbers
        if len(self._acknowledge) >= ACKNOWLEDGE_AT:
            return self._flush_acknowledge()
        if self._acknowledge_at is None:
            self._acknowledge_at = now + ACKNOWLEDGE_AFTER
        return []

    def _flush_acknowledge(self) -> list[Effect]:
        self._acknowledge_at = None
        if not self._acknowledge or not self.connected:
            return []
        numbers, self._acknowledge = self._acknowledge, []
        failed = [(number, self._failed[number]) for number in numbers if number in self._failed]
        return [Send(CONTROLLER, m.Acknowledge(numbers, failed))]

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        if self._acknowledge_at is not None and now >= self._acknowledge_at:
            return self._flush_acknowledge()
        return []

    def next_deadline(self) -> float | None:
        """When ``tick`` is wanted, or None."""
        return self._acknowledge_at

    def check(self) -> None:
        """Assert what must hold between stimuli."""
        for number, pending in self._pending.items():
            assert pending.submission.numbers[pending.index] == number, f"pending {number}"
        assert len(self._functions) <= FUNCTIONS

    def sizes(self) -> dict[str, int]:
        """How much is kept that should not last; all 0 when nothing is going on."""
        return {
            "pending": len(self._pending),
            "questions": len(self._unheard),
            "to acknowledge": len(self._acknowledge),
        }


def refusal(message: m.ToClient) -> Exception | None:
    """The error of a refusal after which this client cannot work with this controller."""
    if isinstance(message, m.Refused) and message.failure.kind in FATAL:
        return _error(message.failure)
    return None


def _error(failure: Failure) -> Exception:
    kind = getattr(errors, failure.kind, errors.ParallelError)
    error: Exception = kind(failure.message)
    return error
