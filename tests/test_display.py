"""The screen: what is shown when, with a result and a clock that the test moves."""

import sys
import types

import pytest

from ipkernel_ext.core.messages import Display, Stream
from ipkernel_ext.display import Screen
from ipkernel_ext.testing import InProcessCluster


def stream(engine, text, name="stdout"):
    return Stream(None, engine, 0, name, text)


class Result:
    """What a screen asks of a result: output at given moments, and engines that are done at others."""

    def __init__(self, outputs=(), done=(0.0,)):
        self.now = 0.0
        self._outputs = sorted(outputs, key=lambda output: output[0])
        self._done = list(done)  # when each engine is done
        self._seen = 0

    def clock(self):
        return self.now

    def done(self):
        return self.progress == len(self)

    def wait(self, seconds):
        self.now += seconds
        return self.done()

    def asks_here(self):
        return False

    def follow(self, until=None, enough=None):
        while not self.done() and until is not None and self.now < until:
            self.now = min(until, self.now + 0.1)
        fresh = [output for at, output in self._outputs if at <= self.now][self._seen :]
        self._seen += len(fresh)
        return iter(fresh)

    def logs(self):
        engines = sorted({output.engine for _, output in self._outputs})
        return {e: [output for _, output in self._outputs if output.engine == e] for e in engines}

    @property
    def progress(self):
        return sum(at <= self.now for at in self._done)

    @property
    def metadata(self):
        ended = [at <= self.now for at in self._done]
        return [
            {"engine_id": i, "task_id": f"me:{i}", "status": "ok" if end else "pending"} for i, end in enumerate(ended)
        ]

    def watch(self):
        return self

    answer = {}
    silence = 0.0

    def look(self):
        return self.silence

    def __len__(self):
        return len(self._done)


def follow(result, **options):
    Screen(clock=result.clock, **options).follow(result)


def test_output_is_shown_as_it_arrives_with_each_line_labelled(capsys):
    follow(Result([(0.1, stream(0, "a\n")), (0.2, stream(1, "b\nc")), (0.3, stream(0, "d\n"))], [0.5, 0.5]))
    assert capsys.readouterr().out == "[0] a\n[1] b\n[0] d\n[1] c\n"


def test_streams_go_where_they_belong(capsys):
    follow(Result([(0.1, stream(0, "out\n")), (0.1, stream(0, "err\n", "stderr"))], [0.5]))
    assert tuple(capsys.readouterr()) == ("[0] out\n", "[0] err\n")


def test_eight_engines_are_not_folded_and_nine_are(capsys):
    for n, lines in (8, 8), (9, 1):
        follow(Result([(0.1, stream(engine, "same\n")) for engine in range(n)], [0.5] * n))
        assert capsys.readouterr().out.count("same") == lines
    follow(Result([(0.1, stream(engine, "same\n")) for engine in range(9)], [0.5] * 9), fold=False)
    assert capsys.readouterr().out.count("same") == 9


def test_a_folded_block_is_labelled_on_each_line(capsys):
    result = Result([(0.1, stream(engine, f"same\n{engine // 9}\n")) for engine in range(10)], [0.5] * 10)
    follow(result)
    assert capsys.readouterr().out == "[0-8] same\n[0-8] 0\n[9] same\n[9] 1\n"


def test_a_cell_that_runs_for_long_streams_unfolded(capsys):
    outputs = [(at, stream(engine, f"at {at}\n")) for engine in range(9) for at in (0.1, 2.5)]
    follow(Result(outputs, [3.0] * 9))
    shown, status = capsys.readouterr()
    assert shown.splitlines() == [f"[{e}] at {at}" for at in (0.1, 2.5) for e in range(9)]
    assert "0 of 9 done" in status


def test_engine_by_engine_waits_for_the_end(capsys):
    outputs = [(at, stream(engine, f"at {at}\n")) for engine in range(2) for at in (0.1, 2.5)]
    follow(Result(outputs, [3.0, 3.0]), group_by="engine")
    assert capsys.readouterr().out == "[0] at 0.1\n[0] at 2.5\n[1] at 0.1\n[1] at 2.5\n"


def test_in_order_is_never_folded(capsys):
    follow(Result([(0.1, stream(engine, "same\n")) for engine in range(9)], [0.5] * 9), group_by="order")
    assert capsys.readouterr().out.count("same") == 9


def test_the_status_says_what_still_runs_now_and_then_where_there_is_no_terminal(capsys):
    follow(Result(done=[0.1, 0.1, 30.0, 0.1]))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "3 of 4 done, [2] running 2 s"
    assert 3 <= len(lines) <= 5


