"""Numbers as people read them."""

import pytest

from ipkernel_ext.units import bytes_text, count


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (8_000_000, "8.0 MB"), (3e15, "3000.0 TB")])
def test_bytes(size, text):
    assert bytes_text(size) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 engines"), (1, "1 engine"), (2, "2 engines")])
def test_counts(number, text):
    assert count(number, "engine") == text
