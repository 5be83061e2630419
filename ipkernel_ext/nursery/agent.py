"""The agent: supervisor of one host's engines and, on the head host, of the controller.

It sees a child's end from the kernel, tells the controller how it ended, starts successors by
policy, and ends everything when its owner does. It runs no user code and unpickles nothing.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import json
import logging
import os
import re
import signal
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zmq

from ipkernel_ext.config import connection, gpus, logs
from ipkernel_ext.config.place import Place
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.failures import how
from ipkernel_ext.core.messages import Exit
from ipkernel_ext.errors import NotConnected
from ipkernel_ext.execution.usage import Usage
from ipkernel_ext.net.begun import has_left
from ipkernel_ext.net.sockets import Wake, until
from ipkernel_ext.nursery import open_files, register
from ipkernel_ext.nursery.children import Child, catches, open_log, spawn, tail
from ipkernel_ext.nursery.line import Line
from ipkernel_ext.nursery.oom import Kills
from ipkernel_ext.nursery.orders import GAVE_UP, EngineOrders, LaunchOrders, Orders, write
from ipkernel_ext.nursery.starters import CannotFork, Controller, Forker, Spawner

_MACHINERY = re.compile(r'File ".*/(IPython/core/interactiveshell|ipkernel_ext/execution/\w+)\.py"')
"""Of a stack, what is below is not the user's."""
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")

BEFORE = 5  # lines that came before a fatal error
LINES, SAID = 20, 4000  # lines and characters, at most, that are told of what an engine wrote before it died
GRACE = 3.0  # seconds that children have to end
LAUNCHER = 8.0  # seconds that engines elsewhere have to end
DRAIN = signal.SIGUSR1  # what a batch system sends before a job's time is up
LOOK_AT_LOGS = 10.0  # seconds between two looks at how long they are
LOG_LIMIT, LOG_KEPT = 8 * 2**20, 2**20  # bytes: a longer log is cut to its end
INTENSITY = 10.0  # seconds in which ``restart_limit`` restarts are allowed


class Engine(NamedTuple):
    """An engine that runs."""

    child: Child
    number: int
    replaces: str | None = None  # boot whose id it is to take


