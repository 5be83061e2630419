"""The terminal's view: what keys do, and what is shown."""

import pytest
from rich.console import Console

from ipkernel_ext.core import messages as m
from ipkernel_ext.dashboard.state import Facts, State, seen
from ipkernel_ext.top import AROUND, Order, View, frame, once, pressed, rows, split
from tests.dashboard.fakes import FakeLooker, at
from tests.dashboard.test_state import BUSY, IDLE, facts

STATE = seen(facts(IDLE, BUSY), State(), 12.5)


def text(state=STATE, view=None, width=110, **options):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(frame(state, view or View(), 14.0, **options))
    return capture.get()


def test_a_frame_says_what_engines_do():
    lines = text(keys=False).splitlines()
    assert lines[0].startswith("2 engines (1 busy, 1 ready)   1 running, 4 queued, 6 done   12.5 tasks/s")
    assert lines[2].split() == ["id", "host", "pid", "state", "running", "queued", "done", "cpu", "memory"]
    assert lines[4].split() == ["1", "here", "13", "busy", "f(),", "6.0", "s", "1", "2", "100", "%", "1.0", "KB"]
    assert len(lines) == 5


def test_what_an_engine_runs_is_no_markup():
    odd = m.EngineRecord("b0", "[red]", 1, "3", 0, task="a:1", running="x[bold] = 1", seconds=1.0)
    assert "x[bold] = 1, " in text(seen(facts(odd), State()))


def test_a_cluster_that_is_away_says_so():
    assert "no cluster runs" in text(seen(Facts(1.0, trouble="no cluster runs"), State()))


def test_a_small_terminal_shows_the_engines_around_the_chosen_one():
    engines = [m.EngineRecord(f"b{i}", "here", i, "3", i) for i in range(100)]
    state = seen(facts(*engines), State())
    shown = text(state, View(chosen=50), height=AROUND + 5)
    assert "engines 49 to 53 of 100" in shown
    assert len(shown.splitlines()) <= AROUND + 5


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("i", Order("interrupt", (0,))),
        ("I", Order("interrupt", (0, 1))),
        ("q", Order("quit")),
        ("\x03", Order("quit")),
        ("x", None),
        ("r", None),
    ],
)
def test_keys(key, order):
    assert pressed(key, View(), STATE)[1] == order


def test_a_restart_is_asked_about():
    asking, _ = pressed("r", View(chosen=1), STATE)
    assert "restart engine 1? Variables there are lost." in text(view=asking)
    assert pressed("y", asking, STATE) == (View(chosen=1), Order("restart", (1,)))
    assert pressed("n", asking, STATE) == (View(chosen=1, said="nothing was restarted"), None)
    assert pressed("R", View(), STATE)[0].asking == (0, 1)


def test_the_choice_moves_and_stops_at_the_ends():
    view = View()
    for key, chosen in (("down", 1), ("down", 1), ("up", 0), ("k", 0), ("j", 1)):
        view, _ = pressed(key, view, STATE)
        assert view.chosen == chosen


def test_a_choice_that_is_gone_is_the_first():
    assert pressed("i", View(chosen=9), STATE)[1] == Order("interrupt", (0,))
    assert pressed("i", View(), State())[1] is None


def test_sorting():
    assert [row["id"] for row in rows(STATE, View(sort="cpu"))] == [1, 0]
    assert [row["id"] for row in rows(STATE, View(sort="state"))] == [1, 0]
    view = View()
    for sort in ("cpu", "memory", "queued", "state", "id"):
        view, _ = pressed("s", view, STATE)
        assert view.sort == sort


def test_what_a_terminal_sends_is_split_into_keys():
    assert split("i\x1b[A\x1bOBq") == ["i", "up", "down", "q"]


def test_one_frame_for_scripts(capsys):
    once(FakeLooker(at(1.0)))
    shown = capsys.readouterr().out
    assert "1 engine (1 ready)" in shown and "\x1b" not in shown and "quit" not in shown
