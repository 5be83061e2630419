"""The table of variables over engines, and how one is described."""

from types import SimpleNamespace

import numpy as np
import pytest

from ipkernel_ext.execution.inventory import COMPARED, Variable, describe
from ipkernel_ext.variables import table


class Hostile:
    def __len__(self):
        raise RuntimeError

    def __reduce__(self):
        raise RuntimeError

    def __sizeof__(self):
        raise RuntimeError

    @property
    def shape(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "type", "shape"),
    [
        (np.zeros((2, 3)), "ndarray", "2×3 float64"),
        (np.float32(1), "float32", "scalar float32"),
        ([1, 2], "list", "2"),
        (5, "int", ""),
        (Hostile(), "Hostile", ""),
        (np, "module", ""),
        (np.ndarray, "type", ""),
        (SimpleNamespace(shape="round", dtype="fine"), "SimpleNamespace", ""),
    ],
)
def test_describes(value, type, shape):
    found = describe("x", value)
    assert (found.name, found.type, found.shape) == ("x", type, shape)


def test_equal_values_have_equal_digests_and_large_ones_have_none():
    assert describe("x", [1]).digest == describe("y", [1]).digest != describe("x", [2]).digest
    assert describe("x", np.zeros(COMPARED + 1, "u1")).digest == ""
    assert describe("x", np.zeros(1000)).size == 8000


def test_an_empty_table_says_so():
    assert table({0: []}) == "no variables"


def test_sizes_of_a_group_are_a_range():
    text = table({0: [Variable("x", "str", "", 60, "a")], 1: [Variable("x", "str", "", 2500, "b")]})
    assert "60 B to 2.5 KB" in text
    assert "0-1" in text
    assert "≠" in text
