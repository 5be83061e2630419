"""Numbers and nouns as people read them."""

import pytest

from ipkernel_ext.units import a, bytes_text, count, duration


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (8_000_000, "8.0 MB"), (3e15, "3000.0 TB")])
def test_bytes(size, text):
    assert bytes_text(size) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 engines"), (1, "1 engine"), (2, "2 engines")])
def test_counts(number, text):
    assert count(number, "engine") == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1.0, "0.0 s"), (3.14, "3.1 s"), (14.2, "14 s"), (600.0, "10 min"), (9000.0, "2.5 h")]
)
def test_times(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("noun", "text"), [("int", "an int"), ("list", "a list"), ("AsyncResult", "an AsyncResult")])
def test_articles(noun, text):
    assert a(noun) == text
