"""Which engine gets the next balanced task, and how much work an engine holds ahead.

Engines are kept in two ordered sets, *idle* (hold nothing) and *partial* (below their window), so
that a choice costs the same among 4 engines and among 10,000. Each engine's window is as many
tasks as fill ``AHEAD`` seconds at the durations it has shown, so tiny tasks travel in batches and
long ones stay in the controller's queue, free to go wherever an engine falls idle. A task with a time
has its engine for itself: what waited behind one that does not end, on an engine that does not answer,
could neither run there nor be taken back, though its own time has not begun.
"""

from __future__ import annotations

from collections import OrderedDict

from ipkernel_ext.core.roster import Engine

AHEAD = 0.005  # seconds of work an engine holds
WINDOW = 128  # tasks at most, of either kind
RECALL_AFTER = 0.01  # seconds without progress, after which unstarted work is taken back for an idle engine
LONG = 0.1  # seconds; beside such a task the way to the next one is nothing
SMOOTHING = 0.2


def window(engine: Engine) -> int:
    """How many balanced tasks the engine may hold."""
    if engine.seconds is None or engine.stuck or engine.timed or engine.seconds > LONG:
        return 1
    if engine.seconds * WINDOW <= AHEAD:
        return WINDOW
    return max(2, int(AHEAD / engine.seconds))


def learn(engine: Engine, seconds: float) -> None:
    """A balanced task took this long in user code on this engine."""
    if engine.seconds is None:
        engine.seconds = seconds
    else:
        engine.seconds += SMOOTHING * (seconds - engine.seconds)


class Pool:
    """The engines that can take a balanced task."""

    def __init__(self) -> None:
        # a plain dict finds its first item the later, the more before it have been taken out
        self._idle: OrderedDict[str, Engine] = OrderedDict()
        self._partial: OrderedDict[str, Engine] = OrderedDict()
        self._loaded: dict[str, Engine] = {}  # hold balanced work that they may not have begun

    def file(self, engine: Engine) -> None:
        """Put the engine where it belongs, after anything about it changed."""
        boot = engine.boot
        held = len(engine.sent)
        present = engine.present
        if held > 1 and present and engine.balanced and not engine.stuck:
            self._loaded[boot] = engine
        else:
            self._loaded.pop(boot, None)
        if not present or engine.leaving or (held and held >= window(engine)) or engine.queue:
            self._idle.pop(boot, None)
            self._partial.pop(boot, None)
        elif held:
            self._idle.pop(boot, None)
            self._partial.setdefault(boot, engine)
        else:
            self._partial.pop(boot, None)
            self._idle.setdefault(boot, engine)

    @property
    def any_free(self) -> bool:
        """Whether some engine can take a balanced task."""
        return bool(self._idle or self._partial)

    def free_among(self, among: frozenset[int] | None, idle: bool) -> bool:
        """Whether one of these engines (None: any) can take a balanced task; ``idle``: and holds nothing."""
        parts = (self._idle,) if idle else (self._idle, self._partial)
        return any(among is None or e.id in among for part in parts for e in part.values())

    @property
    def lopsided(self) -> bool:
        """Whether some engine holds nothing while another holds work it has not begun."""
        return bool(self._idle) and bool(self._loaded)

    def stuck(self, now: float) -> list[Engine]:
        """Engines with unstarted work that have shown no progress for a while."""
        return [engine for engine in self._loaded.values() if now - engine.progress >= RECALL_AFTER]

    def turn(self, engine: Engine) -> int:
        """How many balanced tasks in a row are for the engine that was chosen: several where no other can take one."""
        if self._idle or len(self._partial) > 1:
            return 1
        return max(1, window(engine) - len(engine.sent))

    def choose(self, among: frozenset[int] | None = None, idle: bool = False) -> Engine | None:
        """The engine for the next balanced task: an idle one, else the one that waited longest below its window.

        Parameters
        ----------
        among
            Ids to choose from; None: all. The search for them takes longer, the more others are free.
        idle : bool
            Only an engine that holds nothing.
        """
        for engine in self._idle.values():
            if among is None or engine.id in among:
                return engine
        if idle:
            return None
        for boot, engine in self._partial.items():
            if among is None or engine.id in among:
                self._partial.move_to_end(boot)
                return engine
        return None