class Agent:
    """Runs one cluster's processes on this host.

    Parameters
    ----------
    orders : Orders
    controller : Controller or None
        The one that was started before this module was imported; None: it is taken over.
    forker : Forker or None
        Likewise; None: engines are spawned.
    started
        Called once with None when the controller listens, or with what went wrong.
    """

    def __init__(
        self,
        orders: Orders,
        controller: Controller | None,
        forker: Forker | None,
        started: Callable[[str | None], None],
        log: logging.Logger,
    ) -> None:
        self._orders = orders
        self._log = log
        self._started: Callable[[str | None], None] | None = started
        self.place = Place(Path(orders["directory"]), orders["profile"])
        self._engines: dict[str, Engine] = {}  # by boot
        self._waiting: deque[EngineOrders] = deque()  # engines to be started when that is possible
        self._starting: Controller | None = controller
        self._controller: Child | None = controller.child if controller is not None else None
        self._forker = forker
        self._spawner = Spawner(orders)
        self._oom_kills = Kills()
        self._restarts: dict[str, deque[float]] = {}  # when, by what was restarted
        self._ending: set[str] = set()  # boots whose end was ordered
        self._scaled_away: set[str] = set()  # of those, the ones that were too many
        self._look_at_logs = time.monotonic() + LOOK_AT_LOGS
        self._kill_at: dict[str, float] = {}  # monotonic, by boots that were told to end
        self._successors: set[str] = set()  # of these, those that get a successor
        self._stop: str | None = None
        self._gave_up = False  # on the controller
        self._usages: dict[str, Usage] = {}  # of engines that do not answer themselves, by boot
        self._exits: deque[m.EngineExited] = deque(maxlen=256)  # the controller may not have heard of
        self._wake = Wake()
        self._poller = zmq.Poller()
        setup = orders["setup"]
        locate = connection.for_engines(Path(setup["connection"]), setup["away"])
        self._line = Line(locate, self._poller, self._hello, log, generation=int(time.monotonic() * 1000))
        self._outpost = orders["controller"] is None
        self._launcher: Child | None = None
        self._drains = False
        self._earlier = register.read(self.place.register) if orders["adopt"] else None
        self._id = self._earlier.id if self._earlier is not None else uuid.uuid4().hex[:12]
        _become_subreaper()

    # ------------------------------------------------------------ life

    def _take_over(self, earlier: register.Register) -> None:
        """The children of an agent that was killed; what ended since has nobody who knows how."""
        for engine in earlier.engines:
            child = self._adopted(engine.process, engine.log)
            if child is not None:
                self._engines[engine.boot] = Engine(child, engine.number)
            else:
                self._after_end(engine.boot, engine.number, Exit(), None, engine.log)
        for number, replaces in earlier.waiting:
            self._start_engine(number, replaces)
        if earlier.controller is not None:
            self._controller = self._adopted(earlier.controller, str(self.place.logs / "controller.log"))
        if earlier.launcher is not None:
            self._launcher = self._adopted(earlier.launcher, str(self.place.logs / "launcher.log"))
        if self._controller is None:
            self._start_controller()

    def _adopted(self, process: register.Process, log: str) -> Child | None:
        try:
            child = Child(process.pid, log)
        except ProcessLookupError:
            return None
        if not process.runs():
            child.close()
            return None
        self._poller.register(child, zmq.POLLIN)
        return child

    def _on_started(self) -> None:
        """The controller listens. A successor says that it is there once the controller knows it."""
        if self._earlier is None:
            self.tell_started(None)
        if self._orders["launch"] is not None and self._launcher is None:
            self._start_launcher(self._orders["launch"])
        self._line.connect()

    def run(self) -> str:
        """Watch over everything until told to stop; the reason."""
        self._wake.set_by_signals()
        self._poller.register(self._wake.fileno(), zmq.POLLIN)
        if self._starting is not None:
            self._poller.register(self._starting.ready, zmq.POLLIN)
        if self._forker is not None:
            self._poller.register(self._forker.fileno(), zmq.POLLIN)
        if self._orders["owned"]:
            self._poller.register(0, zmq.POLLIN)
        if self._earlier is not None:
            self._take_over(self._earlier)
        else:
            for number in self._orders["numbers"]:
                self._start_engine(number)
        self._write_register()
        if self._starting is None:
            self._on_started()
        while self._stop is None:
            ready = dict(self._poller.poll(until(self._deadline(), time.monotonic())))
            if 0 in ready:
                self._stop = "its owner has ended"
            self._wake.clear()
            if self._starting is not None and self._starting.ready in ready:
                self._hear_controller(self._starting)
            if self._forker is not None and not self._forker.warm and self._forker.fileno() in ready:
                self._hear_zygote(self._forker)
            for message in self._line.receive():
                self._on_message(message)
            self._reap()
            if self._outpost:
                self._look_around()
            self._line.flush()  # before anything that takes time: somebody waits for it
            self._kill_the_late()
            if self._drains:
                self._tell_of_drain()
            self._now_and_then()
            self._start_waiting()
            self._line.flush()
        return self._stop

    def _look_around(self) -> None:
        """An outpost is of no use without engines, nor without a controller for long."""
        if not self._engines and not self._waiting:
            self._stop = self._stop or "its engines have left"
        elif not self._line.known and time.monotonic() >= self._line.known_at + self._orders["grace"]:
            self._stop = self._stop or f"no controller for {self._orders['grace']:g} s"

    def drain(self) -> None:
        """Have the engines end what they run, and leave: their time here is nearly up; from a signal handler."""
        self._drains = True
        self._wake.set()

    def _tell_of_drain(self) -> None:
        """Tell the controller, and user code that wants to know: it has a handler for this signal."""
        self._drains = False
        self._line.tell(m.AgentDrains(f"its host says that its time there ends soon ({DRAIN.name})"))
        for engine in self._engines.values():
            if catches(engine.child.pid, DRAIN):
                engine.child.signal(DRAIN)

    def stop(self, reason: str) -> None:
        """End everything; from a signal handler."""
        self._stop = self._stop or reason
        self._wake.set()

    def end(self) -> int:
        """Order: engines first, so that the controller can still tell clients; then the controller; then the files.

        What user code started, and what it left to nobody, ends after the engines.

        Returns
        -------
        int
            The exit code of this process.
        """
        self._line.say_goodbye()
        if self._launcher is not None:
            self._end_children([self._launcher], LAUNCHER)
        if self._forker is not None:
            self._forker.close()
            self._end_children([self._forker.zygote])
        self._end_children([engine.child for engine in self._engines.values()])
        if self._controller is not None:
            self._end_children([self._controller])
        _kill_the_rest()
        signal.set_wakeup_fd(-1)
        self._line.close()
        self._wake.close()
        self.place.sweep()
        return GAVE_UP if self._gave_up else 0

    def _end_children(self, children: list[Child], grace: float = GRACE + 0.5) -> None:  # seconds
        for child in children:
            child.release()
            child.signal(signal.SIGTERM)
        until = time.monotonic() + grace
        for child in children:
            if not child.wait(max(0.0, until - time.monotonic())):
                child.signal(signal.SIGKILL)
                child.wait(GRACE)
            child.close()

    # ------------------------------------------------------------ children

    def _start_controller(self) -> None:
        self._keep_place()
        self._starting = Controller(self._orders)
        self._controller = self._starting.child
        self._poller.register(self._starting.ready, zmq.POLLIN)

    def _start_launcher(self, orders: LaunchOrders) -> None:
        log = str(self.place.logs / "launcher.log")
        self._launcher = spawn(
            "ipkernel_ext.nursery.launching", log, os.environ, write(orders), owned=self._orders["owned"]
        )
        self._poller.register(self._launcher, zmq.POLLIN)
        self._write_register()

    def _keep_place(self) -> None:
        """Make anew what was removed of it, by whatever cleans up there."""
        if self.place.agent.exists():
            return
        self._log.warning("somebody has removed %s; it is made anew", self.place.directory)
        try:
            self.place.make()
            _take_place(self.place)
        except (OSError, NotConnected) as error:
            self._log.error("it cannot be made: %s", error)
        self._write_register()

    def _hear_controller(self, controller: Controller) -> None:
        self._poller.unregister(controller.ready)
        self._starting = None
        if controller.listens():
            self._on_started()
            return
        exit = controller.child.wait(GRACE) or Exit(detail="it does not listen")
        self._controller = None
        controller.child.close()
        if self._started is None:
            self._on_controller_exit(exit)  # it had listened before: one more death
        else:
            text = f"the controller does not start; its log {controller.child.log} ends with\n{controller.child.tail()}"
            self._log.error("%s", text)
            self._stop = self._stop or text

    def tell_started(self, trouble: str | None) -> None:
        """Tell whoever waits for the start how it went; later calls do nothing."""
        started, self._started = self._started, None
        if started is not None:
            started(trouble)

    def _hear_zygote(self, forker: Forker) -> None:
        try:
            forker.hear()
        except CannotFork as error:
            self._spawn_from_now_on(error)
        except ImportError as error:
            self._waiting.clear()
            self._log.error("%s", error)
            self._line.tell(m.AgentTrouble(str(error)))
            self._drop_forker()
        else:
            self._poller.unregister(forker.fileno())

    def _spawn_from_now_on(self, why: CannotFork) -> None:
        self._log.warning("engines are not forked any more, but spawned: %s", why)
        self._drop_forker()

    def _drop_forker(self) -> None:
        forker, self._forker = self._forker, None
        if forker is not None:
            if not forker.warm:
                self._poller.unregister(forker.fileno())
            forker.close()
            self._end_children([forker.zygote])

    def _start_engine(self, number: int, replaces: str | None = None) -> None:
        numbers = self._orders["numbers"]
        place = numbers.index(number) if number in numbers else number
        self._waiting.append(
            {
                "boot": uuid.uuid4().hex[:12],
                "number": number,
                "agent": self._id,
                "replaces": replaces,
                "log": str(self.place.logs / f"engine-{number}.log"),
                "gpus": gpus.share(self._orders["setup"]["gpus"] or (), len(numbers), place),
            }
        )

    def _scale(self, wanted: int) -> None:
        """Start engines with the lowest numbers that are free, or end those with the highest."""
        while self._waiting and len(self._engines) + len(self._waiting) > wanted:
            self._waiting.pop()
        running = {engine.number: boot for boot, engine in self._engines.items() if boot not in self._ending}
        for number in sorted(running, reverse=True)[: max(0, len(running) + len(self._waiting) - wanted)]:
            boot = running.pop(number)
            self._ending.add(boot)
            self._scaled_away.add(boot)
            self._engines[boot].child.signal(signal.SIGTERM)
            self._kill_at[boot] = time.monotonic() + GRACE
        taken = {*running, *(orders["number"] for orders in self._waiting)}
        free = (number for number in itertools.count() if number not in taken)
        for number in itertools.islice(free, max(0, wanted - len(taken))):
            self._start_engine(number)

    def _kill_the_late(self) -> None:
        """Those that were told to end and have not."""
        now = time.monotonic()
        for boot in [boot for boot, due in self._kill_at.items() if now >= due or boot not in self._engines]:
            del self._kill_at[boot]
            if boot in self._engines:
                self._engines[boot].child.signal(signal.SIGKILL)

    def _now_and_then(self) -> None:
        """Cut logs that have grown too long to their end; forget the kernel's kills that concerned no engine.

        And see that the place is whole.
        """
        if time.monotonic() < self._look_at_logs:
            return
        self._look_at_logs = time.monotonic() + LOOK_AT_LOGS
        self._oom_kills.age()
        self._keep_place()
        for path in logs.cluster_logs(self.place.logs).values():
            try:
                logs.shorten(path, LOG_LIMIT, LOG_KEPT)
            except OSError as error:
                self._log.warning("the log %s cannot be shortened: %s", path, error)

    def _deadline(self) -> float:
        due = [] if self._line.due is None else [self._line.due]
        if self._outpost and not self._line.known:
            due.append(self._line.known_at + self._orders["grace"])
        return min([self._look_at_logs, *self._kill_at.values(), *due])

    def _start_waiting(self) -> None:
        """Start the engines that wait, once the controller listens and the zygote is warm."""
        started = bool(self._waiting) and self._started is None
        while self._waiting and self._started is None and self._stop is None:
            if self._forker is not None and not self._forker.warm:
                return
            orders = self._waiting.popleft()
            try:
                child = (self._forker or self._spawner).start(orders)
            except CannotFork as error:
                self._waiting.appendleft(orders)
                self._spawn_from_now_on(error)
                continue
            except OSError as error:
                self._line.tell(m.AgentTrouble(f"engine {orders['number']} cannot be started: {error}"))
                continue
            self._engines[orders["boot"]] = Engine(child, orders["number"], orders["replaces"])
        if started:
            self._write_register()

    def _reap(self) -> None:
        """Take note of every child that ended, also of those that were left to us by others' end."""
        for boot, engine in list(self._engines.items()):
            exit = engine.child.ended()
            if exit is not None:
                del self._engines[boot]
                self._forget_child(engine.child)
                if exit.signal == signal.SIGKILL and boot not in self._ending and self._oom_kills.take():
                    exit = msgspec.structs.replace(exit, oom=True)
                self._after_end(boot, engine.number, exit, engine.replaces, engine.child.log, engine.child.since)
        controller = self._controller
        if controller is not None and self._starting is None:
            exit = controller.ended()
            if exit is not None:
                self._forget_child(controller)
                self._controller = None
                self._on_controller_exit(exit)
        if self._launcher is not None and self._launcher.ended() is not None:
            self._on_launcher_end(self._launcher)
        if self._forker is not None and self._forker.warm and self._forker.zygote.ended() is not None:
            self._on_zygote_end(self._forker)
        for pid in set(_children()) - self._known_children():
            os.waitpid(pid, os.WNOHANG)  # an orphan that was left to us

    def _known_children(self) -> set[int]:
        known = {engine.child.pid for engine in self._engines.values()}
        if self._controller is not None:
            known.add(self._controller.pid)
        if self._forker is not None:
            known.add(self._forker.zygote.pid)
        if self._launcher is not None:
            known.add(self._launcher.pid)
        return known

    def _forget_child(self, child: Child) -> None:
        if child in self._poller:
            self._poller.unregister(child)
        child.close()

    def _on_launcher_end(self, launcher: Child) -> None:
        """Nobody is left who could end the engines elsewhere, but they themselves, when they find no controller."""
        self._forget_child(launcher)
        self._launcher = None
        self._log.error(
            "what starts engines elsewhere has ended; its log %s ends with\n%s", launcher.log, launcher.tail()
        )
        self._stop = self._stop or "what started its engines elsewhere has ended"

    def _on_zygote_end(self, forker: Forker) -> None:
        """It forks no more; the engines it has forked do not need it."""
        forker.close()
        forker.zygote.close()
        self._forker = None
        if self._may_restart("zygote"):
            self._log.warning("the zygote has ended; starting it again")
            self._forker = Forker(self._orders)
            self._poller.register(self._forker.fileno(), zmq.POLLIN)
        else:
            self._log.warning("the zygote does not stay up: engines are spawned from now on")

    def _after_end(self, boot: str, number: int, exit: Exit, replaces: str | None, log: str, since: int = 0) -> None:
        ordered = boot in self._ending
        failed = exit.exit_code != 0 or not has_left(self.place.engines / boot)
        again = boot in self._successors or (
            not ordered and failed and self._orders["restart"] and self._may_restart(f"engine {number}")
        )
        self._ending.discard(boot)
        self._usages.pop(boot, None)
        self._successors.discard(boot)
        if failed and not ordered:
            said = _without_ours(tail(log, 200, since))
            last = _last_words(said)
            if self._orders["restart"] and not again:
                last = f"{last}; {self._gives_up()}" if last else self._gives_up()
            exit = msgspec.structs.replace(exit, detail=last, said=_last_lines(said))
            self._log.warning("engine %d ended: %s", number, how(exit))
        if boot in self._scaled_away:
            self._scaled_away.discard(boot)
            exit = msgspec.structs.replace(exit, detail="it was scaled away")
        exited = m.EngineExited(boot, exit, again, replaces)
        self._exits.append(exited)
        self._line.tell(exited)
        if again:
            self._start_engine(number, replaces=boot)
        elif failed and not ordered and not self._engines:
            self._line.tell(m.AgentTrouble(f"engines do not stay up; the log {log} ends with\n{tail(log)}"))
        self._write_register()

    def _write_register(self) -> None:
        """Where nobody owns this agent, its children go on without it."""
        if self._orders["owned"] or self._outpost:
            return
        of = register.Process.of
        engines = [register.Engine(of(e.child.pid), boot, e.number, e.child.log) for boot, e in self._engines.items()]
        controller = None if self._controller is None else of(self._controller.pid)
        launcher = None if self._launcher is None else of(self._launcher.pid)
        waiting = [(orders["number"], orders["replaces"]) for orders in self._waiting]
        try:
            register.Register(self._id, of(os.getpid()), self._orders, controller, engines, waiting, launcher).write(
                self.place.register
            )
        except OSError as error:
            self._log.warning("the register cannot be written: %s", error)

    def _may_restart(self, line: str) -> bool:
        """Whether this line of engines (or of controllers) has not died too often of late."""
        now = time.monotonic()
        restarts = self._restarts.setdefault(line, deque())
        while restarts and restarts[0] < now - INTENSITY:
            restarts.popleft()
        if len(restarts) >= self._orders["restart_limit"]:
            return False
        restarts.append(now)
        return True

    def _gives_up(self) -> str:
        deaths = self._orders["restart_limit"] + 1
        often = f"it died {deaths} times within {INTENSITY:g} s" if deaths > 1 else "ParallelCluster.restart_limit is 0"
        return f"{often}, so it is not started again until the cluster is scaled, as by `%cluster scale N`"

    def _on_controller_exit(self, exit: Exit) -> None:
        if exit.exit_code == 0:
            self._stop = self._stop or "the controller has stopped"
        elif self._stop is None and self._may_restart("controller"):
            self._log.warning("the controller ended: %s; starting it again", exit)
            self._start_controller()
            self._write_register()
        else:
            self._gave_up = self._stop is None
            self._stop = self._stop or "the controller does not stay up"

    # ------------------------------------------------------------ the controller

    def _hello(self, generation: int) -> m.HelloAgent:
        return m.HelloAgent(
            m.PROTOCOL,
            self._id,
            socket.gethostname(),
            os.getpid(),
            0 if self._outpost else len(self._engines) + len(self._waiting),
            list(self._exits),
            generation,
            "none" if self._outpost or self._orders["launch"] is not None else "own",
        )

    def _on_message(self, message: m.ToAgent) -> None:
        match message:
            case m.WelcomeAgent():
                self.tell_started(None)
            case m.EndEngine():
                engine = self._engines.get(message.boot)
                if engine is not None:
                    self._ending.add(message.boot)
                    if message.restart:
                        self._successors.add(message.boot)
                    engine.child.signal(signal.SIGKILL)
            case m.MeasureEngine():
                self._measure(message.boot)
            case m.ScaleAgent():
                self._scale(message.engines)
            case m.StopAgent():
                self._stop = "the controller said so"
            case m.ClusterEnds():
                self._stop = message.reason

    def _measure(self, boot: str) -> None:
        """Say what an engine uses that does not answer itself."""
        import psutil

        engine = self._engines.get(boot)
        if engine is None:
            return
        try:
            process = psutil.Process(engine.child.pid)
            known = self._usages.get(boot)
            if known is None:
                self._usages[boot] = Usage(cpu=lambda: sum(process.cpu_times()[:2]))  # in user code, in the system
            cpu = None if known is None else known.cpu()
            self._line.tell(m.EngineMeasured(boot, cpu, process.memory_info().rss))
        except psutil.Error:
            pass  # it has just ended


