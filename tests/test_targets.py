"""Which engines a specification means."""

import pytest

from ipkernel_ext import targets
from ipkernel_ext.core.messages import EngineRecord
from ipkernel_ext.errors import NoSuchEngine

IDS = [0, 1, 2, 5]
ENGINES = {id: EngineRecord(f"b{id}", "a" if id < 2 else "b", 1, "", id, tags=["gpu"] if id == 5 else []) for id in IDS}


@pytest.mark.parametrize(
    ("spec", "ids", "single"),
    [
        ("all", IDS, False),
        ("0", [0], True),
        (5, [5], True),
        (-1, [5], True),
        ("-1", [5], True),
        ("0,2", [0, 2], False),
        ([2, 0, 2], [2, 0], False),
        ("0:2", [0, 1], False),
        (slice(1, None), [1, 2, 5], False),
        ("::2", [0, 2], False),
        ("host:b", [2, 5], False),
        ("tag:gpu", [5], False),
    ],
)
def test_on_a_cluster_integers_are_ids(spec, ids, single):
    assert targets.choose(spec, IDS, ENGINES) == (ids, single)


def test_on_a_view_every_index_counts_along_its_ids():
    assert targets.choose(3, IDS, ENGINES, along=True) == ([5], True)
    assert targets.choose([0, 3], IDS, ENGINES, along=True) == ([0, 5], False)
    with pytest.raises(NoSuchEngine, match="out of range"):
        targets.choose(5, IDS, ENGINES, along=True)


@pytest.mark.parametrize("spec", [3, -5, [0, 9], "host:c", "tag:none"])
def test_what_is_not_there_is_an_index_error_that_lists_what_is(spec):
    with pytest.raises(NoSuchEngine) as raised:
        targets.choose(spec, IDS, ENGINES)
    assert isinstance(raised.value, IndexError)
    assert any(known in str(raised.value) for known in ("0-2, 5", "a, b", "gpu"))


@pytest.mark.parametrize("spec", ["", "x", "1;2", "0:1:2:3", ",", "0,,", "0,,1", ",0"])
def test_text_that_is_no_specification(spec):
    with pytest.raises(ValueError, match="write all"):
        targets.parse(spec)


@pytest.mark.parametrize("spec", [True, 1.5, ["a"], None])
def test_other_types_are_refused(spec):
    with pytest.raises(TypeError):
        targets.choose(spec, IDS, ENGINES)


@pytest.mark.parametrize(
    ("ids", "text"), [([2], "[2]"), ([0, 1, 2], "[0-2]"), ([5, 0, 1], "[0-1, 5]"), (range(128), "[0-127]")]
)
def test_labels(ids, text):
    assert targets.label(ids) == text


@pytest.mark.parametrize(
    "spec", ["all", "tag:gpu", 0, -1, [0], [0, 2], slice(0, 2), slice(None, None, 2), slice(-2, None)]
)
def test_a_specification_as_text_means_the_same(spec):
    assert targets.choose(targets.parse(targets.as_text(spec)), IDS, ENGINES) == targets.choose(spec, IDS, ENGINES)


def test_no_engine_at_all_is_no_text():
    with pytest.raises(NoSuchEngine):
        targets.as_text([])
