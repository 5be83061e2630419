"""An engine's shell: the main thread reads tasks and runs user code, a control thread does the rest.

The two threads share ``core.engine`` under one lock. What the control thread alone can do while
user code runs: interrupt it, give queued tasks back, take and send its output. What the main thread alone
does: read and write the task connection, run user code. Nothing here knows what user code is; that
is ``execution``.
"""

from __future__ import annotations

import functools
import logging
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import zmq

from ipkernel_ext.config.connection import Address
from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.core.columns import joined
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
from ipkernel_ext.core.engine import Channel, Claim, EngineCore
from ipkernel_ext.errors import ProtocolError
from ipkernel_ext.execution.descriptors import Descriptors
from ipkernel_ext.execution.interrupt import Interrupter
from ipkernel_ext.execution.looking import Lookout
from ipkernel_ext.execution.output import OutputBuffer
from ipkernel_ext.execution.runner import Runner
from ipkernel_ext.execution.usage import Usage
from ipkernel_ext.net.begun import BegunFile
from ipkernel_ext.net.courier import Courier
from ipkernel_ext.net.couriers import Word
from ipkernel_ext.net.edge import Edge, Locate
from ipkernel_ext.net.local import Connection, path_of
from ipkernel_ext.net.sockets import Poller, Wake, receive, send, until
from ipkernel_ext.net.tcp import connecting_socket

FLUSH_AFTER = 0.02  # seconds for which output of running code is collected before it is sent
FLUSH_IDLE = 0.1  # seconds between looks at what is written while no task runs
LINGER = 200  # milliseconds for which the last result may still be on its way out
OWNER_ENDED = "its owner has ended"
INSIST_AFTER = 0.02, 1.0  # seconds after which an interrupt without effect is sent again, at first and at most
WARM = 0.5  # of the shared memory that a client keeps warm
GRACE = 3.0  # seconds that user code has to end after it was told to
SMALL = 0.0005  # seconds; results of tasks that take less may wait for those of the tasks behind them
TOGETHER = 60  # results that leave together, at most; fewer than a begun file keeps
WAIT = 0.002  # seconds after which they leave, whatever runs by then
LOOK = 0.0005  # seconds between two looks at what has come, while there are tasks to run

MODULE_COMES = 10.0  # seconds in which a client must have sent a module, or said that it has none

_decoder = wire.Decoder(m.ToEngine | m.ToCourier)


