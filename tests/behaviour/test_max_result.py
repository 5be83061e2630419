"""Values that are larger than the client takes: refused before they are sent, and not lost."""

import numpy as np
import pytest

from ipkernel_ext import Ref
from ipkernel_ext.errors import CompositeError, ResultTooLarge

LARGE = 20_000  # bytes, of which the client takes half


@pytest.fixture
def small(rc):
    """A client that takes little."""
    before, rc.max_result = rc.max_result, LARGE // 2
    yield rc
    rc.max_result = before


def test_by_default_it_is_much_and_can_be_set(rc):
    assert rc.max_result > 2**20
    with pytest.raises(ValueError, match="max_result must not be negative"):
        rc.max_result = -1
    with pytest.raises(TypeError, match="max_result must be an integer"):
        rc.max_result = 1e9


def test_pull_and_the_value_stays(small):
    small.execute(f"x, part = b'x' * {LARGE}, b'part'")
    with pytest.raises(ResultTooLarge, match=r"x on engine 1 has 20\.0 KB.*\(10\.0 KB\).*stays there.*max_result"):
        small[1].pull("x")
    with pytest.raises(CompositeError, match="4 × ResultTooLarge") as raised:
        small.pull("x")
    assert len(raised.value.exceptions) == 4
    assert small[1].pull("part") == b"part"
    assert small[1].apply(len, Ref("x")) == LARGE
    small.max_result = 2 * LARGE
    assert len(small[1]["x"]) == LARGE


def test_the_value_of_execute(small):
    ran = small[1].execute(f"b'y' * {LARGE}")
    with pytest.raises(ResultTooLarge, match=rf"Out\[{ran.execution_count}\] on engine 1"):
        ran.value
    small.max_result = 0
    assert len(ran.value) == LARGE


def test_what_a_function_gives_is_kept_there(small):
    with pytest.raises(ResultTooLarge, match="kept there as _refused"):
        small[2].apply(bytes, LARGE)
    assert small[2].apply(len, Ref("_refused")) == LARGE
    with pytest.raises(ResultTooLarge):
        small.submit(np.zeros, LARGE, targets=3).get()
    assert small[3].apply(np.shape, Ref("_refused")) == (LARGE,)
    with pytest.raises(ResultTooLarge):
        small.executor().submit(bytes, LARGE).result()
    assert "_refused" not in small[2].keys()  # noqa: SIM118


def test_an_item_of_a_map(small):
    for values in (small.map, lambda *args: list(small.imap(*args))):
        with pytest.raises(ResultTooLarge, match="the result on engine"):
            values(bytes, [1, 2, LARGE, 4])
    assert small.map(bytes, [1, 2, 4]) == [bytes(1), bytes(2), bytes(4)]


def test_values_that_are_too_large_together(small):
    with pytest.raises(CompositeError, match=r"2 of 4 engines failed: 2 × ResultTooLarge: .* 10\.0 KB together"):
        small.apply(bytes, LARGE // 5)
    with pytest.raises(ResultTooLarge, match="imap"):
        small.map(bytes, [LARGE // 5] * 20, chunksize=1)
    assert sum(map(len, small.imap(bytes, [LARGE // 5] * 20, chunksize=1))) == 4 * LARGE
    assert small.map(abs, range(-3, 0)) == [3, 2, 1]
