"""Queues against a list that does the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipkernel_ext.core.queues import EMPTY, BalancedQueue, Queue, Task
from tests.core.cluster import CODE, ann


def task(number: int) -> Task:
    """Any task."""
    return Task(ann(number), CODE, (), None, None, 0)


@given(st.lists(st.tuples(st.sampled_from(["append", "appendleft", "pop", "discard", "clear"]), st.integers(0, 5))))
def test_a_queue_is_a_list(steps: list[tuple[str, int]]) -> None:
    tasks = [task(n) for n in range(6)]
    queue, model = Queue(), list[Task]()
    for step, n in steps:
        chosen = tasks[n]
        if step == "append" and chosen not in model:
            queue.append(chosen)
            model.append(chosen)
        elif step == "appendleft" and chosen not in model:
            queue.appendleft(chosen)
            model.insert(0, chosen)
        elif step == "pop" and model:
            assert queue.pop() is model.pop(0)
        elif step == "discard" and chosen in model:
            queue.discard(chosen)
            model.remove(chosen)
        elif step == "clear":
            assert queue.clear() == model
            model.clear()
        assert list(queue) == model
        assert len(queue) == len(model)
        assert bool(queue) == bool(model)
        assert all((t.queue is queue) == (t in model) for t in tasks)


def test_an_empty_queue_has_nothing_to_give() -> None:
    with pytest.raises(KeyError):
        Queue().pop()


def test_sets_of_engines_are_forgotten_when_nothing_waits_for_them() -> None:
    queue = BalancedQueue()
    for number in range(100):
        task = Task(ann(number), CODE, (), None, None, 0, frozenset({number}))
        queue.queue(task.among).append(task)
        assert queue.sets() == [frozenset({number})]
        assert queue.pop(frozenset({number})) is task
    assert queue.divided
    assert len(queue) == 0
    assert len(queue._queues) <= EMPTY + 2


def test_the_balanced_queue_counts_and_clears_all_sets() -> None:
    queue = BalancedQueue()
    for number, among in enumerate((None, frozenset({1}), None)):
        queue.queue(among).append(Task(ann(number), CODE, (), None, None, 0, among))
    assert len(queue) == len(list(queue)) == 3
    assert queue.sets() == [None, frozenset({1})]
    queue.pop(None)
    assert queue.sets() == [frozenset({1}), None]
    assert [task.id.number for task in queue.clear()] == [1, 2]
    assert queue.sets() == []
