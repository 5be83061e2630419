"""The controller's shell: one ROUTER, one loop, one thread around ``core.controller``.

Each turn of the loop takes what has piled up on the socket, hands it to the core, does the
effects, and sends each peer one batch. Knows nothing of what the messages are for.
"""

from __future__ import annotations

import logging
import os
import signal
import socket as std_socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import zmq

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.core.controller import ControllerCore
from ipkernel_ext.core.effects import Drop, Effect, Enlist, Journal, Log, Peer, Send, Stop, Watch
from ipkernel_ext.errors import ProtocolError
from ipkernel_ext.net.begun import read_begun
from ipkernel_ext.net.journal import JournalFile
from ipkernel_ext.net.sockets import Monitor, Wake, new_socket, receive, send, until

BATCH = 512  # batches taken in one turn of the loop
GRUMBLE = 60.0  # seconds between two log lines about garbage

_HELLOS = m.HelloClient | m.HelloEngine | m.HelloTasks | m.HelloAgent


class ControllerServer:
    """A controller that listens on a unix socket.

    Parameters
    ----------
    path : Path
        Where to listen; its directory is private to this user.
    journal : JournalFile
        What an earlier life left, and where this one writes.
    engines : Path
        Directory in which local engines keep their begun files.
    log : logging.Logger
    owner : int or None
        A descriptor whose end of file means that the cluster is to end.
    options
        Given to ``ControllerCore``: ``recovery_window``, ``engine_grace``, ``result_ttl``.
    """

    def __init__(
        self,
        path: Path,
        journal: JournalFile,
        engines: Path,
        log: logging.Logger,
        owner: int | None = None,
        **options: float,
    ) -> None:
        self.url = f"ipc://{path}"
        self._path = path
        self._journal = journal
        self._engines = engines
        self._log = log
        self._owner = owner
        # an epoch never comes again, even where the journal was lost with its directory
        self.epoch = max(journal.epoch + 1, int(time.time()))
        self._core = ControllerCore(
            self.epoch,
            pid=os.getpid(),
            host=std_socket.gethostname(),
            now=time.monotonic(),
            begun=self._begun,
            journal=journal.tasks,
            enlisted=journal.engines,
            **options,
        )
        self._decode = wire.Decoder(m.FromPeer).decode
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = new_socket(self._context, zmq.ROUTER)
        self._monitor = Monitor(self._socket, zmq.EVENT_DISCONNECTED)
        self._wake = Wake()
        self._poller = zmq.Poller()
        self._peers: dict[int, set[Peer]] = {}  # by the descriptor of their connection
        self._descriptors: dict[Peer, int] = {}
        self._leaving: list[Peer] = []
        self._pid_of: dict[Peer, int] = {}  # of local peers, as the kernel says
        self._processes: dict[int, str] = {}  # pidfd: boot
        self._pids: dict[str, int] = {}  # boot: pid, as the kernel says
        self._out: dict[Peer, list[wire.Entry]] = {}
        self._stop: str | None = None
        self._asked_to_stop: str | None = None
        self._garbage = 0
        self._grumbled = float("-inf")

    def listen(self) -> None:
        """Bind the socket. From now on peers can connect; they are served by ``run``."""
        self._path.unlink(missing_ok=True)
        self._socket.bind(self.url)
        os.chmod(self._path, 0o600)
        self._journal.begin(self.epoch)

    def stop(self, reason: str) -> None:
        """End the cluster; may be called from a signal handler or another thread."""
        self._asked_to_stop = reason
        self._wake.set()

    def run(self) -> str:
        """Serve until told to stop; the reason. To be called from the process's main thread."""
        self._wake.set_by_signals()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor.pair, zmq.POLLIN)
        self._poller.register(self._wake.fileno(), zmq.POLLIN)
        if self._owner is not None:
            self._poller.register(self._owner, zmq.POLLIN)
        while self._stop is None:
            ready = self._poller.poll(until(self._core.next_deadline(), time.monotonic()))
            for source, _ in ready:
                if source == self._owner:
                    self._asked_to_stop = "its owner has ended"
                if isinstance(source, int) and source in self._processes:
                    self._process_ended(source)
            self._wake.clear()
            self._see_disconnects()
            self._take()
            now = time.monotonic()
            deadline = self._core.next_deadline()
            if deadline is not None and now >= deadline:
                self._do(self._core.tick(now))
            if self._asked_to_stop is not None:
                self._do(self._core.shut_down(self._asked_to_stop))
            self._flush()
        return self._stop

    def close(self) -> None:
        """Let go of sockets and files, after what was sent has left."""
        signal.set_wakeup_fd(-1)
        self._monitor.close()
        self._socket.close(1000)
        self._context.term()
        for descriptor in self._processes:
            os.close(descriptor)
        self._wake.close()
        self._path.unlink(missing_ok=True)
        self._journal.close()

    # ------------------------------------------------------------ in

    def _take(self) -> None:
        for _ in range(BATCH):
            try:
                peer = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                self._let_go()
                return
            if peer in self._descriptors:
                parts: Sequence[wire.Frame] | None = receive(self._socket)
            else:
                parts = self._receive_from_stranger(peer)
            try:
                _, entries = self._decode(parts or ())
            except ProtocolError as error:
                self._on_garbage(peer, error)
                continue
            now = time.monotonic()
            for message, frames in entries:
                if isinstance(message, m.HelloEngine):
                    self._pids[message.engine.boot] = self._pid_of.get(peer, 0)
                self._do(self._core.receive(peer, message, frames, now))

    def _receive_from_stranger(self, peer: Peer) -> Sequence[wire.Frame] | None:
        """The first message of a connection also tells its descriptor and, locally, its process."""
        first = self._socket.recv(zmq.DONTWAIT, copy=False)
        self._see_disconnects()  # of an earlier connection with the same descriptor
        descriptor = int(first.get(zmq.SRCFD))
        self._descriptors[peer] = descriptor
        self._peers.setdefault(descriptor, set()).add(peer)
        local = str(first.get("Peer-Address")).split(":")  # of a unix socket: localhost:uid:gid:pid
        if len(local) == 4:
            self._pid_of[peer] = int(local[3])
            if int(local[1]) not in (os.getuid(), 0):
                return None
        parts: list[wire.Frame] = [first.bytes]
        while first.more:
            first = self._socket.recv(zmq.DONTWAIT, copy=False)
            parts.append(first.buffer)
        return parts

    def _on_garbage(self, peer: Peer, error: ProtocolError) -> None:
        self._garbage += 1
        self._core.refused += 1
        now = time.monotonic()
        if now - self._grumbled >= GRUMBLE:
            self._grumbled = now
            self._log.warning("not a message of ours (%d so far): %s", self._garbage, error)
        failure = m.Failure("ProtocolError", "ProtocolError", str(error))
        self._out.setdefault(peer, []).append((m.Refused(failure), ()))

    def _see_disconnects(self) -> None:
        for _, descriptor in self._monitor.events():
            self._leaving.extend(self._peers.pop(descriptor, ()))

    def _let_go(self) -> None:
        """Peers whose connection has ended are gone once all that they had sent has been read."""
        while self._leaving:
            peer = self._leaving.pop()
            self._forget(peer)
            self._do(self._core.left(peer, time.monotonic()))

    def _forget(self, peer: Peer) -> None:
        self._descriptors.pop(peer, None)
        self._pid_of.pop(peer, None)
        self._out.pop(peer, None)

    def _process_ended(self, descriptor: int) -> None:
        boot = self._processes.pop(descriptor)
        self._poller.unregister(descriptor)
        os.close(descriptor)
        self._do(self._core.process_ended(boot, time.monotonic()))

    def _begun(self, boot: str) -> set[tuple[m.TaskId, int]] | None:
        return read_begun(self._engines / boot)

    # ------------------------------------------------------------ out

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, message, frames):
                    self._out.setdefault(peer, []).append((message, frames))
                case Journal(task, hint):
                    self._journal.write_task(task, hint)
                case Enlist(engine, boot):
                    self._journal.write_engine(engine, boot)
                case Watch(boot, pid):
                    self._watch(boot, pid)
                case Drop(peer):
                    self._forget(peer)
                case Log(level, text):
                    self._log.log(level, text)
                case Stop(reason):
                    self._stop = reason
                case _:
                    raise AssertionError(f"not an effect of a controller: {effect}")

    def _watch(self, boot: str, pid: int) -> None:
        """Have the kernel tell when a local engine's process ends."""
        if self._pids.pop(boot, 0) != pid or boot in self._processes.values():
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._do(self._core.process_ended(boot, time.monotonic()))
            return
        except (AttributeError, OSError):
            return  # no such thing here: the connection's end has to do
        self._processes[descriptor] = boot
        self._poller.register(descriptor, zmq.POLLIN)

    def _flush(self) -> None:
        while self._out:
            out, self._out = self._out, {}
            for peer, entries in out.items():
                try:
                    send(self._socket, [peer, *wire.encode(self.epoch, entries)])
                except zmq.ZMQError as error:
                    if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                        raise
                    self._do(self._core.left(peer, time.monotonic()))


def stop_on_signals(stop: Callable[[str], Any]) -> None:
    """Have SIGINT, SIGTERM and SIGHUP call ``stop`` with their name."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: stop(signal.Signals(caught).name))
