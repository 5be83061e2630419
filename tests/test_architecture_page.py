"""The architecture page speaks of files and functions that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:ipkernel_ext|tests|benchmarks|docs)/[\w./]*)`", PAGE)))
JOURNEY = re.findall(r"`(ipkernel_ext/[\w/]+\.py)`, `(\w+)`(?: and `(\w+)`)?", PAGE)


@pytest.mark.parametrize("path", PATHS)
def test_files_it_names_are_there(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("path", "functions"), [(path, [f for f in names if f]) for path, *names in JOURNEY])
def test_functions_of_the_journey_are_in_their_files(path, functions):
    source = (ROOT / path).read_text()
    for function in functions:
        assert re.search(rf"def {function}\(", source), f"no {function} in {path}"


def test_the_journey_is_whole():
    assert len(JOURNEY) >= 7
