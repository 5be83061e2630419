"""A simulated controller process around the real core, and the disk that outlives it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
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
    Send,
    Stop,
    Watch,
)
from ipkernel_ext.core.mailbox import Complete, Mailboxes, relabelled
from ipkernel_ext.core.messages import Hint, TaskId
from tests.simulation.actor import Actor
from tests.simulation.network import Connection

if TYPE_CHECKING:
    from tests.simulation.world import World

HOST = "host0"
_decode = wire.Decoder(m.FromPeer).decode


class Disk:
    """What the controller's files hold."""

    def __init__(self) -> None:
        self.epoch = 0
        self.journal: dict[TaskId, Hint] = {}
        self.enlisted: dict[int, str] = {}
        self.expired: dict[str, int] = {}
        self.kept: dict[TaskId, Complete] = {}

    def do(self, effect: Effect) -> None:
        """Write down."""
        if isinstance(effect, Journal):
            if effect.hint is None:
                self.journal.pop(effect.task, None)
            else:
                self.journal[effect.task] = effect.hint
        elif isinstance(effect, Enlist):
            if effect.boot is None:
                self.enlisted.pop(effect.engine, None)
            else:
                self.enlisted[effect.engine] = effect.boot
        elif isinstance(effect, Expire):
            if effect.number is None:
                self.expired.pop(effect.client, None)
            else:
                self.expired[effect.client] = effect.number


class SimController(Actor):
    """One life of the controller."""

    def __init__(self, world: World, disk: Disk) -> None:
        disk.epoch += 1
        super().__init__(world, f"controller{disk.epoch}")
        self.disk = disk
        self.connections: dict[str, Connection] = {}
        self.watched: dict[str, int] = {}
        self.mailboxes = Mailboxes()
        self.complete: list[Complete] = []
        self.crash_next = False
        self._tick_at: float | None = None
        self._idle_ticks = 0
        self.core = ControllerCore(
            disk.epoch,
            pid=disk.epoch,
            host=HOST,
            now=world.clock.now,
            begun=world.begun_of,
            finished=world.finished_of,
            journal=dict(disk.journal),
            enlisted=dict(disk.enlisted),
            expired=dict(disk.expired),
            kept={id: complete.error for id, complete in disk.kept.items()},
            **world.options,
        )
        self._set_timer()

    def accept(self, connection: Connection) -> None:
        """A peer connects."""
        peer = connection.name
        self.connections[peer] = connection
        connection.on_broken.append(lambda: self.later(self.world.delays.notice(), lambda: self._left(peer)))
        connection.up.attach(lambda parts: self.perform(lambda: self._receive(peer, parts)))

    def kill(self) -> None:
        """The process is gone; its connections break."""
        self.alive = False
        self.world.trace(self.name, "is killed")
        for connection in list(self.connections.values()):
            connection.cut(self.world.random)

    def process_ended(self, boot: str) -> None:
        """The kernel says that a watched process ended."""
        self.world.trace(self.name, f"sees the end of {boot}")
        self._do(self.core.process_ended(boot, self.world.clock.now))

    def _receive(self, peer: str, parts: Sequence[Any]) -> None:
        _, entries = _decode(parts)
        for message, frames in entries:
            self.world.trace(self.name, f"{peer} > {_short(message)}")
            self._do(self.core.receive(peer, message, frames, self.world.clock.now))
            if not self.alive:
                return

    def _left(self, peer: str) -> None:
        if self.connections.pop(peer, None) is not None:
            self.world.trace(self.name, f"{peer} left")
            self._do(self.core.left(peer, self.world.clock.now))

    def _tick(self) -> None:
        now = self.world.clock.now
        self._tick_at = None
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= now:
            effects = self.core.tick(now)
            again = self.core.next_deadline()
            stuck = again is not None and again <= now
            self._idle_ticks = self._idle_ticks + 1 if stuck and not effects else 0
            assert self._idle_ticks < 20, "the controller's deadline stays in the past"
            self._do(effects)
        else:
            self._set_timer()

    def _set_timer(self) -> None:
        deadline = self.core.next_deadline()
        if deadline is not None and (self._tick_at is None or deadline < self._tick_at):
            self._tick_at = deadline
            self.world.clock.at(deadline, lambda: self.perform(self._tick))

    def _do(self, effects: list[Effect]) -> None:
        crash = self.crash_next and bool(effects)
        if crash:
            effects = effects[: self.world.random.randint(0, len(effects))]
        out: dict[str, list[wire.Entry]] = {}
        for effect in effects:
            self._do_one(effect, out)
        for peer, entries in out.items():
            connection = self.connections.get(peer)
            if connection is not None:
                connection.down.send(wire.encode(self.core.epoch, entries))
            else:
                self._do(self.core.left(peer, self.world.clock.now))
        if not self.alive:
            return
        if crash:
            self.world.kill_controller()
            return
        self.check()
        self._set_timer()
        self._settle()

    def _settle(self) -> None:
        complete, self.complete = self.complete, []
        for one in complete:
            self.disk.kept[one.task] = one
            self._do(self.core.kept(one.task, one.error, True, self.world.clock.now))

    def _do_one(self, effect: Effect, out: dict[str, list[wire.Entry]]) -> None:
        match effect:
            case Send(Mailbox(), message, frames):
                self.world.trace(self.name, f"store < {_short(message)}")
                self.world.note_loss(message)  # its client will hear of it from the store
                complete = self.mailboxes.take(message, frames)
                if complete is not None:
                    self.complete.append(complete)
            case Deliver(peer, task, alias):
                kept = self.disk.kept[task]
                self.world.trace(self.name, f"{peer} < stored {task} as {alias}")
                out.setdefault(str(peer), []).extend(relabelled(kept.entries, alias))
            case Discard(client, None):
                self.mailboxes.discard(client)
            case Discard(client, number) if number is not None:
                self.disk.kept.pop(TaskId(client, number), None)
            case Send(peer, message, frames):
                self.world.trace(self.name, f"{peer} < {_short(message)}")
                self.world.note_loss(message)
                out.setdefault(str(peer), []).append((message, frames))
            case Journal() | Enlist() | Expire():
                self.disk.do(effect)
            case Watch(boot, pid):
                self.watched[boot] = pid
                if self.world.is_dead(boot):
                    self.later(0.0, lambda: self.process_ended(boot))
            case Drop(peer):
                connection = self.connections.pop(str(peer), None)
                if connection is not None:
                    connection.cut(self.world.random, keep=True)
            case Log(_, text):
                self.world.trace(self.name, f"log: {text}")
            case Stop(_):
                raise AssertionError("nobody asked the controller to stop")
            case _:
                raise AssertionError(f"not an effect of a controller: {effect}")

    def check(self) -> None:
        self.core.check()


def _short(message: Any) -> str:
    text = repr(message)
    return text if len(text) < 300 else text[:300] + "…"


def entries_of(effects: Iterable[Effect]) -> list[wire.Entry]:
    """The messages among the effects of a core with one peer."""
    return [(effect.message, effect.frames) for effect in effects if isinstance(effect, Send)]
