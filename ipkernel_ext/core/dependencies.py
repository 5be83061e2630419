"""Tasks that are to come after others, until those have ended.

A task names only tasks that are there already, so a client alone can make no cycle. Two clients
could, while a restarted controller waits for what they will replay; such a task is refused.
What ended is collected in ``settled``, for ``dispatch`` to place or fail.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping

from ipkernel_ext.core.messages import TaskId
from ipkernel_ext.core.queues import DONE, ENDED, LATER, Task


class Dependencies:
    """Who waits for whom."""

    def __init__(self) -> None:
        self.waited: dict[TaskId, list[Task]] = {}  # who waits for each
        self.settled: deque[tuple[Task, TaskId, str]] = deque()  # a task, one it waited for, what went wrong there

    def wait(self, task: Task, ids: Iterable[TaskId]) -> None:
        """The task is to come after these."""
        task.state = LATER
        task.after = set(ids)
        for id in task.after:
            self.waited.setdefault(id, []).append(task)

    def ended(self, id: TaskId, error: str) -> None:
        """A task ended; ``error`` says what went wrong, "" when nothing did."""
        for task in self.waited.pop(id, ()):
            if task.state is LATER:
                assert task.after is not None
                task.after.discard(id)
                if error or not task.after:
                    self.settled.append((task, id, error))

    def waiting(self) -> Iterator[Task]:
        """The tasks that wait, each once."""
        return iter({task: None for tasks in self.waited.values() for task in tasks if task.state is LATER})

    def unknown(self, tasks: Container[TaskId]) -> list[TaskId]:
        """Those waited for that are not among these."""
        return [id for id in self.waited if id not in tasks]

    def leads_to(self, id: TaskId, task: Task, tasks: Mapping[TaskId, Task]) -> bool:
        """Whether ``id`` waits for ``task``, perhaps by way of others."""
        seen: set[TaskId] = set()
        ahead = [id]
        while ahead:
            id = ahead.pop()
            if id == task.id:
                return True
            known = tasks.get(id)
            if id not in seen and known is not None and known.state is LATER:
                ahead.extend(known.after or ())
            seen.add(id)
        return False

    def check(self, tasks: Mapping[TaskId, Task]) -> None:
        """Assert that all who wait do so for something that will end."""
        assert not self.settled, "what ended is not dealt with"
        for task in tasks.values():
            if task.state is LATER:
                assert task.after, f"{task.id} waits for nothing"
                for id in task.after:
                    assert task in self.waited.get(id, ()), f"{task.id} is not known to wait for {id}"
                    known = tasks.get(id)
                    ended = known is not None and known.state in (DONE, ENDED)
                    assert not ended, f"{task.id} waits for {id}, which has ended"

    def sizes(self) -> dict[str, int]:
        """How much is kept that should not last."""
        return {"tasks waited for": len(self.waited)}
