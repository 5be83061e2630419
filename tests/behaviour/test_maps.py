"""Maps: lazy ones, seeded ones, and those that make no sense."""

import itertools
import random
import threading
import warnings

import numpy as np
import pytest
from tqdm import tqdm

from ipkernel_ext.errors import PayloadError


def draw(x):
    return random.random(), float(np.random.random()), x


def test_imap_gives_values_one_by_one_from_endless_input(rc):
    taken = []
    values = rc.imap(abs, (taken.append(i) or -i for i in itertools.count()), chunksize=3)
    assert taken == []
    assert list(itertools.islice(values, 10)) == list(range(10))
    assert len(taken) <= 3 * (4 * 4 + 4)
    values.close()
    assert rc.submit(abs, -1).get() == 1


@pytest.mark.parametrize("chunksize", ["auto", 1, 7])
def test_imap_of_all(rc, chunksize):
    assert list(rc.imap(pow, range(50), itertools.repeat(2), chunksize=chunksize)) == [i * i for i in range(50)]
    assert sorted(rc.imap(abs, range(50), ordered=False, chunksize=chunksize)) == list(range(50))
    assert list(rc.imap(abs, [])) == []
    assert list(rc[1].imap(abs, [-1], progress=True)) == [1]


def test_imap_raises_what_the_item_raised_and_takes_the_rest_away(rc):
    values = rc.imap(lambda x: 1 / x, [1, 2, 0, 4], chunksize=1)
    assert [next(values), next(values)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError) as raised:
        next(values)
    assert "item 2" in "".join(raised.value.__notes__)
    assert list(values) == []
    kept = list(rc.imap(lambda x: 1 / x, [1, 0], return_exceptions=True))
    assert isinstance(kept[1], ZeroDivisionError)


def test_imap_passes_on_what_its_input_raises(rc):
    def items():
        yield -1
        raise KeyError("input")

    with pytest.raises(KeyError, match="input"):
        list(rc.imap(abs, items(), chunksize=1))


def test_inputs_of_all_kinds(rc):
    assert rc.map(abs, (x for x in (-1, -2))) == [1, 2]
    assert rc.map(str.upper, "abc", chunksize=2) == ["A", "B", "C"]
    assert rc.map(abs, np.arange(-3, 0)) == [3, 2, 1]
    assert rc.map(max, itertools.count(), [5, 0]) == [5, 1]
    assert rc.map(abs, iter([])) == []
    assert rc.map(sum, np.arange(4).reshape(2, 2)) == [1, 5]


def test_many_small_items(rc):
    assert rc.map(abs, range(-30_000, 0)) == list(range(30_000, 0, -1))
    assert rc.map(abs, range(-30_000, 0), block=False).get() == list(range(30_000, 0, -1))


def test_a_failure_stops_a_map(rc):
    with pytest.raises(ZeroDivisionError) as raised:
        rc.map(lambda x: 1 // (x - 100), range(100_000))
    assert "item 100" in "".join(raised.value.__notes__)


def test_progress(rc, capsys):
    assert rc.map(abs, range(-3, 0), progress=True) == [3, 2, 1]
    assert "3/3" in capsys.readouterr().err
    with tqdm(total=3, desc="mine") as bar:
        assert rc.map(abs, range(-3, 0), progress=bar) == list(rc.imap(abs, [3, 2, 1], progress=True))
        assert bar.n == 3
    assert "mine: 100%" in capsys.readouterr().err
    with pytest.raises(ValueError, match="wait_interactive"):
        rc.map(abs, [1], progress=True, block=False)


def test_seeded_items_depend_neither_on_engines_nor_on_chunks(rc):
    first = rc.map(draw, range(20), seed=5)
    assert first == rc[1].map(draw, range(20), seed=5, chunksize=3)
    assert first == list(rc.imap(draw, range(20), seed=5, chunksize=7))
    assert len({ours for ours, _, _ in first}) == len({numpys for _, numpys, _ in first}) == 20
    assert first != rc.map(draw, range(20), seed=6)


def test_a_seeded_client_gives_the_same_again(rc):
    def session(targets):
        rc.seed(3)
        one = rc.apply(draw, 0)
        return one, targets.map(draw, range(5)), targets.map(draw, range(5)), targets.submit(draw, 0).get()

    assert session(rc) == session(rc[2:])
    one, first, second, alone = session(rc)
    assert len({values for values, _, _ in [*one, *first, *second, alone]}) == 15
    rc._link._seed = None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"chunksize": "large"}, TypeError),
        ({"chunksize": 1.5}, TypeError),
        ({"chunksize": True}, TypeError),
        ({"retries": -1}, ValueError),
        ({"retries": "x"}, TypeError),
        ({"timeout": "x"}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": float("inf")}, ValueError),
        ({"seed": -1}, ValueError),
        ({"seed": "x"}, TypeError),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(rc, options, error):
    for call in (rc.map, rc.imap):
        with pytest.raises(error, match=next(iter(options))):
            call(abs, [1], **options)


def test_what_is_not_callable_or_has_no_items(rc):
    for call in (rc.map, rc.imap):
        with pytest.raises(TypeError, match="argument 2"):
            call(pow, [1], 2)
        with pytest.raises(TypeError, match="at least one"):
            call(abs)
        with pytest.raises(TypeError, match="not callable"):
            call(3, [1])
    for single in (rc.submit, rc.apply):
        with pytest.raises(TypeError, match="not callable"):
            single(3)


def test_what_is_quick_has_time_enough(rc):
    assert rc.map(abs, [-1, -2], timeout=20) == [1, 2]


@pytest.mark.parametrize("block", [True, False])
def test_an_item_that_cannot_be_sent_takes_the_map_back(rc, block):
    with pytest.raises(PayloadError, match="items"):
        rc.map(str, [1] * 50 + [threading.Lock()], chunksize=5, block=block)
    with pytest.raises(PayloadError, match="items"):
        list(rc.imap(str, [1, threading.Lock()], chunksize=1))
    assert rc.map(abs, [-1]) == [1]


@pytest.fixture
def unadvised(rc):
    """A client that has not been told of its random numbers yet."""
    rc._link.channel.advised.clear()
    return rc


USES = {
    "map": lambda rc: rc.map(draw, range(8)),
    "map later": lambda rc: list(rc.map(draw, range(8), block=False)),
    "imap": lambda rc: list(rc.imap(draw, range(8))),
    "submit": lambda rc: rc.submit(draw, 0).get(),
    "executor": lambda rc: list(rc.executor().map(draw, range(8))),
    "numpy": lambda rc: rc.map(lambda _: np.random.random(), range(8)),
}


@pytest.mark.parametrize("use", USES)
def test_random_numbers_that_nobody_seeded_are_warned_of_once(unadvised, use):
    with pytest.warns(UserWarning, match=r"nobody has seeded.*seed=n.*rc\.seed\(n\)") as told:
        USES[use](unadvised)
    assert [warning.filename for warning in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        USES[use](unadvised)


def test_what_is_the_same_again_is_not_warned_of(unadvised):
    rc = unadvised
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rc.map(draw, range(8), seed=5)
        list(rc.imap(draw, range(8), seed=5))
        rc.map(lambda n: random.Random(n).random() + np.random.default_rng(n).random(), range(8))
        rc.apply(draw, 0)
        rc.map(abs, range(8))
        rc.seed(3)
        rc.map(draw, range(8))
        rc.submit(draw, 0).get()
        list(rc.executor().map(draw, range(8)))
    rc._link._seed = None
