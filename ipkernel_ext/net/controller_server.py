"""The controller's shell: one loop, one thread around ``core.controller``, a second for keys.

Each turn of the loop takes what has piled up on its sockets, hands it to the core, does the
effects, and sends each peer one batch. Knows nothing of what the messages are for.
"""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import socket as std_socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import zmq

from ipkernel_ext import blobs
from ipkernel_ext.config import addresses
from ipkernel_ext.config.keys import ClusterKeys
from ipkernel_ext.core import failures, wire
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.controller import ControllerCore
from ipkernel_ext.core.effects import (
    Deliver,
    Discard,
    Drop,
    Effect,
    Enlist,
    Expire,
    Journal,
    Log,
    Mailbox,
    Peer,
    Send,
    Stop,
    Watch,
)
from ipkernel_ext.errors import ParallelError, ProtocolError
from ipkernel_ext.net import tcp
from ipkernel_ext.net.begun import prune, read_begun, read_results
from ipkernel_ext.net.couriers import Couriers
from ipkernel_ext.net.doors import LocalDoor, RemoteDoor, RemotePeer
from ipkernel_ext.net.journal import JournalFile
from ipkernel_ext.net.sockets import Poller, Wake, until
from ipkernel_ext.net.store import ResultStore
from ipkernel_ext.net.zap import Gatekeeper, probe

BATCH = 512  # batches taken in one turn of the loop
SHUT = 1000  # milliseconds in which a port must be free again
SEE_OFF = 0.5  # seconds that those who came over TCP have to hang up when the cluster ends
PRUNE = 10.0  # seconds between two looks at what engines that are gone have left
LOOK = 5.0  # seconds between two looks at whether the socket can still be found
PROOF = 4096  # bytes, at most, by which engines of one host are known
PAUSE = 2.0  # seconds later than it was to be woken: then this process stood still
GRUMBLE = 60.0  # seconds between two log lines about garbage

_OF_COURIERS = frozenset((m.PieceWanted, m.PiecesCome, m.PassesOn, m.FrameTaken))


