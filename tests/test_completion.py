"""Completion of lines, without IPython or engines."""

import pytest

from ipkernel_ext.completion import complete, name_in_cell
from ipkernel_ext.magic_options import Option

OPTIONS = {"px": (Option(("-t", "--targets"), "engines"), Option(("--pull",), "names")), "engines": ()}


def completed(line):
    return complete(line, OPTIONS, lambda: ["all", "0", "host:a"], lambda: ["alpha", "beta"], {"px"})


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("%px --", ["--pull", "--targets"]),
        ("%%px -", ["--pull", "--targets", "-t"]),
        ("%px -t ", ["0", "all", "host:a"]),
        ("%px --targets=h", ["host:a"]),
        ("%px -t 0 al", ["alpha"]),
        ("%px --pull alpha,b", ["beta"]),
        ("%engines -", []),
        ("%engines x", None),
        ("%px", None),
        ("%other -", None),
        ("px -", None),
        ("a = %px", None),
    ],
)
def test_completes(line, found):
    assert completed(line) == found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("%%px\nal", "al"),
        ("%%px -t 0\nx = 1\nprint(al", "al"),
        ("\n%%px\ny = [_a1", "_a1"),
        ("%%px\n", ""),
        ("%%px\nx.al", ""),
        ("%%px\nx = 1e", ""),
        ("%%px al", ""),
        ("%px x\nal", ""),
        ("%%time\nal", ""),
        ("al", ""),
    ],
)
def test_names_in_a_cell(text, name):
    assert name_in_cell(text, {"px"}) == name
