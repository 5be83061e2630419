"""The agent: supervisor of one host's engines and, on the head host, of the controller.

It sees a child's end from the kernel, tells the controller how it ended, starts successors by
policy, and ends everything when its owner does. It runs no user code and unpickles nothing.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import sys
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import zmq

from ipkernel_ext.config import connection
from ipkernel_ext.config.cores import thread_limits
from ipkernel_ext.config.place import Place
from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.core.messages import Exit
from ipkernel_ext.net.edge import Edge
from ipkernel_ext.net.sockets import Wake, until
from ipkernel_ext.nursery.children import Child

GRACE = 3.0  # seconds that children have to end
INTENSITY = 10.0  # seconds in which ``restart_limit`` restarts are allowed
READY = 20.0  # seconds a controller has to listen


class Orders(msgspec.Struct):
    """What the agent is to do, given on its standard input as one line of JSON.

    When ``owned``, the end of file there means that the owner is gone.
    """

    directory: str
    profile: str | None
    engines: int
    owned: bool
    restart: bool = True
    restart_limit: int = 3
    options: list[str] = []  # command line options for the controller and the engines


class Agent:
    """Runs one cluster's processes on this host."""

    def __init__(self, orders: Orders, log: logging.Logger) -> None:
        self._orders = orders
        self._log = log
        self._id = uuid.uuid4().hex[:12]
        self.place = Place(Path(orders.directory), orders.profile)
        self._engines: dict[str, Child] = {}  # by boot
        self._replaced: dict[str, str] = {}  # successor's boot: the boot whose id it takes over
        self._controller: Child | None = None
        self._restarts: dict[str, deque[float]] = {}  # when, by the first boot of an engine's line
        self._lines: dict[str, str] = {}  # boot: the first boot of its line
        self._ending: set[str] = set()  # boots whose end was ordered
        self._successors: set[str] = set()  # of these, those that get a successor
        self._stop: str | None = None
        self._epoch = 0
        self._known = False  # the controller has welcomed us
        self._unsent: list[Any] = []
        self._exits: deque[m.EngineExited] = deque(maxlen=256)  # the controller may not have heard of
        self._generation = 0  # of the connection
        self._wake = Wake()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._edge = Edge(self._context, self._locate, wire.Decoder(m.ToAgent), self._poller)
        self._environment = {**os.environ, **thread_limits(orders.engines)}

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Start the controller and then the engines.

        Raises
        ------
        RuntimeError
            The controller does not start; carries the end of its log.
        """
        self.place.make()
        for old in (*self.place.logs.glob("engine-*.log"), self.place.logs / "controller.log"):
            old.unlink(missing_ok=True)
        self.place.agent.write_text(str(os.getpid()))
        self._start_controller()
        for _ in range(self._orders.engines):
            self._start_engine()

    def run(self) -> str:
        """Watch over everything until told to stop; the reason."""
        self._wake.set_by_signals()
        self._poller.register(self._wake.fileno(), zmq.POLLIN)
        if self._orders.owned:
            self._poller.register(0, zmq.POLLIN)
        self._reconnect()
        while self._stop is None:
            ready = dict(self._poller.poll(until(self._edge.retry_at, time.monotonic())))
            if 0 in ready:
                self._stop = "its owner has ended"
            self._wake.clear()
            lost = self._edge.lost(time.monotonic())
            self._take()  # also what came before the connection was lost
            if lost or (self._edge.retry_at is not None and time.monotonic() >= self._edge.retry_at):
                self._reconnect()
            self._reap(ready)
            self._report()
        return self._stop

    def stop(self, reason: str) -> None:
        """End everything; from a signal handler."""
        self._stop = self._stop or reason
        self._wake.set()

    def end(self) -> None:
        """Order: engines first, so that the controller can still tell clients; then the controller; then the files."""
        self._edge.send(self._epoch, [(m.Goodbye(), ())])
        self._end_children(list(self._engines.values()))
        if self._controller is not None:
            self._end_children([self._controller])
        signal.set_wakeup_fd(-1)
        self._edge.close(linger=200)
        self._context.term()
        self._wake.close()
        self.place.sweep()

    def _end_children(self, children: list[Child]) -> None:
        for child in children:
            child.release()
            child.signal(signal.SIGTERM)
        until = time.monotonic() + GRACE + 0.5
        for child in children:
            if not child.wait(max(0.0, until - time.monotonic())):
                child.signal(signal.SIGKILL)
                child.wait(GRACE)
            child.close()

    # ------------------------------------------------------------ children

    def _command(self, program: str, *options: str) -> list[str]:
        where = (
            ["--directory", self._orders.directory]
            if self._orders.profile is None
            else ["--profile", self._orders.profile]
        )
        return [sys.executable, "-m", "ipkernel_ext.commands", program, *where, *self._orders.options, *options]

    def _start_controller(self) -> None:
        reader, writer = os.pipe()
        try:
            log = self.place.logs / "controller.log"
            command = self._command("ipcontroller", "--owned", f"--ready-fd={writer}")
            self._controller = Child(command, log, os.environ, [writer])
        finally:
            os.close(writer)
        with open(reader, "rb") as ready:
            came, _, _ = select.select([ready], [], [], READY)
            if not came or not ready.read(1):
                tail = self._controller.tail()
                self._controller.signal(signal.SIGKILL)
                self._controller.wait(GRACE)
                self._controller.close()
                self._controller = None
                raise RuntimeError(f"the controller does not start; its log {log} ends with\n{tail}")
        self._poller.register(self._controller.descriptor, zmq.POLLIN)

    def _start_engine(self, replaces: str | None = None, line: str | None = None) -> None:
        boot = uuid.uuid4().hex[:12]
        self._lines[boot] = line or boot
        options = ["--owned", f"--boot={boot}", f"--agent={self._id}"]
        if replaces is not None:
            options.append(f"--replaces={replaces}")
        log = self.place.logs / f"engine-{boot}.log"
        child = Child(self._command("ipengine", *options), log, self._environment)
        self._engines[boot] = child
        if replaces is not None:
            self._replaced[boot] = replaces
        self._poller.register(child.descriptor, zmq.POLLIN)

    def _reap(self, ready: dict[Any, int]) -> None:
        for boot, child in list(self._engines.items()):
            if child.descriptor in ready:
                exit = child.ended()
                if exit is not None:
                    self._forget_child(child)
                    del self._engines[boot]
                    self._on_exit(boot, child, exit)
        controller = self._controller
        if controller is not None and controller.descriptor in ready:
            exit = controller.ended()
            if exit is not None:
                self._forget_child(controller)
                self._controller = None
                self._on_controller_exit(exit)

    def _forget_child(self, child: Child) -> None:
        self._poller.unregister(child.descriptor)
        child.close()

    def _on_exit(self, boot: str, child: Child, exit: Exit) -> None:
        ordered = boot in self._ending
        failed = exit.signal is not None or exit.exit_code != 0
        line = self._lines.pop(boot, boot)
        again = boot in self._successors or (
            not ordered and failed and self._orders.restart and self._may_restart(line)
        )
        self._ending.discard(boot)
        self._successors.discard(boot)
        if failed and not ordered:
            exit = msgspec.structs.replace(exit, detail=_last_line(child.tail()))
            self._log.warning("engine %s (pid %d) ended: %s", boot, child.pid, exit)
        exited = m.EngineExited(boot, exit, again, self._replaced.pop(boot, None))
        self._exits.append(exited)
        self._unsent.append(exited)
        if again:
            self._start_engine(replaces=boot, line=line)
        elif failed and not ordered and not self._engines:
            self._unsent.append(
                m.AgentTrouble(f"engines do not stay up; the log {child.log} ends with\n{child.tail()}")
            )
        if not (failed and not ordered):
            child.log.unlink(missing_ok=True)

    def _may_restart(self, line: str) -> bool:
        """Whether this line of engines (or of controllers) has not died too often of late."""
        now = time.monotonic()
        restarts = self._restarts.setdefault(line, deque())
        while restarts and restarts[0] < now - INTENSITY:
            restarts.popleft()
        if len(restarts) >= self._orders.restart_limit:
            return False
        restarts.append(now)
        return True

    def _on_controller_exit(self, exit: Exit) -> None:
        if exit.exit_code == 0:
            self._stop = self._stop or "the controller has stopped"
        elif self._stop is None and self._may_restart("controller"):
            self._log.warning("the controller ended: %s; starting it again", exit)
            try:
                self._start_controller()
            except RuntimeError as error:
                self._log.error("%s", error)
                self._stop = str(error)
        else:
            self._stop = self._stop or "the controller does not stay up"

    # ------------------------------------------------------------ the controller

    def _locate(self) -> connection.Address:
        path = self.place.connection("engine")
        return connection.Address((connection.read(path).url,), None, str(path))

    def _reconnect(self) -> None:
        self._known = False
        if self._edge.open(time.monotonic()):
            self._generation += 1
            hello = m.HelloAgent(
                m.PROTOCOL,
                self._id,
                socket.gethostname(),
                os.getpid(),
                len(self._engines),
                list(self._exits),
                self._generation,
            )
            self._edge.send(self._epoch, [(hello, ())])

    def _take(self) -> None:
        while (batch := self._edge.receive()) is not None:
            epoch, entries = batch
            if epoch < self._epoch:
                continue
            self._epoch = epoch
            for message, _ in entries:
                self._on_message(message)

    def _on_message(self, message: m.ToAgent) -> None:
        match message:
            case m.WelcomeAgent():
                self._known = True
            case m.EndEngine():
                child = self._engines.get(message.boot)
                if child is not None:
                    self._ending.add(message.boot)
                    if message.restart:
                        self._successors.add(message.boot)
                    child.signal(signal.SIGKILL)
            case m.StopAgent():
                self._stop = "the controller said so"
            case m.ClusterEnds():
                self._stop = message.reason
            case m.HelloWanted():
                self._edge.retry_at = time.monotonic()
            case m.Refused():
                self._log.error("the controller refuses this agent: %s", message.failure.message)

    def _report(self) -> None:
        if self._known and self._unsent:
            unsent, self._unsent = self._unsent, []
            self._edge.send(self._epoch, [(message, ()) for message in unsent])


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _first_line() -> bytes:
    """The first line of standard input, and no byte more: what follows is the owner's silence."""
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return bytes(line)


def _tell(answer: dict[str, Any]) -> None:
    """Tell whoever started us how it went, and let go of the way to say so."""
    print(json.dumps(answer), flush=True)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)


def main() -> None:
    """Entry of the agent's process."""
    orders = msgspec.json.decode(_first_line(), type=Orders)
    place = Place(Path(orders.directory), orders.profile)
    place.make()
    logging.basicConfig(
        filename=place.logs / "agent.log",
        filemode="w",
        format="%(asctime)s %(levelname)s %(message)s",
        level=logging.INFO,
    )
    log = logging.getLogger("ipkernel_ext.agent")
    if not orders.owned:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
    agent = Agent(orders, log)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: agent.stop(signal.Signals(caught).name))
    try:
        agent.start()
    except Exception as error:
        _tell({"error": str(error)})
        agent.end()
        raise SystemExit(1) from None
    _tell({"client": str(place.connection("client"))})
    log.info("ends: %s", agent.run())
    agent.end()