def _without_ours(text: str) -> list[str]:
    """Those lines of a log that the package has not written itself."""
    return [line for line in text.splitlines() if line.strip() and not _LOGGED.match(line)]


def _last_lines(lines: list[str]) -> str:
    """Of a process that died: a fatal error of the interpreter, with what C code said of it, else the last ones."""
    fatal = [number for number, line in enumerate(lines) if line.startswith("Fatal Python error")]
    if not fatal:
        return "\n".join(lines[-LINES:])[-SAID:]
    stack = itertools.takewhile(lambda line: not _MACHINERY.search(line), lines[fatal[-1] :])
    return "\n".join([*lines[: fatal[-1]][-BEFORE:], *itertools.islice(stack, LINES)])[:SAID]


def _last_words(lines: list[str]) -> str:
    """Of a process that died: a fatal error of the interpreter, else the last line."""
    fatal = [line for line in lines if line.startswith("Fatal Python error")]
    return (fatal or lines or [""])[-1].strip()


def _become_subreaper() -> None:
    """Be the parent of every process below this one that loses its own (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def _kill_the_rest() -> None:
    """End every process that is still below this one."""
    until = time.monotonic() + GRACE
    while (children := _children()) and time.monotonic() < until:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    """Of this process, which has one thread that forks."""
    pid = os.getpid()
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        import psutil

        return [child.pid for child in psutil.Process().children()]


def _tell(answer: dict[str, Any]) -> None:
    """Tell whoever started us how it went, and let go of the way to say so."""
    print(json.dumps(answer), flush=True)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)


def _take_place(place: Place) -> bool:
    """Write our process id down and hold the file for this process's life; False if another agent holds it."""
    file = os.open(place.agent, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    os.ftruncate(file, 0)
    os.write(file, str(os.getpid()).encode())
    return True


def main(orders: Orders, controller: Controller | None, forker: Forker | None) -> None:
    """The agent's life."""
    open_files.allow()
    place = Place(Path(orders["directory"]), orders["profile"])
    own = os.fdopen(open_log(str(place.logs / "agent.log")), "a", buffering=1)
    logging.basicConfig(stream=own, format=logs.FORMAT, level=logging.INFO)
    log = logging.getLogger("ipkernel_ext.agent")
    if not orders["owned"]:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
    if not _take_place(place):
        pid = place.agent_pid() or 0
        _tell({"error": f"a cluster runs there already (agent pid {pid})", "pid": pid})
        return

    def started(trouble: str | None) -> None:
        _tell({"client": str(place.connection("client"))} if trouble is None else {"error": trouble})

    agent = Agent(orders, controller, forker, started, log)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: agent.stop(signal.Signals(caught).name))
    if orders["controller"] is None:
        signal.signal(DRAIN, lambda *_: agent.drain())
    signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the loop
    reason = agent.run()
    log.info("ends: %s", reason)
    code = agent.end()
    agent.tell_started(reason)
    if code:
        sys.exit(code)
