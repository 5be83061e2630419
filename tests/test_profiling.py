"""Profiles of many engines as one: sums, the table, and the page."""

import re
from html.parser import HTMLParser

import pytest

from ipkernel_ext import flame
from ipkernel_ext.core.looking import SILENT
from ipkernel_ext.core.messages import Sample, Sampled
from ipkernel_ext.errors import NoAnswer
from ipkernel_ext.profiling import Profile, by_function, merged

TOLD = [
    (0, {"labels": ["f", "g"], "stacks": [([0], 1.0, 0.5), ([0, 1], 2.0, 0.0)], "idle": 1.0, "seconds": 4.5}),
    (1, {"labels": ["g", "f"], "stacks": [([1, 0], 0.0, 3.0)], "idle": 0.0, "seconds": 3.0}),
    (2, {SILENT: "engine 2 has not answered"}),
]


def look(inspection):
    return TOLD if isinstance(inspection, Sampled) else [(id, {}) for id in range(3)]


def test_samples_of_engines_add_up():
    stacks, engines = merged(TOLD)
    assert stacks == {("f",): (1.0, 0.5), ("f", "g"): (2.0, 3.0)}
    assert engines == {0: (3.0, 0.5, 1.0), 1: (0.0, 3.0, 0.0)}
    assert by_function(stacks) == {"f": (1.0, 0.5, 6.5), "g": (2.0, 3.0, 5.0)}
    assert by_function({("f", "f"): (1.0, 0.0)}) == {"f": (1.0, 0.0, 1.0)}, "a function that calls itself counts once"


def test_the_table():
    with Profile(look, 0.01) as profile:
        assert repr(profile) == "<Profile: under way; stop() ends it>"
    head, silent, names, first, second = repr(profile).splitlines()
    assert head == "2 engines: 3.00 s computing, 3.50 s waiting, 1.00 s between tasks"
    assert silent == "engine 2 has not answered"
    assert names.split("  ")[0] == "computing"
    assert first.split() == ["2.00", "s", "3.00", "s", "5.00", "s", "g"]
    assert second.split() == ["1.00", "s", "0.50", "s", "6.50", "s", "f"]
    assert profile.table(rows=1).endswith("… and 1 more")


def test_where_no_engine_answers_there_is_no_profile():
    asked = []

    def silent(inspection):
        asked.append(type(inspection))
        return [(0, {SILENT: "engine 0 has not answered"})]

    with pytest.raises(NoAnswer, match="engine 0 has not answered"):
        Profile(silent, 0.01)
    assert asked == [Sample]
    with pytest.raises(ValueError, match="an interval"):
        Profile(look, 0)


class Page(HTMLParser):
    """What a page has."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.frames, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "button":
            self.frames.append(dict(attributes))

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_else_and_has_waiting_apart(tmp_path):
    profile = Profile(look, 0.01).stop()
    path = profile.save(tmp_path / "page.html")
    text = path.read_text()
    page = Page(text)
    assert not [tag for tag, attributes in page.tags if {"src", "href"} & attributes.keys()]
    assert not re.search(r"https?:|@import|url\(", text)
    titles = [frame["title"] for frame in page.frames]
    assert "Computing: all: 3.00 s, 100.0 %" in titles and "Waiting: all: 3.50 s, 100.0 %" in titles
    assert "g: 2.00 s, 66.7 %" in titles and "g: 3.00 s, 85.7 %" in titles
    assert all(frame["aria-label"] == frame["title"] for frame in page.frames)


def test_names_are_escaped_and_small_frames_left_out():
    stacks = {("<lambda> (\"x\" & 'y')",): 1.0, ("small",): 1e-6}
    page = Page(flame.page("<head>", [("Computing", stacks), ("Waiting", {})]))
    assert "<lambda> (\"x\" & 'y')" in [frame["title"].rsplit(":", 1)[0] for frame in page.frames]
    assert not [frame for frame in page.frames if frame["title"].startswith("small")]
    assert "<head>" in page.text and "Nothing." in page.text
    assert page.frames[1]["style"].startswith("left:0.0000%;width:99.9999%;top:18px")


def test_cells_with_other_numbers_are_alike():
    told = [
        (id, {"labels": [f"f (<ipython-input-{n}-0abc>:1)"], "stacks": [([0], 1.0, 0.0)], "idle": 0.0, "seconds": 1.0})
        for id, n in enumerate((3, 17))
    ]
    assert merged(told)[0] == {("f (<ipython-input-0abc>:1)",): (2.0, 0.0)}
