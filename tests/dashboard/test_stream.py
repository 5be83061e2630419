"""Ended tasks as blocks, and their rate."""

from ipkernel_ext.core.messages import Ended, TaskId
from ipkernel_ext.dashboard.stream import Block, Rate, blocks, kind


def ended(number, at, seconds, engine=0, what="f()", failure=""):
    return Ended(number, TaskId("ann", number), engine, what, seconds, at, failure)


def test_a_block_lies_where_its_task_ran_by_the_clock_that_is_wanted():
    assert blocks([ended(1, 5.0, 2.0, failure="user")], 100.0) == [
        Block(0, 103.0, 105.0, "f()", "ann", "user", 1, "ann:1")
    ]


def test_tiny_tasks_of_one_kind_are_one_block():
    tiny = [ended(i, 1.0 + i * 0.002, 0.001, what=f"f() from item {i * 10} on") for i in range(50)]
    [block] = blocks(tiny, 0.0)
    assert (block.tasks, block.what, block.task) == (50, "f()", "ann:49")
    assert round(block.seconds, 3) == 0.099


def test_what_differs_stays_apart():
    close = [
        ended(1, 1.0, 0.001),
        ended(2, 1.001, 0.001, engine=1),
        ended(3, 1.002, 0.001, what="g()"),
        ended(4, 1.003, 0.001, what="g()", failure="user"),
        ended(5, 1.104, 0.1, what="g()"),
    ]
    assert [block.tasks for block in blocks(close, 0.0)] == [1] * 5


def test_too_many_are_drawn_more_coarsely():
    apart = [ended(i, i * 0.1, 0.001) for i in range(100)]
    assert len(blocks(apart, 0.0)) == 100
    [one] = blocks(apart, 0.0, most=50)
    assert one.tasks == 100


def test_what_is_still_too_much_is_left_out_evenly():
    engines = [ended(i, 1.0, 0.5, engine=i) for i in range(95)]
    assert [block.engine for block in blocks(engines, 0.0, most=10)] == list(range(0, 95, 10))


def test_what_no_engine_had_is_no_block():
    assert blocks([ended(1, 1.0, 0.0, engine=-1)], 0.0) == []


def test_chunks_of_one_map_are_of_one_kind():
    assert kind("f() from item 20 on") == "f()"
    assert kind("x = 1  # from item 3") == "x = 1  # from item 3"


def test_the_rate_is_from_one_look_to_the_next():
    rate = Rate()
    assert [rate.at(1.0, 10), rate.at(3.0, 30), rate.at(3.0, 40), rate.at(4.0, 0), rate.at(5.0, 7)] == [0, 10, 0, 0, 7]
