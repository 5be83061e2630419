"""A client's shell: an I/O thread, and a lock under which one thread at a time has the socket and the core.

Calls from user threads put something into a queue and wake the I/O thread. Two do its work themselves, to save a thread
that has to be woken: who submits while nothing is under way, and who waits for a result, if nobody else does. Neither
can be left half done by a Ctrl-C (``held``). Results and output are handed to the receivers that were given with the
submission, under the lock; receivers must be quick.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import functools
import itertools
import logging
import math
import os
import select
import socket as std_socket
import sys
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Protocol

import zmq

from ipkernel_ext.atomic import Condition, Future
from ipkernel_ext.core import failures, wire
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.access import OWNER, READ, READER, may
from ipkernel_ext.core.access import refusal as refused
from ipkernel_ext.core.client import ClientCore, Submission, refusal
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
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.errors import ForkedClientError, NotAllowed, NotConnected, ProtocolError
from ipkernel_ext.held import Held
from ipkernel_ext.net.callbacks import CallbackThread
from ipkernel_ext.net.edge import Edge, Locate
from ipkernel_ext.net.local import Connection
from ipkernel_ext.net.sockets import BUSY, Poller, Wake, until

log = logging.getLogger("ipkernel_ext")

ROOM = 100  # frames of the stack that a turn of the loop may need
LONG = 86400.0  # seconds, which a poll can wait
COMMANDS = 1024  # what user threads enqueued, done in one turn of the loop: then it leaves, whatever came meanwhile


FORKED = "this RemoteController belongs to the process that made it; make a new one after a fork"

_forks = 0  # how often this process is a fork of one that had this module; asking for the pid is a system call


def _note_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_note_fork)


_channels: weakref.WeakSet[ClientChannel] = weakref.WeakSet()


@atexit.register
def _leave_all() -> None:
    """At the end of a script, what was sent leaves before the process does."""
    for channel in list(_channels):
        channel.close()


_Command = Callable[[], list[Effect]]


class Receiver(Protocol):
    """Who gets what belongs to a submission."""

    def on_result(self, result: m.Result, frames: Sequence[Frame]) -> None:
        """One of its tasks ended."""

    def on_output(self, output: m.Stream | m.Display) -> None:
        """One of its tasks wrote something."""

    def on_input(self, wanted: m.InputWanted) -> None:
        """One of its tasks asks for a line; ``Channel.give`` gives it."""


class Channel(Protocol):
    """What ``remote`` needs of the connection to a controller."""

    client: str
    on_stray: Callable[[m.Stream | m.Display], None]
    """Gets output that belongs to no task of ours that is under way; must be quick and must not raise."""
    on_followed: Callable[[m.Followed], None]
    """Gets what other clients run and print, likewise."""
    advised: set[str]
    """What the user was told, and needs to be told once only."""
    on_module: Callable[[str], tuple[str | None, str]]
    """Gives the sources of a module of the user's own, as text, or None, and why; in any thread."""
    asking: weakref.WeakSet[Any]
    """Receivers of which tasks wait for a line."""
    failed: tuple[int, int] | None
    """Of the last call that failed: its first task number, and the lowest engine on which it did."""

    def next_numbers(self, count: int) -> range:
        """Task numbers nobody else has."""

    def share(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Frames to be sent; large ones in shared memory if the controller is on this host, and so theirs alone."""

    def submit(self, submission: Submission, receiver: Receiver) -> None:
        """Send tasks; results go to the receiver."""

    def attend(self, enough: Callable[[], bool], timeout: float) -> bool:
        """Wait in this thread, as the I/O thread would, until it is enough.

        Only what arrives may make it so. False when the time ran out, or this thread is to wait in another way.
        """

    def receiver(self, number: int) -> Receiver | None:
        """Who gets the result of a task of ours that has not ended."""

    def cancel(self, numbers: Sequence[int]) -> None:
        """Take queued tasks away, interrupt running ones."""

    def give(self, number: int, asked: int, text: str | None, why: str) -> None:
        """The line that a task asked for; None: there is none, and why."""

    def note_failed(self, first: int, engine: int) -> None:
        """A task failed on an engine; ``first``: number of its call's first one."""

    def tell(self, message: m.Interrupt | m.ShutDown) -> None:
        """Something without an answer."""

    def ask(self, make: Callable[[int], m.Question]) -> concurrent.futures.Future[dict[str, Any]]:
        """A question, made from its request number."""

    @property
    def roster(self) -> Roster:
        """Who is there, as last heard."""

    @property
    def ended(self) -> str | None:
        """Why nothing more will come; None while it may."""

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one whose connection it is."""

    @property
    def turning(self) -> bool:
        """Whether the calling thread is in the midst of handing over what arrives, and cannot wait for more."""

    def wait_roster(self, enough: Callable[[Roster], bool], timeout: float | None) -> bool:
        """Wait until the roster is so. False when the time ran out."""

    def call_back(self, callback: Callable[[Any], object], future: Any) -> None:
        """Call a user's callback with the future that is done, in a thread in which it may wait."""

    def give_up(self, reason: str) -> None:
        """Nothing more will come."""

    def close(self) -> None:
        """Leave."""


class Roster:
    """A snapshot of who is there. Immutable; a new one is made at each change."""

    def __init__(
        self,
        connected: bool = False,
        engines: dict[int, m.EngineRecord] | None = None,
        lost: dict[str, m.Exit] | None = None,
        trouble: str = "",
        ended: str | None = None,
        why: Exception | None = None,
        hopeless: bool = False,
        address: str = "",
        waits: str = "",
    ) -> None:
        self.connected = connected
        self.engines = engines or {}
        self.ids = sorted(self.engines)
        self.lost = lost or {}
        self.trouble = trouble  # why engines did not come
        self.waits = waits  # why those that are expected are not here yet
        self.ended = ended  # why the cluster is no more
        self.why = why  # there is no connection
        self.hopeless = hopeless  # there will be none
        self.address = address
        self.hosts = {id: engine.host for id, engine in self.engines.items()}

    @property
    def here(self) -> int:
        """How many engines there are, without those whose successors are being started."""
        return sum(engine.state != "restarting" for engine in self.engines.values())


class Failures:
    """What a channel remembers of calls that failed."""

    failed: tuple[int, int] | None = None

    def note_failed(self, first: int, engine: int) -> None:
        """A task failed on an engine; ``first``: number of its call's first one."""
        before = self.failed
        lowest = min(engine, before[1]) if before is not None and before[0] == first else engine
        self.failed = first, lowest


class ClientChannel(Failures):
    """A client's connection to a controller.

    Parameters
    ----------
    locate
        Says where the controller is.
    access : str
        What the key that it comes with is for.
    """

    def __init__(self, locate: Locate, access: str = OWNER) -> None:
        self.client = f"{READER if access == READ else ''}{uuid.uuid4().hex[:12]}"
        self._access = access
        self.on_stray: Callable[[m.Stream | m.Display], None] = lambda output: None
        self.on_followed: Callable[[m.Followed], None] = lambda event: None
        self.advised: set[str] = set()
        self.on_module: Callable[[str], tuple[str | None, str]] = lambda name: (None, "")
        self.asking: weakref.WeakSet[Any] = weakref.WeakSet()
        self._locate = locate
        self._forks = _forks
        self._core = ClientCore(
            self.client,
            python=".".join(map(str, sys.version_info[:3])),
            host=std_socket.gethostname(),
            pid=os.getpid(),
        )
        self._next_number = 0
        self._requests = itertools.count(1)
        self._numbers_lock = threading.RLock()  # a signal's handler may want some while some are taken
        self._commands: deque[_Command | tuple[Submission, Receiver]] = deque()
        self._receivers: dict[int, Receiver] = {}
        self._answers: dict[int, concurrent.futures.Future[dict[str, Any]]] = {}
        self._roster = Roster()
        self._changed = Condition()
        self._wake = Wake()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._lock = threading.Lock()  # of all that follows
        self._turning = 0  # the thread that has it
        self._attending = threading.RLock()  # of who waits in the I/O thread's place; a finalizer may wait there too
        self._attended = False
        self._nudge = Wake()  # of that one
        self._happened = False  # in this turn: something that the attendant may wait for
        self._over = False
        self._sleeps_until = math.inf
        self._poller = Poller(gated=True)
        self._edge = Edge(self._context, locate, wire.Decoder(m.ToClient), self._poller, warm=1.0)
        self._out: list[wire.Entry] = []
        self._closing = False
        self._ended: str | None = None
        self._refusal: Exception | None = None  # by the controller, of this client as such
        self._welcomed = False  # at least once
        self._callbacks = CallbackThread()
        self._thread = threading.Thread(target=self._loop, name="ipkernel_ext client", daemon=True)
        self._thread.start()
        _channels.add(self)

    # ------------------------------------------------------------ any thread

    @property
    def roster(self) -> Roster:
        """Who is there, as last heard."""
        self._check_process()
        return self._roster

    def next_numbers(self, count: int) -> range:
        """Task numbers nobody else has."""
        with self._numbers_lock:
            first = self._next_number
            self._next_number = first + count  # at once: no handler comes in between
        return range(first, first + count)

    def share(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Frames to be sent; large ones in shared memory if the controller is on this host, and so theirs alone."""
        return self._edge.share(frames)

    def submit(self, submission: Submission, receiver: Receiver) -> None:
        """Send tasks; results go to the receiver."""
        if self._forks != _forks or self._closing or self._ended is not None:
            self._check()
        self._commands.append((submission, receiver))
        if self._core.unresolved or len(self._commands) > 1 or not self._send_here():
            self._wake.set()

    def _send_here(self) -> bool:
        """Send what was submitted, in this thread. False if that is the I/O thread's."""
        if self._is_deep():
            return False
        with Held():
            if not self._lock.acquire(blocking=False):
                return False
            near = self._is_near()
            if near:
                self._happened = False
                self._turn_here(functools.partial(self._do_commands, COMMANDS))
                self._tell_attendant()
            self._turned()
            return near

    def _turn_here(self, work: Callable[[], None]) -> None:
        """Do a part of what the I/O thread does. Under the lock, with handlers held."""
        self._turning = threading.get_ident()
        try:
            work()
            self._flush()
        except Exception:
            self._fail()
        self._turning = 0

    def _is_near(self) -> bool:
        """Whether we are connected to a controller on this host, which takes what it is sent."""
        socket = self._edge.socket
        usable = isinstance(socket, Connection) and not (socket.ended or socket.waits)
        return usable and self._core.connected and not self._closing

    @staticmethod
    def _is_deep() -> bool:
        """Whether this thread's stack may not suffice."""
        try:
            sys._getframe(max(0, sys.getrecursionlimit() - ROOM))
        except ValueError:
            return False
        return True

    def _tell_attendant(self) -> None:
        """Whoever waits in the I/O thread's place is to look, or to leave it. Under the lock."""
        if self._attended and (self._happened or not self._is_near()):
            self._nudge.set()

    def _turned(self) -> None:
        """Another thread has done the I/O thread's work, and lets go of the lock."""
        plans = self._has_other_plans()
        self._lock.release()
        if plans:
            self._wake.set()

    def _has_other_plans(self) -> bool:
        """Whether the I/O thread, as it sleeps, is to look again. Under the lock."""
        socket, deadline = self._edge.socket, self._deadline()
        waits = isinstance(socket, Connection) and (socket.waits or socket.ended)
        return waits or bool(self._commands) or (deadline is not None and deadline < self._sleeps_until)

    def attend(self, enough: Callable[[], bool], timeout: float) -> bool:
        """Wait in this thread, as the I/O thread would, until it is enough.

        Only what arrives may make it so. False when the time ran out, or this thread is to wait in another way.
        """
        if self._forks != _forks or self.turning:
            return False
        until = time.monotonic() + timeout
        while (found := self._attend_undisturbed(enough, until)) is None:
            pass  # handlers have run
        return found

    def _attend_undisturbed(self, enough: Callable[[], bool], until: float) -> bool | None:
        """The same, until a signal comes. None: then.

        Its handler runs when this has ended, for it may take long, or wait for a result itself.
        """
        if self._is_deep():
            return False
        with Held() as held:
            if not self._attending.acquire(blocking=False):
                return False
            try:
                return self._attend(enough, until, held)
            finally:
                self._attending.release()
                if self._over:
                    self._close_nudge()

    def _attend(self, enough: Callable[[], bool], until: float, held: Held) -> bool | None:
        if not self._lock.acquire(timeout=BUSY):
            return False  # the I/O thread may wait for what this thread has, if this is a signal's handler
        try:
            connection = self._edge.socket
            if not self._is_near() or not isinstance(connection, Connection):
                return False
            nested = self._attended  # by this thread, in which a finalizer runs
            if not nested:
                self._poller.hide(connection)
                self._attended = True
        finally:
            self._lock.release()
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._nudge.fileno(), select.POLLIN)
        try:
            while not enough() and (left := until - time.monotonic()) > 0:
                ready = held.let(poll.poll, 1000 * min(left, LONG))
                if ready is None:
                    return None
                self._nudge.clear_if(dict(ready))
                with self._lock:
                    if connection is not self._edge.socket or not self._is_near():
                        break
                    self._turn_here(self._take)
                    if connection.waits:
                        break  # only the I/O thread waits until it takes more
                    plans = self._has_other_plans()
                if plans:
                    self._wake.set()
            return enough()
        finally:
            self._lock.acquire()
            if not nested:
                self._attended = False
                self._poller.show()
            self._turned()

    def receiver(self, number: int) -> Receiver | None:
        """Who gets the result of a task of ours that has not ended."""
        waiting = (command for command in self._commands.copy() if isinstance(command, tuple))
        unsent = (receiver for submission, receiver in waiting if number in submission.numbers)
        return self._receivers.get(number) or next(unsent, None)

    def cancel(self, numbers: Sequence[int]) -> None:
        """Take queued tasks away, interrupt running ones."""
        self._enqueue(lambda: self._core.cancel(numbers))

    def give(self, number: int, asked: int, text: str | None, why: str) -> None:
        """The line that a task asked for; None: there is none, and why."""
        self._enqueue(lambda: self._core.give(number, asked, text, why))

    def _send_module(self, wanted: m.InputWanted) -> None:
        """Find a module that a task asks for, and send it. In a thread of its own: files may be slow."""
        text, why = self.on_module(wanted.module)
        self.give(wanted.task.number, wanted.asked, text, why)

    def tell(self, message: m.Interrupt | m.ShutDown) -> None:
        """Something without an answer."""
        self._check()
        if not may(self._access, message):
            raise NotAllowed(refused(self._access, message))
        self._enqueue(lambda: self._core.tell(message))

    def ask(self, make: Callable[[int], m.Question]) -> concurrent.futures.Future[dict[str, Any]]:
        """A question, made from its request number."""
        self._check()
        request = next(self._requests)
        future: concurrent.futures.Future[dict[str, Any]] = Future()

        def command() -> list[Effect]:
            self._answers[request] = future
            return self._core.ask(make(request))

        self._enqueue(command)
        return future

    def wait_roster(self, enough: Callable[[Roster], bool], timeout: float | None) -> bool:
        """Wait until the roster is so. False when the time ran out."""
        self._check_process()
        with self._changed:
            return self._changed.wait_for(lambda: enough(self._roster), timeout)

    def call_back(self, callback: Callable[[Any], object], future: Any) -> None:
        """Call a user's callback with the future that is done, in a thread in which it may wait."""
        if self.turning:
            self._callbacks.put(callback, future)
        else:
            callback(future)

    def give_up(self, reason: str) -> None:
        """Nothing more will come: whoever waits is told so."""

        def command() -> list[Effect]:
            if self._ended is None:
                self._ended = reason
                effects = self._core.end(f"the cluster has ended: {reason}")
                self._publish()
                return effects
            return []

        self._enqueue(command)

    def close(self) -> None:
        """Say goodbye and end the I/O thread; what was sent goes on at the engines."""
        if self._closing or self._forks != _forks:
            return
        self._closing = True
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(2.0)
            self._callbacks.join()

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one whose connection it is."""
        return self._forks != _forks

    @property
    def turning(self) -> bool:
        """Whether the calling thread is in the midst of handing over what arrives, and cannot wait for more."""
        return threading.get_ident() in (self._turning, self._thread.ident)

    @property
    def ended(self) -> str | None:
        """Why nothing more will come: this client has left, or its cluster has ended."""
        if self._forks != _forks:
            return FORKED
        if self._closing:
            return "this RemoteController is closed; make a new one"
        return None if self._ended is None else f"the cluster has ended: {self._ended}"

    def _check(self) -> None:
        self._check_process()
        if self.ended is not None:
            raise NotConnected(self.ended)

    def _check_process(self) -> None:
        """Nobody answers in a fork: the I/O thread is not there, and locks are as it had them."""
        if self._forks != _forks:
            raise ForkedClientError(FORKED)

    def _enqueue(self, command: _Command) -> None:
        self._commands.append(command)
        self._wake.set()

    # ------------------------------------------------------------ I/O thread

    def _loop(self) -> None:
        self._poller.register(self._wake.fileno(), zmq.POLLIN)
        try:
            self._reconnect()
            while not self._closing:
                with self._lock:
                    deadline = self._deadline()
                    self._sleeps_until = math.inf if deadline is None else deadline
                timeout = 0 if self._commands else until(deadline, time.monotonic())
                ready = self._poller.poll(timeout)
                with self._lock:
                    self._sleeps_until = -math.inf
                    self._turning = threading.get_ident()
                    self._happened = False
                    self._turn(ready)
                    self._turning = 0
                    self._tell_attendant()
        except Exception:
            self._fail()
        finally:
            self._closing = True
            with self._lock:
                self._turning = threading.get_ident()
                self._leave()
                self._poller.close()
                self._turning = 0
            self._nudge.set()
            self._over = True
            self._close_nudge()
            self._wake.close()
            self._callbacks.end()

    def _fail(self) -> None:
        """A mistake of ours has come to light: nothing goes on."""
        log.exception("the client's I/O thread failed; this RemoteController is closed")
        self._closing = True
        self._wake.set()

    def _close_nudge(self) -> None:
        """Nobody will attend any more; who still does closes it in the end."""
        if self._attending.acquire(blocking=False):
            self._nudge.close()

    def _turn(self, ready: Container[Any]) -> None:
        """One turn of the loop, after the poll."""
        self._wake.clear_if(ready)
        now = time.monotonic()
        lost = self._edge.lost(now, ready)
        self._take()  # also what came before the connection was lost
        if lost:
            self._happened = True
        if lost:
            self._do(self._core.disconnected())
            self._reconnect()
        elif self._edge.retry_at is not None and now >= self._edge.retry_at:
            self._reconnect()
        self._do_commands(COMMANDS)
        deadline = self._core.next_deadline()
        if deadline is not None and time.monotonic() >= deadline:
            self._do(self._core.tick(time.monotonic()))
        self._edge.tick(time.monotonic())
        self._flush()

    def _do_commands(self, most: int) -> None:
        """What user threads have enqueued so far; what is submitted in a row goes to the core together."""
        commands = self._commands
        submissions: list[Submission] = []
        for _ in range(min(most, len(commands))):
            command = commands.popleft()
            if isinstance(command, tuple):
                submission, receiver = command
                for number in submission.numbers:
                    self._receivers[number] = receiver
                submissions.append(submission)
                continue
            if submissions:
                self._do(self._core.submit(*submissions))
                submissions = []
            self._do(command())
        if submissions:
            self._do(self._core.submit(*submissions))

    def _deadline(self) -> float | None:
        return min((d for d in (self._core.next_deadline(), self._edge.next_deadline()) if d is not None), default=None)

    def _reconnect(self) -> None:
        self._out.clear()
        self._edge.close()
        if self._ended is None and self._edge.open(time.monotonic()):
            self._do(self._core.connect())
            self._flush()
        self._publish()

    def _take(self) -> None:
        while True:
            try:
                batch = self._edge.receive()
            except ProtocolError as error:
                self._ended = f"the controller does not speak this version's protocol: {error}"
                self._do(self._core.end(self._ended))
                return
            if batch is None:
                return
            epoch, entries = batch
            now = time.monotonic()
            for message, frames in entries:
                if isinstance(message, m.ClusterEnds):
                    self._ended = message.reason
                self._refusal = refusal(message) or self._refusal
                self._do(self._core.receive(epoch, message, frames, now))
            if self._ended is not None:
                self._edge.close()  # nothing more will come, and whoever ends waits for it

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if type(effect) is Send:
                self._out.append((effect.message, effect.frames))
                continue
            self._happened = True
            match effect:
                case Resolve(result, frames):
                    self._hand_over(result, frames)
                case Show(message):
                    self._show(message)
                case AskUser(wanted) if wanted.module:
                    threading.Thread(target=self._send_module, args=(wanted,), daemon=True).start()
                case AskUser(wanted):
                    receiver = self._receivers.get(wanted.task.number)
                    if receiver is not None:
                        receiver.on_input(wanted)
                case Overheard(event):
                    self.on_followed(event)
                case Answered(request, body, error):
                    self._answer(request, body, error)
                case RosterChanged():
                    self._publish()
                case Reconnect():
                    self._edge.retry_at = time.monotonic()
                case _:
                    raise AssertionError(f"not an effect of a client: {effect}")

    def _hand_over(self, result: m.Result, frames: Sequence[Frame]) -> None:
        """Give a result to its receiver. One that cannot take it is no reason to give none to others."""
        receiver = self._receivers.pop(result.task.number, None)
        if receiver is not None:
            try:
                receiver.on_result(result, frames)
            except Exception:
                log.exception("the result of task %s came, and could not be taken", result.task)

    def _show(self, output: m.Stream | m.Display) -> None:
        receiver = self._receivers.get(output.task.number) if output.task is not None else None
        if receiver is not None:
            receiver.on_output(output)
        else:
            self.on_stray(output)

    def _answer(self, request: int, body: dict[str, Any] | None, error: Exception | None) -> None:
        future = self._answers.pop(request, None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(body or {})

    def _publish(self) -> None:
        core = self._core
        self._welcomed = self._welcomed or core.connected
        trouble = self._edge.trouble
        hopeless = not self._welcomed and self._edge.hopeless(time.monotonic())
        with self._changed:
            self._roster = Roster(
                core.connected,
                dict(core.engines),
                dict(core.lost),
                core.trouble,
                self.ended,
                self._refusal or (None if trouble is None else trouble.error),
                hopeless or self._refusal is not None,
                self._edge.url,
                core.waits,
            )
            self._changed.notify_all()

    def _flush(self) -> None:
        if self._out:
            entries, self._out = self._out, []
            try:
                self._edge.send(self._core.epoch, entries)
            except (TypeError, ValueError, OverflowError):
                self._send_one_by_one(entries)

    def _send_one_by_one(self, entries: Sequence[wire.Entry]) -> None:
        """What cannot be encoded fails alone, and the rest goes out."""
        for message, frames in entries:
            try:
                self._edge.send(self._core.epoch, [(message, frames)])
            except (TypeError, ValueError, OverflowError) as error:
                failure = m.Failure("PayloadError", "PayloadError", f"this cannot be sent: {error}", started=False)
                refused = failures.refused(message, failure)
                self._do(self._core.receive(self._core.epoch, refused, (), time.monotonic()))

    def _leave(self) -> None:
        """Order: what user threads enqueued, then goodbye, then whoever still waits hears why."""
        self._do_commands(len(self._commands))
        linger = 1000 if self._core.connected else 0
        self._do(self._core.leave())
        self._flush()
        self._edge.close(linger)
        self._edge.end_sharing()  # while what was sent is still ours: that is not to be removed
        self._do(self._core.end("this RemoteController was closed before the result came"))
        self._context.term()
