"""Looks into engines while they are busy: who was asked what, and what they told.

A look is a question to the control threads of some engines. Each answers for itself; what is told
is opaque here. Whoever is not here, goes away, or has not answered when the patience is up, is
answered for in words, so that a look always ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.outbox import Outbox
from ipkernel_ext.core.roster import Engine, Roster

SILENT = "silent"
"""Key of what is said in the place of an engine that has told nothing."""

Told = dict[int, dict[str, Any]]
"""By engine id."""


class _Look:
    """One question to some engines."""

    def __init__(self, engines: Sequence[int], patience: float, until: float, then: Callable[[Told], None]) -> None:
        self.engines = engines
        self.patience = patience
        self.until = until
        self.then = then
        self.waiting: set[int] = set()  # engine ids
        self.told: Told = {}


class Looking:
    """Looks that are under way."""

    def __init__(self, out: Outbox, roster: Roster) -> None:
        self._out = out
        self._roster = roster
        self._looks: dict[int, _Look] = {}
        self._number = 0
        self.due: float | None = None  # no tick is needed before

    def look(
        self,
        engines: Sequence[int],
        inspection: m.Inspection,
        patience: float,
        now: float,
        then: Callable[[Told], None],
    ) -> None:
        """Ask engines.

        Parameters
        ----------
        patience : float
            Seconds they have.
        then
            Called once, with what each of them told, in the order in which they were named.
        """
        self._number += 1
        look = _Look(list(dict.fromkeys(engines)), patience, now + patience, then)
        for id in look.engines:
            engine = self._roster.engines.get(id)
            if engine is None:
                why = self._roster.why_none([id])
                look.told[id] = {SILENT: f"engine {id} is not there any more" + (f": {why}" if why else "")}
            elif engine.control is None:
                look.told[id] = {SILENT: f"engine {id} has lost its connection to the controller"}
            else:
                look.waiting.add(id)
                self._out.send(engine.control, m.Look(self._number, inspection))
        self._looks[self._number] = look
        self._settle(self._number)
        self._set_due()

    def looked(self, engine: Engine, answer: m.Looked) -> None:
        """An engine tells what it was asked."""
        look = self._looks.get(answer.number)
        if look is not None and engine.id in look.waiting:
            look.waiting.discard(engine.id)
            look.told[engine.id] = answer.told
            self._settle(answer.number)
            self._set_due()

    def forget(self, engine: Engine) -> None:
        """Its connection is gone, or begins anew."""
        for number, look in list(self._looks.items()):
            if engine.id in look.waiting:
                look.waiting.discard(engine.id)
                look.told[engine.id] = {SILENT: f"engine {engine.id} has gone before it answered"}
                self._settle(number)
        self._set_due()

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.due is None or now < self.due:
            return
        for number, look in list(self._looks.items()):
            if now >= look.until:
                for id in look.waiting:
                    look.told[id] = {SILENT: silence(id, look.patience)}
                look.waiting.clear()
                self._settle(number)
        self._set_due()

    def _settle(self, number: int) -> None:
        look = self._looks[number]
        if not look.waiting:
            del self._looks[number]
            look.then({id: look.told[id] for id in look.engines})

    def _set_due(self) -> None:
        self.due = min((look.until for look in self._looks.values()), default=None)

    def check(self) -> None:
        """Assert that those are waited for who can still answer."""
        for look in self._looks.values():
            assert look.waiting, "a look waits for nobody"
            for id in look.waiting:
                engine = self._roster.engines.get(id)
                assert engine is not None and engine.control is not None, f"engine {id} is waited for, and is not here"

    def sizes(self) -> dict[str, int]:
        """How much is kept that should not last."""
        return {"looks": len(self._looks)}


def silence(engine: int, seconds: float) -> str:
    """What to say of an engine that has not answered for so long."""
    return (
        f"engine {engine} has not answered within {seconds:g} s: its process is stopped, C code keeps Python's lock, "
        "or what was asked for cannot be had while it runs"
    )
