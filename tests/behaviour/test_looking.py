"""Looking into engines: the same over in-process wires and over real processes."""

import pytest

from ipkernel_ext.errors import CompositeError, NameNotFound


def test_peek_gives_a_value_or_a_list(rc):
    rc.execute("import threading\na = 1\nlock = threading.Lock()")
    rc[1]["a"] = 2
    assert rc.peek("a") == [1, 2, 1, 1]
    assert rc[1].peek("a") == 2
    assert rc.peek("a", targets=[0, 1]) == [1, 2]
    words = rc[0].peek("lock")
    assert "lock" in words and "lock" in words.note
    assert "not the value" in repr(words)


def test_an_unknown_name(rc):
    rc[0]["weights"] = 1
    with pytest.raises(NameNotFound, match="did you mean 'weights'"):
        rc[0].peek("weight")
    with pytest.raises(CompositeError, match="3 × NameNotFound") as raised:
        rc.peek("weights")
    assert [error.engine_id for error in raised.value.exceptions] == [1, 2, 3]
    both = rc[:2].peek("weights", return_exceptions=True)
    assert both[0] == 1 and isinstance(both[1], NameNotFound)
    with pytest.raises(ValueError, match="not a name"):
        rc.peek("not a name")


def test_an_exception_is_a_value_like_others(rc):
    rc.execute("a = ValueError('kept')")
    assert [str(value) for value in rc.peek("a")] == ["kept"] * 4


def test_stacks_of_idle_engines(rc):
    assert [list(stack.frames) for stack in rc.stacks()] == [[]] * 4
    assert "no user code runs" in repr(rc.stacks())
    assert list(rc[2].stacks().frames) == []
    assert rc[2].stacks().engine_id == 2
