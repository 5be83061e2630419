"""Where the value of a magic goes."""

import sys

import pytest

from ipkernel_ext.callers import wants_value


def run_line_magic():
    """Stands for IPython's."""
    asked.append(wants_value(sys._getframe()))


asked = []


@pytest.mark.parametrize(
    ("source", "mode", "wanted"),
    [
        ("run_line_magic()", "single", False),
        ("run_line_magic();", "single", False),
        ("run_line_magic()\nx = 1", "exec", False),
        ("run_line_magic()", "eval", False),
        ("w = run_line_magic()", "exec", True),
        ("w = run_line_magic()", "single", True),
        ("w, v = [run_line_magic(), 1]", "exec", True),
        ("[run_line_magic()]", "single", True),
        ("str(run_line_magic())", "single", True),
        ("for i in range(2): w = run_line_magic()", "exec", True),
        ("if run_line_magic(): pass", "exec", True),
    ],
)
def test_of_each_line(source, mode, wanted):
    asked.clear()
    exec(compile(source, "<cell>", mode), {"run_line_magic": run_line_magic})
    assert set(asked) == {wanted}


def test_nobody_asks():
    assert not wants_value(sys._getframe())
    assert not wants_value(None)
