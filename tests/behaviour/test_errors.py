"""How errors of engines look here, and what can be done with them."""

import linecache
import traceback

import pytest

from ipkernel_ext import Ref
from ipkernel_ext.display import describe
from ipkernel_ext.errors import CompositeError, EngineLost, EngineStartError, RemoteError, RemoteExit
from ipkernel_ext.remote_errors import said


def typed(source, name):
    """A function from a cell that was typed here; its source is known to no engine."""
    file = "<ipython-input-77-typed>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names = {"__name__": "__main__"}
    exec(compile(source, file, "exec"), names)
    return names[name]


def test_the_source_of_a_function_that_was_typed_here_is_shown(rc):
    f = typed("def g(x):\n    return 1 / x\ndef f(x):\n    return g(x)\n", "f")
    with pytest.raises(ZeroDivisionError) as raised:
        rc[0].apply(f, 0)
    story = str(raised.value.__cause__)
    assert "in f\n    return g(x)" in story
    assert "in g\n    return 1 / x" in story
    with pytest.raises(ZeroDivisionError) as raised:
        rc.map(f, [1, 0])
    assert "return 1 / x" in str(raised.value.__cause__)


def test_notes_name_engine_host_and_task(rc):
    with pytest.raises(ValueError, match="v") as raised:
        rc[2].execute("raise ValueError('v')")
    (note,) = raised.value.__notes__
    assert note.startswith(f"on engine 2 of host {rc.engines[2].host}, task ")


def test_equal_errors_are_counted_with_their_engines(rc):
    rc.scatter("number", [0, 0, 1, 0])
    with pytest.raises(CompositeError) as raised:
        rc.execute("if number[0]: raise KeyError('k')\n1 / 0")
    text = str(raised.value)
    assert "3 × ZeroDivisionError: division by zero on [0-1, 3]" in text
    assert "1 × KeyError: 'k' on [2]" in text
    lines = describe(raised.value)
    assert lines[0] == "[0-1, 3] 3 engines:"
    assert [line for line in lines if "Error:" in line] == ["ZeroDivisionError: division by zero", "KeyError: 'k'"]
    assert "[2]:" in lines


def test_members_are_picked_by_type_and_the_rest_goes_on(rc):
    rc.scatter("number", [0, 1, 2, 3])
    caught = []
    with pytest.raises(CompositeError) as rest:  # noqa: PT012
        try:
            rc.execute("if number[0] == 1: raise ValueError\nif number[0] == 2: raise KeyError")
        except* ValueError as group:
            caught += group.exceptions
    assert [error.engine_id for error in caught] == [1]
    assert [error.engine_id for error in rest.value.exceptions] == [2]


@pytest.mark.fault("an exception's class misbehaves or is not there")
def test_chains_are_shown_also_of_what_cannot_be_rebuilt(rc):
    code = (
        "import threading\n"
        "class Odd(Exception): pass\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError as error: raise Odd(threading.Lock()) from error\n"
    )
    with pytest.raises(RemoteError, match="Odd") as raised:
        rc[0].execute(code)
    shown = "".join(traceback.format_exception(raised.value))
    assert shown.index("ZeroDivisionError") < shown.index("direct cause") < shown.index("raise Odd")


def test_a_cause_travels_with_its_error(rc):
    with pytest.raises(KeyError) as raised:
        rc[0].execute("try: 1 / 0\nexcept ZeroDivisionError as error: raise KeyError from error")
    assert isinstance(raised.value.__cause__.__cause__, ZeroDivisionError)


def test_huge_messages_stay_short_where_many_are_told(rc):
    with pytest.raises(CompositeError) as raised:
        rc.execute("raise ValueError('x' * 1_000_000)")
    assert len(str(raised.value)) < 1000
    assert len(str(raised.value.exceptions[0])) == 1_000_000, "the error itself is whole"
    assert len("\n".join(describe(raised.value))) < 60_000


@pytest.mark.fault("an exception's class misbehaves or is not there")
def test_an_error_whose_class_misbehaves_here_too(rc):
    code = (
        "class Bad(Exception):\n"
        "    def __str__(self): raise OSError\n"
        "    def add_note(self, note): raise OSError\n"
        "raise Bad\n"
    )
    with pytest.raises(CompositeError, match=r"4 × Bad: \(its message cannot be shown\)") as raised:
        rc.execute(code)
    assert describe(raised.value)[0].endswith("4 engines:")


MISSING = {
    "pull": lambda rc: rc.pull("missing"),
    "del": lambda rc: rc.__delitem__("missing"),
    "Ref": lambda rc: rc.apply(abs, Ref("missing")),
    "input": lambda rc: rc.execute("input()"),
    "getpass": lambda rc: rc.execute("import getpass\ngetpass.getpass()"),
}


@pytest.mark.parametrize("call", MISSING)
def test_errors_that_differ_in_their_engine_only_are_one(rc, call):
    rc[2].execute("'so that the number of the cell is another one'")
    with pytest.raises(CompositeError) as raised:
        MISSING[call](rc)
    assert len(raised.value.exceptions) == 4
    assert "; " not in raised.value.message.replace("; push", "")
    assert raised.value.message.endswith("on [0-3]")
    told = describe(raised.value)
    assert told[0].startswith("[0-3] 4 engines")
    assert "engine 0" not in "\n".join(told)


def test_many_distinct_errors_are_told_in_short():
    members = [ValueError(f"number {i}") for i in range(100)]
    lines = describe(CompositeError("all", members))
    assert lines[0] == "ValueError: number 0"
    assert lines[-1] == "… and 68 errors more"


def test_exit_names_its_code(rc):
    with pytest.raises(RemoteExit, match=r"SystemExit\('done'\)"):
        rc[0].execute("raise SystemExit('done')")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a\nb"), "ValueError: a"),
        (KeyError(), "KeyError"),
        (ValueError("x" * 999), "ValueError: " + "x" * 300),
    ],
)
def test_an_error_in_short(error, text):
    assert said(error) == text
    assert len(said(error, short=False)) > len(text) or said(error, short=False) == text


def test_an_error_of_ours_is_told_in_full():
    assert describe(EngineStartError("it ends with\none\ntwo")) == ["EngineStartError: it ends with", "one", "two"]


def test_of_a_crash_it_is_shown_where_it_was():
    crash = EngineLost("engine 0 is lost", 0, signal=11, last_lines="Fatal Python error: Aborted\n  File x")
    assert describe(crash) == ["[0]: EngineLost: engine 0 is lost", "  Fatal Python error: Aborted", "    File x"]
    killed = EngineLost("engine 0 is lost (out of paper)", 0, signal=9, last_lines="out of paper")
    assert describe(killed) == ["[0]: EngineLost: engine 0 is lost (out of paper)"]