class EngineServer:
    """One engine.

    Parameters
    ----------
    record : EngineRecord
        What to say of itself.
    locate
        Says where the controller is.
    begun : Path
        Directory of begun files, shared with the controller when it is on this host.
    owner : int or None
        A descriptor whose end of file means that this engine is to end.
    outpost : bool
        Whether the controller is on another host, also where a unix socket leads to it.
    """

    def __init__(
        self,
        record: m.EngineRecord,
        locate: Locate,
        runner: Runner,
        output: OutputBuffer,
        descriptors: Descriptors,
        interrupter: Interrupter,
        begun: Path | None,
        log: logging.Logger,
        owner: int | None = None,
        outpost: bool = False,
    ) -> None:
        self._core = EngineCore(record)
        self._runner = runner
        self._output = output
        self._descriptors = descriptors
        self._interrupter = interrupter
        self._log = log
        self._owner = owner
        self._begun = None if begun is None else _begun_file(begun / record.boot, log)
        self._lock = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._control_poller = Poller()
        self._edge = Edge(self._context, locate, _decoder, self._control_poller, warm=WARM, away=outpost)
        self._courier: Courier | None = None  # where the controller is on another host
        runner.share = self._edge.share
        self._control_wake = Wake()
        self._main_wake = Wake()
        self._for_control: deque[wire.Entry] = deque()
        self._tasks: zmq.Socket[bytes] | Connection | None = None
        self._tasks_generation = 0
        self._welcomed = 0  # the generation that the controller has welcomed
        self._address: Address | None = None  # where it did
        self.on_joined: Callable[[int, str], None] = lambda id, url: None
        """Told, by the control thread, its id and where its controller is."""
        self.failed = False  # it ends because it cannot work with the controller
        self._flush_at: float | None = None
        self._interrupting: tuple[m.TaskId, int] | None = None
        self._insist_at: float | None = None
        self._insist_after = 0.0
        self._pending = False  # output waits to be sent
        self._results: list[wire.Entry] = []  # that wait for others; shared, as the core
        self._results_at: float | None = None  # when they leave at the latest
        self._results_watched = False  # the control thread knows of that time
        self._look_at = 0.0
        self._usage = Usage()
        self._lookout = Lookout(runner.shell)
        self._typed: queue.SimpleQueue[Typed] = queue.SimpleQueue()
        runner.ask = self._ask
        runner.ask_for_module = functools.partial(self._ask, "", MODULE_COMES)
        self._claimed_at = 0.0  # monotonic; of the running task
        self._stopping: str | None = None
        self._waiting_said = False
        self._pid = os.getpid()
        output.on_pending = self._on_pending
        output.engine_id = lambda: self._core.id

    def run(self) -> str:
        """Serve until told to stop; the reason. To be called from the process's main thread."""
        control = threading.Thread(target=self._control, name="ipkernel_ext control", daemon=True)
        control.start()
        poller = Poller()
        poller.register(self._main_wake.fileno())
        while self._stopping is None:
            if self._behind():
                self._follow_generation(poller)
            if not self._core.busy or time.monotonic() >= self._look_at:
                self._take_tasks(poller)
                self._look_at = time.monotonic() + LOOK
            claim = self._claim()
            if claim is not None:
                self._run_one(claim)
                continue
            self._send_results()
            if self._stopping is None and not self._behind():
                self._main_wake.clear_if(poller.poll())
        self._send_results()
        self._control_wake.set()
        control.join(GRACE)
        return self._stopping

    def close(self) -> None:
        """Let go of sockets and files, after what was sent has left."""
        if self._tasks is not None:
            self._tasks.close(LINGER)
        self._context.term()
        self._edge.end_sharing()
        if self._begun is not None:
            if not self.failed:
                self._begun.leave()
            self._begun.close()
        self._control_wake.close()
        self._main_wake.close()

    def stop(self, reason: str) -> None:
        """End after what runs now; from a signal handler or another thread."""
        self._stopping = self._stopping or reason
        self._main_wake.set()
        self._control_wake.set()

    # ------------------------------------------------------------ main thread

    def _behind(self) -> bool:
        return self._tasks_generation != self._welcomed

    def _follow_generation(self, poller: Poller) -> None:
        """Give up the task connection of an earlier generation, open this one's."""
        generation = self._welcomed
        self._take_results()  # the hello has told of them
        if self._tasks is not None:
            poller.unregister(self._tasks)
            self._tasks.close(0)
        self._tasks_generation = generation
        address = self._address
        assert address is not None, "the controller welcomed us somewhere"
        self._tasks = self._connect(address)
        if self._tasks is None:
            return  # the other connection is about to end, too
        poller.register(self._tasks)
        with self._lock:
            effects = self._core.connect_tasks()
        self._do_main(effects)

    def _connect(self, address: Address) -> zmq.Socket[bytes] | Connection | None:
        """A connection for tasks."""
        (url,) = address.urls
        path = path_of(url)
        if path is None:
            socket = connecting_socket(self._context, url, address.keys)
            socket.connect(url)
            return socket
        try:
            return Connection.to(path)
        except OSError:
            self._begin_anew()
            return None

    def _begin_anew(self) -> None:
        """One of the connections is gone, so both are."""
        self._edge.retry_at = time.monotonic()
        self._control_wake.set()

    def _take_tasks(self, poller: Poller) -> None:
        if self._tasks is None:
            return
        while (parts := receive(self._tasks)) is not None:
            epoch, entries = self._edge.decode(parts)
            effects: list[Effect] = []
            with self._lock:
                for message, frames in entries:
                    effects += self._core.receive(Channel.TASKS, self._tasks_generation, epoch, message, frames)
            self._do_main(effects)
        if isinstance(self._tasks, Connection) and self._tasks.ended:
            poller.unregister(self._tasks)
            self._tasks.close()
            self._tasks = None
            if self._tasks_generation == self._core.generation:
                self._begin_anew()

    def _claim(self) -> Claim | None:
        with self._lock:
            claim, effects = self._core.claim()
            self._claimed_at = time.monotonic()
            if effects:
                self._do_main(effects)
        return claim

    def _run_one(self, claim: Claim) -> None:
        task = claim.task
        self._output.begin(task.id, task.attempt)
        timer = self._start_timer() if task.timeout else None
        name = (task.id, task.attempt)
        outcome = self._runner.run(task.work, claim.frames, claim.function, name, timer, task.max_result)
        if os.getpid() != self._pid:
            self._output.flush()
            os._exit(0)  # user code forked, and the child came back here
        self._descriptors.finish()
        with self._lock:
            pieces, count = self._output.end()
            effects = self._core.finish(
                pieces,
                count,
                outcome.frames,
                outcome.failure,
                outcome.execution,
                outcome.has_value,
                outcome.seconds,
                outcome.unseeded,
                outcome.cpu,
            )
            waits = outcome.seconds < SMALL and self._core.busy and self._let_wait(effects)
        if not waits or len(self._results) >= TOGETHER:
            self._send_results()
        if not waits and self._stopping is None:  # else this engine says goodbye, and what it ran is lost with it
            self._do_main(effects)

    def _let_wait(self, effects: Sequence[Effect]) -> bool:
        """Whether the result of a small task waits for those of the tasks behind it. To be called under the lock.

        It is on its way then, as if the connection were slow. Should what runs next take longer than expected,
        the control thread sends it; should that end this process, the begun file has it.
        """
        entries = [(e.message, e.frames) for e in effects if isinstance(e, Send)]
        if not entries or self._begun is None or self._stopping is not None:
            return False
        if not self._begun.keep(self._edge.encode(self._core.epoch, entries)):
            return False
        self._results += entries
        if self._results_at is None:
            self._results_at = time.monotonic() + WAIT
            if not self._results_watched:
                self._results_watched = True
                self._control_wake.set()
        return True

    def _send_results(self) -> None:
        """What has waited leaves now."""
        entries = self._take_results() if self._results else ()
        if entries and self._tasks is not None:
            self._send(self._tasks, self._edge.encode(self._core.epoch, entries))

    @staticmethod
    def _send(tasks: zmq.Socket[bytes] | Connection, parts: Sequence[wire.Frame]) -> None:
        """Send, and see that all of it leaves: this thread may be busy with user code for long afterwards."""
        send(tasks, parts)
        if isinstance(tasks, Connection) and tasks.waits:
            tasks.drain()

    def _take_results(self) -> Sequence[wire.Entry]:
        with self._lock:
            entries, self._results = self._results, []
            self._results_at = None
        return joined(entries)

    def _ask(self, prompt: str, timeout: float, module: str = "") -> Typed | None:
        """Ask the running task's client for a line, or a module, and wait for it. None: it has not come in time."""
        self._descriptors.take()
        while not self._typed.empty():
            self._typed.get()
        with self._lock:
            self._do_main([*self._core.output(self._output.take()), *self._core.ask(prompt, module)])
        try:
            return self._typed.get(timeout=timeout)
        except queue.Empty:
            return None
        finally:
            with self._lock:
                self._core.ask_no_more()

    def _start_timer(self) -> _Timer:
        timer = _Timer(self._core, self._lock)
        timer.begin_item()
        self._control_wake.set()  # it has a deadline now
        return timer

    def _do_main(self, effects: Iterable[Effect]) -> None:
        entries: list[wire.Entry] = []
        for effect in effects:
            if type(effect) is Begin:  # as most are
                if self._begun is not None:
                    self._begun.write(effect.task, effect.attempt)
                continue
            match effect:
                case Send(Channel.TASKS, m.HelloTasks() as message, _):
                    entries.append(self._edge.greeting(message))
                case Send(Channel.TASKS, message, frames):
                    entries.append((message, frames))
                case Send(_, message, frames):
                    self._for_control.append((message, frames))
                    self._control_wake.set()
                case Stop(reason):
                    self.stop(reason)
                case Reconnect():
                    self._begin_anew()
                case _:
                    raise AssertionError(f"not an effect on the main thread: {effect}")
        if entries and self._tasks is not None:
            parts = self._edge.encode(self._core.epoch, entries)
            if self._begun is not None and isinstance(entries[-1][0], m.Result):
                self._begun.keep(parts)
            self._send(self._tasks, parts)

    # ------------------------------------------------------------ control thread

    def _control(self) -> None:
        """An engine that does not hear its controller is none: it ends, and who watches over it starts another one."""
        try:
            self._control_loop()
        except Exception:
            self._log.exception("a mistake in this engine, which ends")
            os._exit(1)

    def _control_loop(self) -> None:
        poller = self._control_poller
        poller.register(self._control_wake.fileno())
        if self._owner is not None:
            poller.register(self._owner)
        self._listen(poller)
        self._reconnect()
        while self._stopping is None:
            ready = poller.poll(until(self._deadline(), time.monotonic()))
            if self._owner in ready:
                self.stop(OWNER_ENDED)
            self._control_wake.clear_if(ready)
            now = time.monotonic()
            if any(reader in ready for reader in self._descriptors.readers):
                self._take_written(poller, now)
            lost = self._edge.lost(now, ready)
            self._take_control()  # also what came before the connection was lost
            retry = self._edge.retry_at is not None and now >= self._edge.retry_at
            if (lost or retry) and self._stopping is None:
                self._reconnect()
            self._send_waiting()
            self._edge.tick(now)
            if self._courier is not None:
                self._tell_couriers(self._courier.turn(now))
            if self._pending and self._flush_at is None:
                self._flush_at = now + FLUSH_AFTER
            due = self._core.next_deadline()
            if self._flush_at is not None and now >= self._flush_at:
                self._flush_output()
                self._listen(poller)
            if due is not None and now >= due:
                self._tick()
            if self._insist_at is not None and now >= self._insist_at:
                self._insist(now)
            self._watch_results(now)
        self._end()

    def _watch_results(self, now: float) -> None:
        """Results that wait leave on this connection, if the main thread does not come to it."""
        with self._lock:
            self._results_watched = self._results_at is not None
        if self._results_at is not None and now >= self._results_at:
            entries = self._take_results()
            if entries:
                self._edge.send(self._core.epoch, entries)

    def _listen(self, poller: Poller) -> None:
        for reader in self._descriptors.readers:
            poller.register(reader)

    def _take_written(self, poller: Poller, now: float) -> None:
        """Take what was written to the descriptors; what a process left behind writes, a pipe full at a time."""
        self._descriptors.take()
        if self._core.running is None:
            for reader in self._descriptors.readers:
                poller.unregister(reader)
            if self._flush_at is None:
                self._flush_at = now + FLUSH_IDLE

    def _deadline(self) -> float | None:
        deadlines = (
            self._edge.next_deadline(),
            None if self._courier is None else self._courier.next_deadline(),
            self._flush_at,
            self._insist_at,
            self._results_at,
            self._core.next_deadline(),
        )
        return min((d for d in deadlines if d is not None), default=None)

    def _reconnect(self) -> None:
        now = time.monotonic()
        if self._courier is not None:
            self._courier.close()
        opened = self._edge.open(now)
        self._courier = None
        home, address = self._edge.home, self._edge.address
        if opened and home is not None and address is not None and self._edge.pool is None:
            self._courier = Courier(home, self._context, self._control_poller, address)
        trouble = self._edge.trouble
        if trouble is not None:
            if trouble.answered and not self._welcomed:
                if self._edge.hopeless(now):
                    self._fail(str(trouble.error))
                    return
            elif not self._waiting_said:
                self._waiting_said = True
                self._log.warning("waiting for a controller: %s", trouble.error)
        if not opened:
            return
        with self._lock:
            self._results.clear()  # the hello tells of them
            self._results_at = None
            effects = self._core.connect()
        self._do_control(effects)

    def _fail(self, reason: str) -> None:
        """End, because this engine and the controller cannot work together."""
        self.failed = True
        self.stop(reason)

    def _take_control(self) -> None:
        while True:
            try:
                batch = self._edge.receive()
            except ProtocolError as error:
                self._fail(f"the controller does not speak this version's protocol: {error}")
                return
            if batch is None:
                return
            epoch, entries = batch
            for message, frames in entries:
                if isinstance(message, m.ToCourier):
                    self._carry(message, frames)
                    continue
                with self._lock:
                    generation = self._core.generation
                    effects = self._core.receive(Channel.CONTROL, generation, epoch, message, frames)
                    self._do_control(effects)
                    self.failed = self.failed or (isinstance(message, m.Refused) and self._core.stopping)
                    if isinstance(message, m.WelcomeEngine) and self._core.id == message.id:
                        self._log.info("this is engine %d", message.id)
                        self._waiting_said = False
                        self._address = self._edge.address
                        self._welcomed = generation
                        self._main_wake.set()
                        self.on_joined(message.id, self._edge.url)

    def _carry(self, message: m.ToCourier, frames: Sequence[wire.Frame]) -> None:
        """Take a frame for all engines of this host."""
        if self._courier is not None:
            self._tell_couriers(self._courier.receive(message, frames, time.monotonic()))

    def _tell_couriers(self, words: Iterable[Word]) -> None:
        """Tell the controller how that goes."""
        if entries := [(word, ()) for word in words]:
            self._edge.send(self._core.epoch, entries)

    def _do_control(self, effects: Iterable[Effect]) -> None:
        entries: list[wire.Entry] = []
        for effect in effects:
            match effect:
                case Send(_, message, frames):
                    entries.append((message, frames))
                case RaiseInterrupt(task, attempt):
                    self._interrupting = (task, attempt)
                    self._interrupter.interrupt(self._interrupting)
                    self._insist_after = INSIST_AFTER[0]
                    self._insist_at = time.monotonic() + self._insist_after
                case TellUsage():
                    seconds = time.monotonic() - self._claimed_at
                    entries.append((self._core.measured(seconds, self._usage.cpu(), self._usage.rss()), ()))
                case LookInside(number, inspection):
                    self._lookout.look(inspection, functools.partial(self._tell, number))
                case Typed():
                    self._typed.put(effect)
                case Claimable():
                    self._main_wake.set()
                case Reconnect():
                    self._edge.retry_at = time.monotonic()
                case Stop(reason):
                    self.stop(reason)
                case _:
                    raise AssertionError(f"not an effect on the control thread: {effect}")
        if entries:
            self._edge.send(self._core.epoch, entries)

    def _tell(self, number: int, told: dict[str, Any]) -> None:
        """What a look has found; from the thread that looked."""
        self._for_control.append((m.Looked(number, told), ()))
        self._control_wake.set()

    def _insist(self, now: float) -> None:
        """Interrupt again what has not seen its interrupt yet."""
        self._insist_at = None
        with self._lock:
            runs = self._core.running == self._interrupting
            if runs and self._interrupter.insist():
                self._insist_after = min(2 * self._insist_after, INSIST_AFTER[1])
                self._insist_at = now + self._insist_after

    def _send_waiting(self) -> None:
        entries = []
        while self._for_control:
            entries.append(self._for_control.popleft())
        if entries:
            self._edge.send(self._core.epoch, entries)

    def _on_pending(self) -> None:
        self._pending = True
        self._control_wake.set()

    def _flush_output(self) -> None:
        self._flush_at = None
        self._pending = False
        with self._lock:
            pieces: Sequence[Any] = self._output.take()
            effects = self._core.output(pieces)
        if entries := [(e.message, e.frames) for e in effects if isinstance(e, Send)]:
            self._edge.send(self._core.epoch, entries)

    def _tick(self) -> None:
        self._descriptors.take()
        with self._lock:
            effects = [*self._core.output(self._output.take()), *self._core.tick(time.monotonic())]
            self._do_control(effects)

    def _end(self) -> None:
        """User code gets an interrupt and a while to end; then the process ends without asking it."""
        last = threading.Timer(GRACE, os._exit, [1])
        last.daemon = True
        last.start()
        with self._lock:
            running = self._core.running
        if running is not None:
            self._interrupter.interrupt(running)
        self._descriptors.take()
        self._flush_output()
        if self._courier is not None:
            self._courier.close()
        self._edge.send(self._core.epoch, [(m.Goodbye(), ())])
        self._edge.close(linger=0 if self._edge.trouble is not None else 500)


