"""A simulated supervisor of one host's engines. There is no core of it: it is a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from tests.simulation.actor import Actor
from tests.simulation.network import Connection

if TYPE_CHECKING:
    from tests.simulation.engines import SimEngine
    from tests.simulation.world import World

_decode = wire.Decoder(m.ToAgent).decode


class SimAgent(Actor):
    """Starts engines, sees their end, starts successors."""

    def __init__(self, world: World, name: str, host: str) -> None:
        super().__init__(world, name)
        self.host = host
        self.engines: dict[str, SimEngine] = {}
        self.expected = 0
        self.exits: list[m.EngineExited] = []
        self.connection: Connection | None = None
        self._epoch = 0
        self._generation = 0
        self._reconnect()

    def start(self, replaces: str | None = None) -> None:
        """Start an engine."""
        engine = self.world.start_engine(self.host, self, replaces)
        self.engines[engine.boot] = engine

    def adopt(self, count: int) -> None:
        """Start the first engines."""
        self.expected = count
        self._send(self._hello())
        for _ in range(count):
            self.start()

    def ended(self, engine: SimEngine, restart: bool) -> None:
        """An engine's process ended."""
        self.engines.pop(engine.boot, None)
        exited = m.EngineExited(engine.boot, m.Exit(signal=9), restart, engine.core.record.replaces)
        if not restart:
            self.expected -= 1
        self.exits.append(exited)
        self._send(exited)
        if restart:
            self.later(self.world.random.uniform(0.0, 0.5), lambda: self.start(engine.boot))

    def _hello(self) -> m.HelloAgent:
        return m.HelloAgent(m.PROTOCOL, self.name, self.host, 1, self.expected, list(self.exits), self._generation)

    def _reconnect(self) -> None:
        if self.connection is not None:
            self.connection.given_up = True
            self.connection.cut(self.world.random)
        self.connection = connection = self.world.connect(self, self._take)
        connection.on_broken.append(lambda: self.later(self.world.delays.notice(), lambda: self._lost(connection)))
        self._generation += 1
        self._send(self._hello())

    def _lost(self, connection: Connection) -> None:
        if connection is self.connection:
            self._reconnect()

    def _take(self, connection: Connection, parts: Sequence[Any]) -> None:
        epoch, entries = _decode(parts)
        if connection is not self.connection or epoch < self._epoch:
            return
        self._epoch = epoch
        for message, _ in entries:
            if isinstance(message, m.HelloWanted):
                self._reconnect()
            elif isinstance(message, m.EndEngine) and message.boot in self.engines:
                self.world.kill_engine(self.engines[message.boot], restart=message.restart)
            elif isinstance(message, m.MeasureEngine) and message.boot in self.engines:
                self._send(m.EngineMeasured(message.boot, 0.0, 1))

    def _send(self, message: Any) -> None:
        if self.connection is not None:
            self.connection.up.send(wire.encode(self._epoch, [(message, ())]))