class ControllerServer:
    """A controller that listens on a unix socket, and over TCP if it is told to.

    Parameters
    ----------
    path : Path
        Where to listen; its directory is private to this user.
    journal : JournalFile
        What an earlier life left, and where this one writes.
    store : ResultStore
        Results whose clients are not here.
    engines : Path
        Directory in which local engines keep their begun files.
    log : logging.Logger
    owner : int or None
        A descriptor whose end of file means that the cluster is to end.
    home : Home or None
        Shared memory through which large frames travel on this host.
    couriers : Couriers or None
        How large frames go to other hosts.
    options
        Given to ``ControllerCore``: ``recovery_window``, ``engine_grace``, ``result_ttl``.

    Attributes
    ----------
    on_rotate
        Gives the controller other keys; see ``rotate``.
    tcp : list of str
        Where it can be reached from other hosts.
    """

    def __init__(
        self,
        path: Path,
        journal: JournalFile,
        store: ResultStore,
        engines: Path,
        log: logging.Logger,
        owner: int | None = None,
        home: blobs.Home | None = None,
        couriers: Couriers | None = None,
        **options: float,
    ) -> None:
        self.url = f"ipc://{path}"
        self._path = path
        self._journal = journal
        self._store = store
        self._engines = engines
        self._log = log
        self._owner = owner
        self._home = home
        self._sweeper = None if home is None else blobs.Sweeper(home)
        self._sharing: set[Peer] = set()  # those who have this shared memory
        self._couriers = Couriers() if couriers is None else couriers
        self._held: dict[m.TaskId, list[blobs.Blob]] = {}  # of results that their clients may not have opened yet
        # an epoch never comes again, even where the journal was lost with its directory
        self.epoch = max(journal.epoch + 1, int(time.time()))
        self._core = ControllerCore(
            self.epoch,
            pid=os.getpid(),
            host=std_socket.gethostname(),
            now=time.monotonic(),
            begun=self._begun,
            finished=self._finished,
            journal=journal.tasks,
            enlisted=journal.engines,
            expired=journal.clients,
            kept=store.tasks(),
            **options,
        )
        self._decode = wire.Decoder(m.FromPeer).decode
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._local = LocalDoor(path, self._on_stranger)
        self._remote: RemoteDoor | None = None
        self._doors: list[LocalDoor | RemoteDoor] = []
        self._gatekeeper: Gatekeeper | None = None
        self.tcp: list[str] = []
        self.on_rotate: Callable[[], None] = lambda: None
        self._rotate = False
        self._prune_at = 0.0
        self._look_at = time.monotonic() + LOOK
        self._stood_still = 0.0  # seconds, in all
        self._woke = 0.0  # when this turn of the loop began
        self._core_due = self._couriers_due = math.inf  # when they were due when it began
        self._wake = Wake()
        self._poller = Poller()
        self._ends = select.epoll() if hasattr(select, "epoll") else None  # of local engines' processes
        self._add(self._local)
        self._processes: dict[int, str] = {}  # pidfd: boot
        self._pids: dict[str, int] = {}  # boot: pid, as the kernel says
        self._out: dict[Peer, list[wire.Entry]] = {}
        self._stop: str | None = None
        self._asked_to_stop: str | None = None
        self._grumbled: dict[str, tuple[float, int]] = {}  # when last, and how often since, by what about

    def listen(self) -> None:
        """Bind the socket. From now on peers can connect; they are served by ``run``."""
        self._path.unlink(missing_ok=True)
        self._bind()
        self._journal.begin(self.epoch)

    def _bind(self) -> None:
        self._local.bind()

    def listen_tcp(self, ip: str, port: int, keys: ClusterKeys) -> int:
        """Listen for other hosts too; the port.

        Order: who answers for the keys, then the socket, then proof that strangers are refused; only
        then may anybody be told.

        Parameters
        ----------
        ip : str
            As the user says it; "" is this host only.
        port : int
            0: that of the keys' earlier life if it is free, else any.

        Raises
        ------
        ParallelError
            It cannot, or not safely.
        """
        tcp.require_curve()
        if self._gatekeeper is None:
            self._gatekeeper = Gatekeeper(self._context, keys.roles(), self._wake.set)
        self._gatekeeper.admit(keys.roles())
        socket = tcp.listening_socket(self._context, keys.server)
        self._remote = RemoteDoor(socket, self._on_stranger)
        self._add(self._remote)
        ip = addresses.resolve(ip)
        bound = tcp.bind(socket, ip, port, keys.port)
        self.tcp = [addresses.url(address, bound) for address in addresses.reached_at(ip)]
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(ip, ip)
        probe(addresses.url(here, bound), keys)
        self._remote.pass_over(2)
        self._gatekeeper.refused.clear()
        return bound

    def _add(self, door: LocalDoor | RemoteDoor) -> None:
        self._doors.append(door)
        for source in door.sources:
            self._poller.register(source)

    def leave_tcp(self) -> None:
        """Be there for nobody over TCP, until ``listen_tcp`` is called again; who was connected so is gone."""
        door = self._remote
        if door is None:
            return
        self._doors.remove(door)
        for source in door.sources:
            self._poller.unregister(source)
        for peer in door.shut(SHUT):
            self._forget(peer)
            self._do(self._core.left(peer, self._now()))
        self._remote = None
        self.tcp = []

    def rotate(self) -> None:
        """Have ``on_rotate`` called between two turns of the loop; may be called from a signal handler."""
        self._rotate = True
        self._wake.set()

    def stop(self, reason: str) -> None:
        """End the cluster; may be called from a signal handler or another thread."""
        self._asked_to_stop = reason
        self._wake.set()

    def run(self) -> str:
        """Serve until told to stop; the reason. To be called from the process's main thread.

        Raises
        ------
        ParallelError
            Nobody watches over the keys any more.
        """
        self._wake.set_by_signals()
        self._poller.register(self._wake.fileno())
        if self._owner is not None:
            self._poller.register(self._owner)
        if self._ends is not None:
            self._poller.register(self._ends.fileno())
        self._woke = self._now()
        while self._stop is None:
            ready = self._wait()
            if self._owner in ready:
                self._asked_to_stop = "the agent that watched over it has ended"
            self._wake.clear_if(ready)
            self._check_gatekeeper()
            if self._rotate:
                self._rotate = False
                self.on_rotate()
            ends = self._ends if self._ends is not None and self._ends.fileno() in ready else None
            for door in self._doors:
                door.see(ready if ends is None else door.sources)  # what they had still sent may have come since
                self._take(door)
            if ends is not None:
                for descriptor, _ in ends.poll(0):
                    self._process_ended(descriptor)
            now = self._now()
            if now >= self._core_due:
                self._do(self._core.tick(now))
            if now >= self._couriers_due:
                self._send_first(self._couriers.tick(now))
            if self._asked_to_stop is not None:
                self._do(self._core.shut_down(self._asked_to_stop))
            if not self._store.idle:
                self._settle_store()
            self._flush()
            if now >= self._look_at:
                self._look(now)
        return self._stop

    def _now(self) -> float:
        """The core's clock, which stands still while this process does: nobody is to be missed for that time."""
        return time.monotonic() - self._stood_still

    def _wait(self) -> dict[Any, int]:
        """Wait until something happens or is due."""
        begun = self._note_stand(self._woke, self._woke)
        core, couriers = self._core.next_deadline(), self._couriers.next_deadline()
        self._core_due = math.inf if core is None else core
        self._couriers_due = math.inf if couriers is None else couriers
        due = min(self._core_due, self._couriers_due, self._look_at)
        ready = self._poller.poll(0 if self._local.busy else until(due, begun))
        self._woke = self._note_stand(begun, max(due, begun))
        return ready

    def _note_stand(self, since: float, due: float) -> float:
        """If it is much later than it was to be, this process stood still since then, or was as if it had; now."""
        now = self._now()
        if now - due > PAUSE:
            self._stood_still += now - since
            self._log.warning("this process stood still for up to %.0f s", now - since)
            return since
        return now

    def _look(self, now: float) -> None:
        """Whether peers that come can still find us, whatever cleans up here."""
        self._look_at = now + LOOK
        if self._sweeper is not None:
            self._sweeper.sweep(now)
            self._held = {task: held for task, held in self._held.items() if self._core.knows(task)}
        if self._path.exists():
            return
        if not self._engines.exists():
            raise ParallelError(f"somebody has removed {self._path.parent}: a controller has to begin anew")
        self._log.warning("somebody has removed %s; it is made anew", self._path)
        self._bind()

    def close(self) -> None:
        """Let go of sockets and files, after what was sent has left."""
        self._see_off()
        signal.set_wakeup_fd(-1)
        for door in self._doors:
            door.close(1000)
        if self._gatekeeper is not None:
            self._gatekeeper.close()
        self._context.term()
        for descriptor in self._processes:
            os.close(descriptor)
        if self._ends is not None:
            self._ends.close()
        self._wake.close()
        self._path.unlink(missing_ok=True)
        self._journal.close()
        self._store.close()

    def _see_off(self) -> None:
        """Wait a moment for those who came over TCP to hang up.

        Where something was not read when a socket is closed, TCP ends the connection at once, and what is under way
        to the other end, such as that the cluster ends, is lost.
        """
        until = time.monotonic() + SEE_OFF
        while self._remote is not None and self._remote.peers and (left := until - time.monotonic()) > 0:
            self._remote.see(self._poller.poll(int(1000 * left) + 1))
            while self._remote.receive() is not None:
                pass
            while self._remote.leaving:
                peer = self._remote.leaving.pop()
                if isinstance(peer, RemotePeer):
                    self._remote.forget(peer.id)

    # ------------------------------------------------------------ in

    def _take(self, door: LocalDoor | RemoteDoor) -> None:
        local = door is self._local
        find = None if not local else self._home.open if self._home is not None else blobs.absent
        for _ in range(BATCH):
            received = door.receive()
            if received is None:
                door.settle()
                self._let_go(door)
                return
            peer, parts = received
            try:
                _, entries = self._decode(parts or (), find)
            except ProtocolError as error:
                self._on_garbage(peer, error)
                continue
            now = self._now()
            role = None if local else cast(RemotePeer, peer).role
            for message, frames in entries:
                kind = type(message)
                if kind in _OF_COURIERS:
                    self._send_first(self._couriers.receive(peer, message, now))
                    continue
                if kind is m.HelloEngine:
                    self._pids[message.engine.boot] = self._local.pids.get(peer, 0)
                if frames:
                    self._note_shared(peer, message, frames, local)
                try:
                    self._do(self._core.receive(peer, message, frames, now, role))
                except Exception as error:
                    self._on_bug(peer, message, error)

    def _on_bug(self, peer: Peer, message: Any, error: Exception) -> None:
        """A message brought a mistake of ours to light: its sender is told, and sends it no more.

        Where the tables are not whole any more this controller ends. The next one learns everything from
        the edges.

        Raises
        ------
        ParallelError
            They are not.
        """
        kind = type(message).__name__
        self._log.error("a mistake in the controller, met by %s of %s", kind, peer, exc_info=error)
        self._out.setdefault(peer, []).append((failures.refused(message, failures.bug(kind, error)), ()))
        try:
            self._core.check()
        except Exception as broken:
            self._flush()
            raise ParallelError(f"this controller has lost track ({broken!r}); it has to begin anew") from error

    def _note_shared(self, peer: Peer, message: Any, frames: Sequence[wire.Frame], local: bool) -> None:
        """Who says hello with a proof has this shared memory, or another. What is in it of a result stays for a while.

        Its engine keeps a result until its client has it; but the engine may die before.
        """
        match message:
            case m.Result() if local:
                held = [frame for frame in frames if type(frame) is blobs.Blob]
                if held and self._core.knows(message.task):
                    self._held[message.task] = held
            case m.HelloClient() | m.HelloEngine() | m.HelloTasks() if local and self._is_proof(frames[0]):
                self._sharing.add(peer)
            case m.HelloEngine() | m.HelloTasks():
                self._couriers.join(peer, bytes(frames[0][:PROOF]), type(message) is m.HelloEngine)

    def _is_proof(self, frame: wire.Frame) -> bool:
        return self._home is not None and frame == self._home.proof

    def _on_garbage(self, peer: Peer, error: ProtocolError) -> None:
        self._core.refused += 1
        self._grumble("not a message of ours", str(error))
        failure = m.Failure("ProtocolError", "ProtocolError", str(error))
        self._out.setdefault(peer, []).append((m.Refused(failure), ()))

    def _on_stranger(self, what: str, address: str) -> None:
        """A connection ended before it had shown a key that we know, or said anything."""
        refused = self._gatekeeper.refused if self._gatekeeper is not None else None
        if what == "an unknown key" and refused:
            address = refused.popleft()
        self._core.refused += 1
        self._grumble(f"a connection with {what} was refused", f"from {address or 'an address that is gone'}")

    def _grumble(self, about: str, detail: str) -> None:
        """One line a minute about each thing that strangers do."""
        last, count = self._grumbled.get(about, (float("-inf"), 0))
        now = self._now()
        if now - last >= GRUMBLE:
            last, more = now, f" (and {count} times more before)" if count else ""
            self._log.warning("%s%s: %s", about, more, detail)
            count = -1
        self._grumbled[about] = (last, count + 1)

    def _check_gatekeeper(self) -> None:
        keeper = self._gatekeeper
        if keeper is not None and keeper.failure is not None:
            raise ParallelError(f"nobody answers for keys any more: {keeper.failure!r}; the controller ends")

    def _let_go(self, door: LocalDoor | RemoteDoor) -> None:
        """Peers whose connection has ended are gone once all that they had sent has been read."""
        while door.leaving:
            peer = door.leaving.pop()
            self._forget(peer)
            self._do(self._core.left(peer, self._now()))

    def _forget(self, peer: Peer) -> None:
        self._out.pop(peer, None)
        self._sharing.discard(peer)
        self._send_first(self._couriers.leave(peer, self._now()))
        if isinstance(peer, bytes):
            self._local.forget(peer)
        elif isinstance(peer, RemotePeer) and self._remote is not None:
            self._remote.forget(peer.id)

    def _process_ended(self, descriptor: int) -> None:
        assert self._ends is not None
        boot = self._processes.pop(descriptor)
        self._ends.unregister(descriptor)
        os.close(descriptor)
        now = self._now()
        self._do(self._core.process_ended(boot, now))
        if now >= self._prune_at:
            self._prune_at = now + PRUNE
            prune(self._engines)

    def _begun(self, boot: str) -> set[tuple[m.TaskId, int]] | None:
        return read_begun(self._engines / boot)

    def _finished(self, boot: str) -> list[wire.Entry]:
        entries: list[wire.Entry] = []
        for parts in read_results(self._engines / boot):
            with suppress(ProtocolError):
                entries.extend(self._decode(parts, self._home.open if self._home is not None else blobs.absent)[1])
        return entries

    # ------------------------------------------------------------ out

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if type(effect) is Send:  # as most are
                if type(effect.peer) is Mailbox:
                    self._store.take(effect.message, effect.frames)
                else:
                    self._out.setdefault(effect.peer, []).append((effect.message, effect.frames))
                continue
            match effect:
                case Journal(task, hint):
                    self._journal.write_task(task, hint)
                    if hint is None:
                        self._held.pop(task, None)
                case Enlist(engine, boot):
                    self._journal.write_engine(engine, boot)
                case Expire(client, number):
                    self._journal.write_client(client, number)
                case Deliver(peer, task, alias):
                    self._out.setdefault(peer, []).extend(self._store.get(task, alias))
                case Discard(client, number):
                    self._store.discard(client, number)
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

    def _settle_store(self) -> None:
        """What is on disk, engines need not keep; so it is written before anything that follows is sent."""
        settled, dropped = self._store.settle()
        for task, error, stored in settled:
            self._do(self._core.kept(task, error, stored, self._now()))
        if dropped:
            self._do(self._core.dropped(dropped))
        self._store.forget_aside()

    def _watch(self, boot: str, pid: int) -> None:
        """Have the kernel tell when a local engine's process ends."""
        if self._ends is None or self._pids.pop(boot, 0) != pid or boot in self._processes.values():
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._do(self._core.process_ended(boot, self._now()))
            return
        except (AttributeError, OSError):
            return  # no such thing here: the connection's end has to do
        self._processes[descriptor] = boot
        self._ends.register(descriptor, select.EPOLLIN)

    def _flush(self) -> None:
        while self._out:
            out, self._out = self._couriers.route(self._out, self._now()), {}
            for peer, entries in out.items():
                door, id = self._way_to(peer)
                if not door.send(id, wire.encode(self.epoch, entries, self._refer(peer))):
                    self._do(self._core.left(peer, self._now()))

    def _send_first(self, out: Mapping[Peer, list[wire.Entry]]) -> None:
        """Send this before whatever else there is for the same peers."""
        for peer, entries in out.items():
            self._out[peer] = entries + self._out.get(peer, [])

    def _refer(self, peer: Peer) -> Callable[[wire.Frame], wire.Frame]:
        if self._home is not None and peer in self._sharing:
            return self._home.refer
        return self._couriers.refer(peer)

    def _way_to(self, peer: Any) -> tuple[LocalDoor | RemoteDoor, bytes]:
        if type(peer) is RemotePeer and self._remote is not None:
            return self._remote, peer.id
        return self._local, peer


def stop_on_signals(stop: Callable[[str], Any]) -> None:
    """Have SIGINT, SIGTERM and SIGHUP call ``stop`` with their name."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: stop(signal.Signals(caught).name))
