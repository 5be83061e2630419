"""Items that take too long, with real signals."""

import time

import pytest

from ipkernel_ext.errors import DependencyFailed, EngineLost, TaskTimeout


def slow_for(slow):
    """A function that hangs for some items."""
    import time

    def f(x):
        if x in slow:
            time.sleep(60)
        return x

    return f


def test_an_item_that_takes_too_long_is_interrupted_and_the_map_says_which(cluster):
    with pytest.raises(TaskTimeout, match="longer than 0.2 s") as raised:
        cluster.map(slow_for({3}), range(8), timeout=0.2, chunksize=4)
    assert "item 3" in "".join(raised.value.__notes__)
    assert isinstance(raised.value, TimeoutError)
    assert cluster.map(abs, [-1, -2], timeout=0.2) == [1, 2]


def test_the_other_items_of_a_chunk_go_on_where_exceptions_are_values(cluster):
    values = cluster.map(slow_for({1, 2}), range(5), timeout=0.1, chunksize=5, return_exceptions=True)
    assert [value for value in values if not isinstance(value, TaskTimeout)] == [0, 3, 4]
    assert [type(value) for value in values[1:3]] == [TaskTimeout, TaskTimeout]


def test_many_items_that_each_are_in_time(cluster):
    assert cluster.map(lambda x: x, range(2000), timeout=0.5, chunksize=500) == list(range(2000))


@pytest.mark.slow
def test_what_does_not_obey_leaves_its_engine_overrun_until_it_is_restarted(cluster):
    def stubborn(x):
        import time

        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass

    before = time.monotonic()
    with pytest.raises(TaskTimeout, match="does not obey"):
        cluster[0].map(stubborn, [1], timeout=0.2)
    assert 5 < time.monotonic() - before < 15
    assert [engine.state for engine in cluster.engines] == ["overrun", "ready"]
    waiting = cluster[0].submit(abs, -1)
    assert cluster.map(abs, range(-10, 0)) == list(range(10, 0, -1))
    cluster[0].restart()
    assert waiting.get(20) == 1
    assert [engine.state for engine in cluster.engines] == ["ready", "ready"]


@pytest.mark.fault("a task ends every engine it runs on")
def test_a_task_that_ends_its_engines_gives_up(cluster):
    def die():
        import os

        os._exit(1)

    lost = cluster.submit(die, retries=1)
    after = cluster.submit(abs, -1, after=lost)
    with pytest.raises(EngineLost):
        lost.get(20)
    with pytest.raises(DependencyFailed, match="EngineLost"):
        after.get(20)
