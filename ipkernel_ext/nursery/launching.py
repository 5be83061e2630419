"""``python -m ipkernel_ext.nursery.launching``: has a cluster's engines started elsewhere, and tells what comes of it.

The agent of the cluster starts it, and ends it first of all. To the controller it is one more agent:
it says how many engines are expected and why they are not here, and is told when the cluster is
scaled. How engines are started is its launcher's business.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import sys
import time
import uuid
from pathlib import Path

import zmq

from ipkernel_ext.config import connection, logs
from ipkernel_ext.core import messages as m
from ipkernel_ext.launchers import make
from ipkernel_ext.launchers.launcher import Launcher, LaunchError, LaunchOrder, State
from ipkernel_ext.net.sockets import Wake, until
from ipkernel_ext.nursery.line import Line
from ipkernel_ext.nursery.orders import LaunchOrders, first_line

OWNER = 0  # the descriptor whose end is the agent's


class Launching:
    """Between a launcher and the controller."""

    def __init__(self, launcher: Launcher, orders: LaunchOrders, log: logging.Logger, owned: bool) -> None:
        self._launcher = launcher
        self._numbers = orders["numbers"]
        self._log = log
        self._owned = owned
        self._id = uuid.uuid4().hex[:12]
        self._wake = Wake()
        self._poller = zmq.Poller()
        locate = connection.for_engines(Path(orders["connection"]), False)
        self._line = Line(locate, self._poller, self._hello, log)
        self._wanted = len(self._numbers)
        self._state = State(self._wanted)
        self._told: m.AgentTrouble | None = None
        self._refusal = ""  # why the latest engines could not be started
        self._stop: str | None = None

    def run(self) -> str:
        """Start the engines and watch until told to stop; the reason."""
        self._wake.set_by_signals()
        self._poller.register(self._wake.fileno(), zmq.POLLIN)
        if self._owned:
            self._poller.register(OWNER, zmq.POLLIN)
        self._start(self._numbers)
        self._line.connect()
        look_at = 0.0
        while self._stop is None:
            if time.monotonic() >= look_at:
                self._look()
                look_at = time.monotonic() + self._launcher.pause
            due = look_at if self._line.due is None else min(look_at, self._line.due)
            ready = dict(self._poller.poll(until(due, time.monotonic())))
            if OWNER in ready:
                self._stop = "its agent has ended"
            self._wake.clear()
            for message in self._line.receive():
                self._on_message(message)
            self._line.flush()
        return self._stop

    def stop(self, reason: str) -> None:
        """End everything; from a signal handler."""
        self._stop = self._stop or reason
        self._wake.set()

    def end(self) -> None:
        """End what was started, and leave."""
        self._line.say_goodbye()
        self._launcher.stop()
        signal.set_wakeup_fd(-1)
        self._line.close()
        self._wake.close()

    def _start(self, numbers: list[int]) -> None:
        self._refusal = ""
        try:
            self._launcher.start(numbers)
        except LaunchError as error:
            self._log.error("%s", error)
            self._refusal = str(error)

    def _look(self) -> None:
        """Ask the launcher how it goes, and tell what is new."""
        self._state = self._launcher.state()
        if self._state.ended:
            self._log.warning("%s", self._state.ended)
            self._tell(self._state.ended)
        elif self._state.expected:
            self._tell(self._refusal or self._state.waits)
        elif self._wanted and (self._told is None or self._told.expected):
            self._tell(self._refusal or "the engines have ended, and none is to come")

    def _tell(self, reason: str) -> None:
        trouble = m.AgentTrouble(reason, self._state.expected)
        if trouble != (self._told or m.AgentTrouble("", self._wanted)):
            self._line.tell(trouble)
        self._told = trouble

    def _scale(self, engines: int, ids: list[int]) -> None:
        self._wanted = engines
        pending = min(self._launcher.state().pending, engines - len(ids))
        self._launcher.keep(ids, pending)
        free = (number for number in itertools.count() if number not in ids)
        missing = list(itertools.islice(free, engines - len(ids)))[pending:]
        if missing:
            self._start(missing)

    def _hello(self, generation: int) -> m.HelloAgent:
        fixed = self._launcher.fixed
        return m.HelloAgent(
            m.PROTOCOL,
            self._id,
            socket.gethostname(),
            os.getpid(),
            self._state.expected,
            [],
            generation,
            "none" if fixed else "elsewhere",
            fixed,
        )

    def _on_message(self, message: m.ToAgent) -> None:
        match message:
            case m.WelcomeAgent() if self._told is not None:
                self._line.tell(self._told)
            case m.ScaleAgent():
                self._scale(message.engines, message.ids)
            case m.StopAgent():
                self._stop = "the controller said so"
            case m.ClusterEnds():
                self._stop = message.reason


def order_of(orders: LaunchOrders) -> LaunchOrder:
    """What its launcher is told."""
    return LaunchOrder(
        orders["directory"],
        orders["logs"],
        orders["socket"],
        orders["connection"],
        orders["profile"],
        sys.executable,
        orders["outpost"],
    )


def main() -> None:
    """Entry of its process."""
    orders: LaunchOrders = first_line()
    logging.basicConfig(format=logs.FORMAT, level=logging.INFO)
    log = logging.getLogger("ipkernel_ext.launcher")
    launcher = make(orders["where"], orders["settings"], order_of(orders))
    launching = Launching(launcher, orders, log, orders["owned"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: launching.stop(signal.Signals(caught).name))
    reason = launching.run()
    log.info("ends: %s", reason)
    launching.end()


if __name__ == "__main__":
    main()
