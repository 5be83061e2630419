"""The table of the engines, and text that changes in its place."""

from __future__ import annotations

import os
import sys

import IPython.core.getipython
import IPython.display

from ipkernel_ext.core import messages as m
from ipkernel_ext.overview import Live, engines_table, fitting


def test_the_table_says_what_runs_and_for_how_long():
    busy = m.EngineRecord("b0", "here", 12, "3", 0, cpu=99.6, rss=35_000_000, task="a:1", running="f()", seconds=14.2)
    hung = m.EngineRecord("b1", "here", 13, "3", 1, state="unresponsive", rss=1000, task="a:2", seconds=600.0)
    idle = m.EngineRecord("b2", "here", 14, "3", 2, cpu=0.0, rss=0)
    queue = {0: {"queued": 3, "running": 1, "done": 9}, 2: {"queued": 0, "running": 0, "done": 7}}
    assert [line.split() for line in engines_table([busy, hung, idle], queue).splitlines()] == [
        ["id", "host", "pid", "state", "running", "queued", "done", "cpu", "memory"],
        ["0", "here", "12", "busy", "f(),", "14", "s", "3", "9", "100", "%", "35.0", "MB"],
        ["1", "here", "13", "unresponsive", "task", "a:2,", "10", "min", "0", "0", "–", "1.0", "KB"],
        ["2", "here", "14", "ready", "0", "7", "0", "%", "0", "B"],
    ]


def test_an_engine_that_is_only_awaited_has_no_host_and_no_pid():
    table = engines_table([m.EngineRecord("b0", "", 0, "", 0, state="away")], {})
    assert table.splitlines()[1].split() == ["0", "–", "–", "away", "0", "0", "–", "–"]


def test_what_does_not_fit_is_counted():
    assert fitting(["a", "b", "c"], 3) == ["a", "b", "c"]
    assert fitting(["a", "b", "c", "d"], 3) == ["a", "b", "… and 2 more"]


def test_on_a_terminal_it_is_written_over(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((14, 4)))
    live = Live()
    live.show("one\ntwo")
    live.show("a line that is much too long")
    live.show("1\n2\n3\n4")
    shown = capsys.readouterr().out
    assert shown == "\x1b[Jone\ntwo\n\x1b[2F\x1b[Ja line that i\n\x1b[1F\x1b[J1\n2\n… and 2 more\n"


def test_elsewhere_each_follows_the_one_before(capsys):
    live = Live()
    live.show("one")
    live.show("two")
    assert capsys.readouterr().out == "one\ntwo\n"


def test_in_a_notebook_it_is_one_output_that_changes(monkeypatch):
    texts = []

    class Handle:
        def update(self, bundle, raw):
            texts.append(bundle["text/plain"])

    def display(bundle, raw, display_id):
        texts.append(bundle["text/plain"])
        return Handle()

    class Shell:
        kernel = object()

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(IPython.core.getipython, "get_ipython", Shell)
    live = Live()
    live.show("one")
    live.show("two")
    assert texts == ["one", "two"]
