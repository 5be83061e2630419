"""Which tasks have ended of late, for those who watch.

Nothing is noted unless somebody has asked within the last seconds, and then no more than a bounded number: of
tasks, and of tasks in a moment, since nobody can see a hundred thousand a second. All that ended are counted. Who
watches asks again and again for what is new, so that one that is slow has nothing pile up for it here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.messages import Ended, Failure
from ipkernel_ext.core.queues import Task

KEPT = 8192  # tasks that are remembered
MOMENT = 0.25  # seconds
IN_A_MOMENT = 1024  # tasks that are noted in one
WATCHED = 10.0  # seconds after a question, in which another one counts as the same watching


class Recent:
    """The latest tasks that ended, while somebody watches.

    Parameters
    ----------
    describe
        What a task's work is, in a few words.
    """

    def __init__(self, describe: Callable[[m.Work], str]) -> None:
        self._describe = describe
        self.due: float | None = None  # when nobody watches any more
        self.fresh: list[tuple[Task, int, float, str]] = []  # noted since the last call of ``settle``
        self._kept: deque[Ended] = deque(maxlen=KEPT)
        self._count = 0  # of all that ended while somebody watched
        self._moment = 0.0  # when it ends
        self._room = 0  # in this moment

    def note(self, task: Task, engine: int, seconds: float, failure: Failure | None) -> None:
        """A task has ended; ``engine`` is -1 where none had it."""
        if self.due is None:
            return
        self._count += 1
        if len(self.fresh) < IN_A_MOMENT:
            self.fresh.append((task, engine, seconds, "" if failure is None else failure.kind))

    def settle(self, now: float) -> None:
        """What was noted happened now."""
        if now >= self._moment:
            self._moment, self._room = now + MOMENT, IN_A_MOMENT
        for task, engine, seconds, failure in self.fresh[: self._room]:
            work = self._describe(task.work)
            self._kept.append(Ended(self._count, task.id, engine, work, seconds, now, failure))
        self._room -= min(self._room, len(self.fresh))
        self.fresh.clear()

    def since(self, after: int, now: float) -> tuple[int, list[Ended]]:
        """How many have ended, and those of them that are remembered and came after that number of them.

        A number that was not reached yet is from an earlier life of the controller: then all that are remembered.
        """
        self.due = now + WATCHED
        after = after if after <= self._count else 0
        return self._count, [ended for ended in self._kept if ended.number > after]

    def tick(self, now: float) -> None:
        """Forget all when nobody watches any more."""
        if self.due is not None and now >= self.due:
            self.due = None
            self._kept.clear()
            self.fresh.clear()

    def check(self) -> None:
        """Assert that nothing is kept for nobody."""
        assert self.due is not None or not self._kept, "nobody watches"
        assert not self.fresh, "between stimuli all is settled"

    def sizes(self) -> dict[str, int]:
        """How much is kept that should not last."""
        return {"recent": len(self._kept)}
