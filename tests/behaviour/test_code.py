"""Running code."""

import time

import pytest

from ipkernel_ext import Ref
from ipkernel_ext.errors import CompositeError, NameNotFound, RemoteError, RemoteExit, ResultExpired, TaskCancelled


def test_execute_gives_a_result_per_engine(rc):
    results = rc.execute("print('hello'); 6 * 7")
    assert [r.engine_id for r in results] == rc.ids
    assert results.stdout == ["hello\n"] * 4
    assert results.outputs == ["42"] * 4
    assert [r.value for r in results] == [42] * 4
    assert repr(rc[2].execute("1 + 1")).startswith("Out[2:")


def test_a_statement_has_no_value(rc):
    result = rc[0].execute("a = 1")
    assert result.value is None
    assert "Out" not in repr(result)


def test_both_streams_and_rich_output(rc):
    result = rc[0].execute(
        "import sys; from IPython.display import HTML, display\n"
        "print('out'); print('err', file=sys.stderr); display(HTML('<b>x</b>'))"
    )
    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    assert result.outputs[0].bundle["text/html"] == "<b>x</b>"


def test_of_much_output_nothing_is_lost_and_the_order_is_kept(rc):
    results = rc.execute("for i in range(20_000): print('line', i)")
    assert results.stdout == ["".join(f"line {i}\n" for i in range(20_000))] * 4