def test_the_status_says_who_waits_for_what_and_whether_the_controller_answers(capsys):
    result = Result([], [30.0, 30.0, 30.0])
    result.answer = {"heads": [(0, "other:5", "sleep()"), (1, "me:1", "x = 1"), (7, "other:6", "")]}
    follow(result)
    assert "0 of 3 done, [1-2] running 2 s, [0] waiting 2 s for another task: sleep()\n" in capsys.readouterr().err
    result = Result([], [30.0, 30.0])
    result.answer = {"heads": [(0, "other:5", "sleep()"), (1, "other:6", "")]}
    result.silence = 7.1
    follow(result)
    said = "0 of 2 done, [0-1] waiting 2 s for other tasks; the controller has not answered for 7 s: its process is"
    assert said in capsys.readouterr().err


def test_on_a_terminal_the_status_stands_in_one_place(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    follow(Result([(3.0, stream(0, "late\n"))], [4.0]))
    shown = capsys.readouterr().err
    assert "\n" not in shown
    assert shown.count("0 of 1 done, [0] running 3 s") >= 1
    assert shown.endswith("\r\x1b[K"), "to the end, where the terminal writes what is typed"


def test_in_a_notebook_the_status_is_one_output_that_changes(monkeypatch):
    import IPython.core.getipython
    import IPython.display

    texts = []

    class Handle:
        def update(self, bundle, raw):
            texts.append(bundle["text/plain"])

    def display(bundle, *, raw, display_id):
        Handle().update(bundle, raw)
        return Handle()

    monkeypatch.setattr(IPython.core.getipython, "get_ipython", lambda: types.SimpleNamespace(kernel=True))
    monkeypatch.setattr(IPython.display, "display", display)
    follow(Result(done=[4.0]))
    assert texts[0] == "0 of 1 done, [0] running 2 s"
    assert texts[-1] == ""


def value(engine):
    return Display(None, engine, 0, {"text/plain": f"'{engine}'"}, {}, execution=1)


def test_values_of_a_cell_that_is_done_soon_come_in_the_order_of_the_engines(capsys):
    follow(Result([(0.1, value(2)), (0.2, stream(1, "text\n")), (0.3, value(0)), (0.4, value(1))], (0.3, 0.4, 0.1)))
    assert capsys.readouterr().out == "[1] text\nOut[0:1]: '0'\nOut[1:1]: '1'\nOut[2:1]: '2'\n"


def test_values_of_a_cell_that_runs_for_long_come_as_they_are_there(capsys):
    follow(Result([(0.1, value(1)), (3.0, value(2)), (4.0, value(0))], (4.0, 0.1, 3.0)))
    assert capsys.readouterr().out == "Out[1:1]: '1'\nOut[2:1]: '2'\nOut[0:1]: '0'\n"


def test_in_order_values_are_not_sorted(capsys):
    follow(Result([(0.1, value(1)), (0.2, value(0))], (0.2, 0.1)), group_by="order")
    assert capsys.readouterr().out == "Out[1:1]: '1'\nOut[0:1]: '0'\n"


def test_late_output_is_shown_with_its_label(capsys):
    late = [[stream(3, "from before\n")], [], [stream(3, "meanwhile\n")], []]
    follow(Result([(0.1, stream(0, "now\n"))], [0.5]), late=lambda: late.pop(0) if late else [])
    assert capsys.readouterr().out == "[3] from before\n[0] now\n[3] meanwhile\n"


def test_a_flood_is_not_all_shown_but_all_kept(capsys):
    rc = InProcessCluster(2).client()
    result = rc.execute("for i in range(50000): print(i)", block=False)
    Screen(clock=lambda: 0.0).follow(result)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 11_000
    assert "[1] 49999" in lines
    assert any("lines are not shown here, the result has them" in line for line in lines)
    assert result.stdout == ["".join(f"{i}\n" for i in range(50000))] * 2


def test_values_and_rich_output_of_a_real_cluster_are_folded(capsys):
    rc = InProcessCluster(9).client()
    Screen().follow(rc.execute("print('one')\n6 * 7", block=False))
    assert capsys.readouterr().out == "[0-8] one\nOut[0-8:1]: 42\n"
    rc[3].execute("x = 5")
    rc[[0, 1, 2, 4, 5, 6, 7, 8]].execute("x = 4")
    Screen().follow(rc.execute("from IPython.display import HTML, display\ndisplay(HTML('<b>'))\nx", block=False))
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == "[0-8]"
    assert shown.endswith("Out[0-2, 4-8:3]: 4\nOut[3:3]: 5\n")


@pytest.mark.parametrize("bundle", [{}, {"text/html": "<b>"}])
def test_a_value_without_plain_text_is_no_trouble(bundle, capsys):
    follow(Result([(0.1, Display(None, 0, 0, bundle, {}, 1))], [0.5]))
    assert capsys.readouterr().out.startswith("Out[0:1]:")


def test_an_interrupted_screen_shows_what_it_has(capsys):
    result = Result(done=[5.0])
    screen = Screen(clock=result.clock)
    screen.show(stream(0, "no end of line"))

    def interrupted(*_):
        raise KeyboardInterrupt

    result.follow = interrupted
    with pytest.raises(KeyboardInterrupt):
        screen.follow(result)
    assert capsys.readouterr().out == "[0] no end of line\n"
