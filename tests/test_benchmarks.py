"""`make bench` with a little of its work, and its arithmetic."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BEGIN, END, ROWS, write
from benchmarks.contestant import Contestant, Missing
from benchmarks.data import CALLS, Line, in_turns, table
from benchmarks.environment import _install
from benchmarks.hosts import TREES, WAYS
from benchmarks.hosts import table as table_of_hosts
from benchmarks.spread import seconds as seconds_to_hosts
from benchmarks.table import MICROSECONDS, MILLISECONDS, OURS, PER_SECOND, SECONDS, Figures, Row, lines, markdown
from ipkernel_ext.net.couriers import parents
from tests.cluster.hosts import why_not

ROOT = Path(__file__).parent.parent
TIME = Row("time", "case", 4, MICROSECONDS, {"peer": 2})
RATE = Row("rate", "case", 4, PER_SECOND, {"peer": 2}, limit=9)


def figures(ours: list[float], theirs: list[float]) -> Figures:
    """Of one case."""
    made = Figures()
    for name, values in ((OURS, ours), ("peer", theirs)):
        for value in values:
            made.add("case", 4, name, value)
    return made


@pytest.mark.slow
def test_a_little_of_all_work_fills_the_rows_of_four_workers():
    command = [sys.executable, "-m", "benchmarks", "--only", f"{OURS},broker,Pool,futures", "--sizes", "4"]
    command += ["--rounds", "1", "--effort", "0.005"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    for row in ROWS:
        if row.n <= 4:
            assert row.what in done.stdout
    assert done.stdout.count("broker") >= 7


def test_a_quick_run_of_data_shows_each_call_and_one_copy_in_memory():
    command = [sys.executable, "-m", "benchmarks.data", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    _, *shown = done.stdout.split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in shown] == ["memory", *CALLS * 3]


@pytest.mark.slow
def test_a_quick_run_of_hosts_shows_each_way_to_them():
    if why := why_not():
        pytest.skip(why)
    command = [sys.executable, "-m", "benchmarks.hosts", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    first, _, *shown = done.stdout.splitlines()
    assert first == "1 MB to 2 hosts with 4 engines each, cables of 200 Mbit/s"
    assert [line.startswith(WAYS[name]) for line, name in zip(shown, [*TREES, "ours"], strict=True)] == [True] * 4


def test_what_was_measured_between_hosts_is_shown_as_times_the_trees():
    _, tree, ours = table_of_hosts({"tree": [1.0, 2.0, 9.0], "ours": [6.0]})
    assert tree.split()[-4:] == ["2.00", "1.00", "s", "1.00"]
    assert ours.split()[-6:] == ["6.00", "6.00", "s", "3.00", "wanted", "1.3"]


def test_every_tree_reaches_each_host_once():
    for tree in TREES.values():
        assert sorted(child for children in tree.values() for child in children) == [1, 2, 3, 4]


def test_a_large_object_takes_longer_to_many_hosts_by_the_number_of_levels_only():
    one = 2**26 / 1e9
    by_hosts = {hosts: seconds_to_hosts(parents(hosts), 2**26, 1e9, 1e-4) / one for hosts in (1, 16, 64, 256, 1024)}
    assert by_hosts[1] < 1.05
    assert by_hosts[16] < 1.3
    steps = [by_hosts[256] - by_hosts[64], by_hosts[1024] - by_hosts[256]]
    assert max(steps) < 0.2, "four times as many hosts are two levels more"
    assert by_hosts[1024] < 2.6


def test_the_controller_alone_takes_as_long_as_there_are_hosts():
    assert seconds_to_hosts([None] * 8, 2**24, 1e9, 0.0) == pytest.approx(8 * 2**24 / 1e9)


def test_contestants_take_turns():
    order = []
    figures = in_turns({"a": lambda: order.append("a") or 1.0, "b": lambda: order.append("b") or 2.0}, 2)
    assert order == ["a", "b", "a", "b"]
    assert figures == {"a": [1.0, 1.0], "b": [2.0, 2.0]}


def test_a_line_has_medians_and_the_best_beside_the_floors():
    _, line = table([Line("push", MILLISECONDS, "ours", "floor", 1.3)], {"ours": [3e-3, 2e-3, 9e-3], "floor": [1e-3]})
    assert line.split() == ["push", "3", "2", "1", "1", "ms", "3.00", "2.00", "wanted", "1.3"]


def test_a_contestant_says_what_it_does_not_offer_and_what_failed():
    contestant = Contestant("Pool", sys.executable)
    try:
        assert contestant.ask("start", 2, limit=30) > 0
        with pytest.raises(Missing, match="not offered"):
            contestant.ask("addressed", 0.01, limit=30)
        with pytest.raises(Missing, match="KeyError"):
            contestant.ask("no such case", 0.01, limit=30)
        assert contestant.ask("balanced", 0.01, limit=30) > 0
        with pytest.raises(Missing, match="no answer within 0 s"):
            contestant.ask("idle", 0.01, limit=0.01)
        with pytest.raises(Missing, match="no answer"):
            contestant.ask("balanced", 0.01, limit=30)
    finally:
        contestant.close()


def test_a_peer_that_cannot_be_installed_has_a_reason(tmp_path):
    assert _install(Path(sys.executable), [str(tmp_path / "no-such-package")])


@pytest.mark.parametrize(("theirs", "shown"), [(6e-4, "2.00 ×  wanted"), (3e-4, "1.00 ×  MISSED, wanted")])
def test_a_time_is_better_the_smaller_it_is(theirs: float, shown: str):
    ours, peer = lines([TIME], figures([2e-4, 3e-4, 9e-4], [theirs]))
    assert ours.split()[:4] == ["time", "300", "µs", "±58%"]
    assert shown in peer


@pytest.mark.parametrize(("ours", "shown"), [(20.0, "2.00 ×  wanted"), (5.0, "0.50 ×  MISSED, wanted")])
def test_a_rate_is_better_the_larger_it_is(ours: float, shown: str):
    first, peer = lines([RATE], figures([ours], [10.0]))
    assert shown in peer
    assert ("MISSED, wanted 9 /s" in first) is (ours < 9)


def test_what_was_not_measured_says_why():
    made = figures([1.0], [])
    made.miss("case", 4, "slow", "no answer within 300 s")
    _, line = lines([TIME], made)
    assert line.split(maxsplit=1) == ["slow", "no answer within 300 s"]


def test_figures_of_an_earlier_run_are_added_to(tmp_path):
    before = figures([1.0], [4.0])
    before.miss("case", 4, "slow", "no answer")
    before.save(tmp_path / "figures")
    after = figures([3.0], [])
    after.load(tmp_path / "figures")
    assert after.median(TIME, OURS) == 2.0
    assert (after.median(TIME, "peer"), after.why_not(TIME, "slow")) == (4.0, "no answer")


def test_a_page_gets_its_table_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    row = TIME._replace(unit=SECONDS)
    write(page, [row], figures([2.0], [4.0]), [OURS, "peer", "absent"])
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| time, s | **2** | 4 (2.00 ×) |" in text
    assert next(markdown([row], figures([2.0], [4.0]), ["peer", "absent"])) == f"| | {OURS} | peer |"
