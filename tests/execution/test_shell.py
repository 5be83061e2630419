"""The shell is IPython's in all that a user sees, and stays small and silent in the rest."""

import builtins
import gc
import linecache
import os
import signal
import sys
import threading

import pytest

from ipkernel_ext.execution import shell as module
from ipkernel_ext.execution.output import OutputBuffer
from ipkernel_ext.execution.shell import KEPT, EngineShell


@pytest.fixture
def shell():
    output = OutputBuffer()
    output.engine_id = lambda: 5
    made = EngineShell(output)
    plain_run = made.run

    def run_as_in_an_engine(code, filename=""):
        with made.being_global():
            return plain_run(code, filename)

    made.run = run_as_in_an_engine
    return made


@pytest.fixture
def run(shell):
    def run(code, filename=""):
        error = shell.run(code, filename)
        if error is not None:
            raise error
        return "".join(getattr(piece, "text", None) or piece.bundle["text/plain"] for piece in shell.output.take())

    return run


def test_several_shells_share_a_process_and_none_is_global(shell, run):
    other = EngineShell(OutputBuffer())
    run("x = 1")
    assert "x" not in other.user_ns
    assert EngineShell._instance is None
    assert sys.modules["__main__"] is not shell.user_module
    assert run("get_ipython()").startswith("<ipkernel_ext")


def test_it_can_be_the_process_its_own(shell, run):
    from IPython import get_ipython

    real = builtins.input
    main, streams = sys.modules["__main__"], (sys.stdout, sys.stderr)
    with shell.being_global():
        seen = []
        thread = threading.Thread(target=lambda: seen.append(get_ipython()))
        thread.start()
        thread.join()
        assert seen == [shell]
        assert builtins.get_ipython() is shell
        run("x = 3")
        import __main__

        assert __main__.x == 3
        with pytest.raises(EOFError, match="engine 5 has no keyboard: line"):
            input()
        print("between tasks")
        assert [piece.text for piece in shell.output.take()] == ["between tasks\n"]
    assert get_ipython() is None
    assert builtins.input is real
    assert (sys.modules["__main__"], (sys.stdout, sys.stderr)) == (main, streams)


def test_keys_are_the_users_names(shell, run):
    assert shell.keys() == []
    run("b = 1; a = 2; _hidden = 3\nimport math\n5")
    assert shell.keys() == ["a", "b", "math"]
    shell.empty()
    assert shell.keys() == []
    assert run("6") == "6"
    assert "input" not in shell.user_ns


@pytest.mark.parametrize("code", ["input('name')", "from getpass import getpass; getpass()"])
def test_nobody_answers(shell, run, code):
    with pytest.raises(EOFError, match=r"engine 5 .*line 3 of .*push the value"):
        run(f"\n\n{code}")


def test_lines_keep_their_numbers(shell, run):
    with pytest.raises(ZeroDivisionError):
        run("\n\n# a comment\n1/0")
    assert "line 4" in shell.problem_text
    assert "    1/0\n" in shell.problem_text
    assert run("\n\n%%time\nprint(1)").startswith("1\n")


@pytest.mark.parametrize("code", ['x = """', "  x = 1\n y = 2", "def f(:", "1 +", "return 3"])
def test_a_syntax_error_is_shown_as_ipython_shows_it(shell, run, code):
    with pytest.raises(SyntaxError):
        run(code)
    assert shell.problem_text.startswith("  File")
    assert "Traceback" not in shell.problem_text
    assert shell.output.take() == []


def test_a_usage_error_is_one_line(shell):
    shell.run("%nosuch")
    assert shell.problem_text == "UsageError: Line magic function `%nosuch` not found.\n"


def test_a_failing_repr_does_not_fail_the_cell(shell):
    assert shell.run("class R:\n    def __repr__(self): 1/0\nR()") is None
    (piece,) = shell.output.take()
    assert piece.name == "stderr"
    assert "ZeroDivisionError" in piece.text
    assert "IPython/lib" in piece.text or "__repr__" in piece.text
    assert shell.has_value


def test_a_script_is_named(shell, run):
    assert run("__file__", "/some/script.py") == "'/some/script.py'"
    with pytest.raises(ZeroDivisionError):
        run("def f():\n    1/0\nf()", "/some/script.py")
    assert 'File "/some/script.py", line 2, in f\n    1/0' in shell.problem_text
    with pytest.raises(NameError):
        run("__file__")


def test_the_last_values_stay(shell, run):
    for i in range(KEPT + 5):
        run(f"{i}")
        run("pass")
    assert list(shell.kept().values()) == list(range(5, KEPT + 5))
    assert "_1" not in shell.user_ns
    assert "_i1" not in shell.user_ns
    assert shell.user_ns["In"][1] == ""
    assert shell.user_ns["In"][-1] == "pass"


def test_a_value_that_fell_out_is_freed(shell, run):
    run("class Big: pass\nBig()")
    for i in range(KEPT + 3):
        run(f"{i}")
    gc.collect()
    assert not [o for o in gc.get_objects() if type(type(o)) is type and type(o).__name__ == "Big"]


def test_sources_of_old_cells_are_forgotten(shell, run, monkeypatch):
    monkeypatch.setattr(module, "SOURCES", 3)
    before = len(linecache.cache)
    for i in range(10):
        run(f"x = {i}")
    assert len(linecache.cache) - before <= 3


def test_output_is_not_kept_twice(shell, run):
    run("print('x' * 100)")
    shell.run("1/0")
    kept = shell.history_manager  # some IPythons keep neither
    assert not getattr(kept, "outputs", None)
    assert not getattr(kept, "exceptions", None)


def test_shell_commands(shell, run):
    assert run("x = 4\n!echo $x {x + 1}; echo err >&2; exit 3") == "4 5\nerr\n"
    assert run("_exit_code") == "3"
    assert run("files = !echo a; echo b\nlist(files)") == "['a', 'b']"
    assert run("!printf 'h\\303\\251'") == "hé"
    assert run("%%bash\necho one; echo two") == "one\ntwo\n"


def test_what_a_command_leaves_behind_is_not_waited_for(run):
    left = int(run("!sleep 30 & echo $!"))
    os.kill(left, signal.SIGKILL)


def test_help_is_displayed(run):
    assert "Return the number of items" in run("len?")


def test_await_and_pngs(shell, run):
    run("import asyncio\nawait asyncio.sleep(0)")
    shell.run("from IPython.display import Image, display\ndisplay(Image(data=b'\\x89PNG\\r\\n\\x1a\\n' + bytes(40)))")
    (piece,) = shell.output.take()
    assert isinstance(piece.bundle["image/png"], bytes | str)


def test_a_semicolon_hides_the_value(shell):
    shell.run("3;")
    assert shell.output.take() == []
    assert not shell.has_value


def test_chained_errors_begin_at_the_users_code(shell):
    shell.run("def f():\n    raise ValueError\ntry:\n    f()\nexcept ValueError as e:\n    raise KeyError from e")
    assert shell.problem_text.count("Traceback") == 2
    assert "IPython" not in shell.problem_text
    shell.run("raise ExceptionGroup('g', [ValueError(1)])")
    assert "IPython/" not in shell.problem_text
