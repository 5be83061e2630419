"""Tracebacks of engines get the source lines that are known here, and colours."""

import pytest

from ipkernel_ext.tracebacks import coloured, with_source

TEXT = """Traceback (most recent call last):
  File "<cell>", line 2, in f
  File "there.py", line 7, in g
    return there()
           ^^^^^^^
  File "<cell>", line 9, in h
  [Previous line repeated 3 more times]
ValueError: v"""


def known(file, number):
    return {("<cell>", 2): "    here()\n", ("there.py", 7): "not asked for"}.get((file, number), "")


def test_lines_that_are_known_here_are_filled_in():
    expected = TEXT.replace("line 2, in f\n", "line 2, in f\n    here()\n")
    assert with_source(TEXT, known) == expected
    assert with_source(expected, known) == expected


def test_files_that_are_no_source_are_not_read(tmp_path):
    for name, lines in ("secret", 1), ("source.py", 2):
        (tmp_path / name).write_text("first")
        assert len(with_source(f'  File "{tmp_path / name}", line 1, in f').splitlines()) == lines


def test_in_groups_too():
    text = '  + Exception Group Traceback (most recent call last):\n  |   File "<cell>", line 2, in f\n  | Exception: g'
    assert '  |   File "<cell>", line 2, in f\n  |     here()\n  | Exc' in with_source(text, known)


@pytest.mark.parametrize("text", ["", "ValueError: v", 'File "<cell>", line 2, in', '  File "<cell>", line x, in f'])
def test_what_has_no_frames_stays(text):
    assert with_source(text, lambda *_: "never").startswith(text)


@pytest.mark.parametrize("colours", ["nocolor", "NoColor"])
def test_no_colours(colours):
    assert coloured(TEXT, colours) == TEXT


@pytest.mark.parametrize("colours", ["linux", "neutral", "lightbg", "Linux", "another"])
def test_colours_change_nothing_else(colours):
    import re

    shown = coloured(TEXT, colours)
    assert re.search(r"\x1b\[[0-9;]*mValueError\x1b", shown), "in one piece"
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown) == TEXT


@pytest.mark.parametrize("colours", ["neutral", "Neutral"])
def test_neutral_colours_are_those_that_terminals_and_notebooks_have_by_name(colours):
    import re

    codes = {code for codes in re.findall(r"\x1b\[([0-9;]*)m", coloured(TEXT, colours)) for code in codes.split(";")}
    assert "31" in codes
    assert "38" not in codes, "a shade of our own"