def test_run_sends_the_file_of_this_side(rc, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("answer = 42\nname = __file__\n")
    rc.run(script)
    assert rc["answer"] == [42] * 4
    assert rc[0]["name"] == str(script)
    with pytest.raises(FileNotFoundError):
        rc.run(tmp_path / "none.py")


def test_apply_with_values_names_and_keywords(rc):
    rc.push({"b": 10})
    assert rc.apply(lambda x, y=0: x + y, 1, y=2) == [3] * 4
    assert rc[1].apply(lambda x: x + 1, Ref("b")) == 11
    assert rc[1].apply(abs, -3) == 3


def test_a_name_among_a_maps_items_is_resolved_where_the_item_runs(rc):
    rc.push({"table": {"a": 1, "b": 2}})
    assert rc.map(dict.get, [Ref("table")] * 3, ["a", "b", "c"], [0, 0, 3]) == [1, 2, 3]
    assert rc.map(len, (Ref("table"), "four")) == [2, 4]
    with pytest.raises(NameNotFound, match="there is no variable 'tabel' on engine .; did you mean 'table'"):
        rc.map(len, [Ref("tabel")])


class Holder:
    def __init__(self, held):
        self.held = held


def test_names_inside_arguments_are_resolved_too(rc):
    rc.execute("b = 10; big = [1, 2]")
    assert rc[1].apply(lambda x: x, [Ref("b"), (1, Ref("b")), {"k": Ref("b")}]) == [10, (1, 10), {"k": 10}]
    assert rc[1].apply(lambda **given: given, x={"k": [Ref("b")]}) == {"x": {"k": [10]}}
    assert rc[1].apply(lambda holder: holder.held, Holder(Ref("b"))) == 10
    assert rc.submit(sum, [Ref("b"), 1]).get(20) == 11
    assert rc.map(sum, [[Ref("b"), 1], [2, 3]]) == [11, 5]
    rc.push({"pair": [Ref("big"), Ref("b")], "same": Ref("big")})
    rc.execute("pair[0].append(3)")
    assert rc.pull(("same", "big", "pair")) == [([1, 2, 3], [1, 2, 3], [[1, 2, 3], 10])] * 4
    with pytest.raises(NameNotFound, match="there is no variable 'bug' on engine 0; did you mean 'big'"):
        rc[0].apply(len, [Ref("bug")])
    with pytest.raises(NameNotFound):
        rc[0].push({"fresh": 1, "other": [Ref("none")]})
    assert "fresh" not in rc[0]


def test_what_a_function_brings_may_be_a_ref(rc):
    ref = Ref("b")
    assert rc[0].apply(lambda: ref) == ref
    assert rc[0].apply(Ref, "b") == ref


def test_the_list_of_values_is_a_value(rc):
    rc[0].execute("5")
    first = rc[0].execute("Out")
    assert first.value[first.execution_count - 1] == 5
    assert rc[0].execute("6").value == 6
    second = rc[0].execute("Out")
    assert second.value[second.execution_count - 1] == 6
    rc[0].execute("7")
    with pytest.raises(ResultExpired):
        rc[0]._fetch(0, second.execution_count + 100)


def test_a_name_the_function_does_not_bring_is_the_engines(rc):
    rc.push({"only_there": 7})
    function = eval("lambda x: x + only_there", {})
    assert rc.apply(function, 1) == [8] * 4


def test_remote_runs_on_the_targets(rc):
    @rc[1:3].remote
    def double(x):
        return 2 * x

    assert double(4) == [8, 8]


def test_one_engines_exception_is_itself(rc):
    with pytest.raises(ZeroDivisionError) as raised:
        rc[1].execute("1 / 0")
    notes = "".join(raised.value.__notes__)
    assert "engine 1" in notes
    assert "1 / 0" in str(raised.value.__cause__)


def test_several_are_a_group(rc):
    rc[1:].push({"zero": 0})
    rc[0].push({"zero": 1})
    with pytest.raises(CompositeError) as raised:
        rc.execute("1 / zero")
    assert isinstance(raised.value, ExceptionGroup)
    assert [type(e) for e in raised.value.exceptions] == [ZeroDivisionError] * 3
    assert "3 of 4 engines failed: 3 × ZeroDivisionError" in str(raised.value)
    caught = []
    try:
        rc.execute("1 / zero")
    except* ZeroDivisionError as group:
        caught += group.exceptions
    assert len(caught) == 3


def test_a_failed_task_does_not_stop_those_behind_it(rc):
    failing = rc.execute("raise ValueError", block=False)
    behind = rc.execute("after = 1", block=False)
    behind.get()
    assert isinstance(failing.exception(), CompositeError)
    assert rc["after"] == [1] * 4


def test_syntax_errors_are_one_error_many_times(rc):
    with pytest.raises(CompositeError, match="4 × SyntaxError"):
        rc.execute("x ===")


def test_exit_and_input_leave_the_engine_alive(rc):
    rc.push({"kept": 1})
    with pytest.raises(RemoteExit, match=r"SystemExit\(3\)"):
        rc[0].execute("import sys; sys.exit(3)")
    with pytest.raises(EOFError, match="engine 0 has no keyboard: line 2") as raised:
        rc[0].execute("\ninput('name? ')")
    assert "_no_input" not in str(raised.value.__cause__)
    assert rc["kept"] == [1] * 4


def test_an_exception_class_that_cannot_be_rebuilt(rc):
    code = "import threading\nclass Odd(Exception): pass\nraise Odd('why', threading.Lock())"
    with pytest.raises(RemoteError, match="Odd: .*why") as raised:
        rc[0].execute(code)
    assert raised.value.type_name == "Odd"
    assert "raise Odd" in raised.value.traceback_text


def test_pulling_what_is_not_there(rc):
    rc.push({"velocity": 1})
    with pytest.raises(NameNotFound, match="'velocity'") as raised:
        rc[2].pull("velocty")
    assert isinstance(raised.value, NameError)
    assert isinstance(raised.value, KeyError)
    assert "engine 2" in str(raised.value)
    rc[0].push({"only": 1})
    with pytest.raises(CompositeError, match="3 of 4") as group:
        rc.pull("only")
    assert all("only" in str(e) for e in group.value.exceptions)


def test_reset_and_keys(rc):
    rc.push({"b": 1, "a": 2})
    assert rc.keys() == [["a", "b"]] * 4
    rc.reset()
    assert rc[0].keys() == []


def test_output_is_followed_for_so_long_only_however_much_there_is(clusters):
    result = clusters["forked"][0].execute("while True: print('more')", block=False)
    until = time.monotonic() + 0.3
    assert sum(len(piece.text) for piece in result.follow(until)) > 0
    assert time.monotonic() < until + 20
    assert not result.done()
    result.cancel()
    with pytest.raises(TaskCancelled):
        result.get(20)


def test_a_display_that_was_changed_is_one_output_as_it_is_now(rc):
    code = (
        "from IPython.display import display\n"
        "a, b = display('first', display_id=True), display('other', display_id=True)\n"
        "a.update('second')"
    )
    assert rc[0].execute(code).outputs == ["'second'", "'other'"]