def _begun_file(path: Path, log: logging.Logger) -> BegunFile | None:
    """None where the disk is full: an engine of which nobody will know what it began is better than none."""
    try:
        return BegunFile(path)
    except OSError as error:
        log.warning("what this engine begins cannot be written down: %s", error)
        return None


class _Timer:
    """Tells the core when the items of the running task begin. For the main thread."""

    def __init__(self, core: EngineCore, lock: threading.Lock) -> None:
        self._core = core
        self._lock = lock

    def begin_item(self) -> bool:
        """An item begins. Whether an interrupt meant for the one before may still come."""
        with self._lock:
            return self._core.begin_item(time.monotonic())

    def expired(self) -> bool:
        """Whether the time of the running item is up."""
        with self._lock:
            return self._core.expired


def stop_on_signals(server: EngineServer) -> None:
    """SIGTERM and SIGHUP end the engine. SIGINT is the interrupter's."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: server.stop(signal.Signals(caught).name))
    os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals, after_in_child=_default_signals)


_ENDING = (signal.SIGTERM, signal.SIGHUP)


def _hold_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


def _let_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def _default_signals() -> None:
    """A process that user code forks is ended by signals like any other, also in its first moment."""
    for number, handler in (
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
    ):
        signal.signal(number, handler)
    _let_signals()
