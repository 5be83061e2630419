"""The magics, in a real IPython session of its own process."""

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from ipkernel_ext import launch
from ipkernel_ext.launcher import Cluster, stop_profile

DRIVER = """
import json, sys, io, contextlib
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor")
shell.run_cell("%load_ext ipkernel_ext")
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        result = shell.run_cell(json.loads(line), store_history=True)
    error = result.error_before_exec or result.error_in_exec
    kind = type(error).__name__ if error else None
    sys.__stdout__.write(json.dumps([out.getvalue(), err.getvalue(), kind, repr(result.result)]) + "\\n")
    sys.__stdout__.flush()
"""


class Session:
    """An IPython session with the extension loaded."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        )

    def __call__(self, cell):
        self.process.stdin.write(json.dumps(cell) + "\n")
        self.process.stdin.flush()
        self.out, self.err, self.error, self.value = json.loads(self.process.stdout.readline())
        return self.out

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    before = os.environ.get("IPYTHONDIR")
    os.environ["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
    session = Session()
    session("%config ParallelMagics.n = 3")
    session.first = session("%px import os")
    yield session
    session.close()
    os.environ.pop("IPYTHONDIR")
    if before is not None:
        os.environ["IPYTHONDIR"] = before


def test_the_first_magic_starts_a_cluster_and_says_so_once(session):
    assert session.first.strip() == "started 3 engines on this machine, until this session ends"
    assert session("%px import os") == ""


def test_values_and_output_are_labelled(session):
    out = session("%px 'a{b}$c'")
    assert sorted(line.split(":")[0] for line in out.splitlines()) == ["Out[0", "Out[1", "Out[2"]
    assert "'a{b}$c'" in out
    out = session("%%px -t 1\nprint('one')\nprint('two', end='')")
    assert out == "[1] one\n[1] two\n"


def test_values_may_be_assigned_and_are_shown_once_at_the_prompt(session):
    out = session("w = %px 6 * 7")
    assert out.count("42") == 3
    session("w, get_ipython().run_line_magic('px', '-t 1 6 * 7')")
    assert session.value == "([42, 42, 42], 42)"
    assert session("%px 6 * 7").count("42") == 3
    assert session.value == "None"
    session("w = %px x = 1")
    session("w")
    assert session.value == "[None, None, None]"
    session("%px -o kept 6 * 7")
    session("kept[2].engine_id, kept[-1].value")
    assert session.value == "(2, 42)"
    session("w = %px 1/0")
    assert session.error == "CompositeError"


def test_a_question_mark_asks_the_engines(session):
    session("%px import json; thing = [1, 2, 3]")
    for cell in ("%px -t 1 thing?", "%px -t 1 ?thing", "%px -t1 thing?\n", "%%px -t 1\nthing?"):
        out = session(cell)
        assert out.startswith("[1] Type:        list\n[1] String form: [1, 2, 3]\n"), out
    out = session("%px -t 0 json.dumps??")
    assert "[0] Signature:" in out
    assert "\n[0] def dumps(" in out
    assert "[2] Object `none` not found." in session("%px none?")
    assert "Run code on the engines." in session("%px?")


def test_output_grouped_by_engine(session):
    out = session("%px --group-by engine print(1); print(2)")
    engines = [line.split()[0] for line in out.splitlines() if line.startswith("[")]
    assert engines == sorted(engines)
    session("%px --group-by order --no-fold print(1)")
    assert session.error is None
    session("%px --group-by type print(1)")
    assert session.error == "UsageError"
    assert "engine or order" in session.err


def test_push_pull_scatter_gather(session):
    session("x = 3; data = list(range(7))")
    session("%push x")
    session("%push -t 0,1 x as y")
    session("%pull -t 0 y as back")
    session("%pull x")
    session("x, back")
    assert session.value == "([3, 3, 3], 3)"
    session("%scatter data as piece")
    session("%px piece = [2 * p for p in piece]")
    session("%gather piece")
    session("piece")
    assert session.value == "[0, 2, 4, 6, 8, 10, 12]"
    session("%scatter x")
    session("%pull --gather piece as again")
    session("again == piece")
    assert session.value == "True"


def test_map(session):
    session("f = lambda v: v + 1")
    session("r = %map f range(4)")
    session("r")
    assert session.value == "[1, 2, 3, 4]"
    session("%map -o s (lambda v: v * (1 + 1)) range(3)")
    session("s")
    assert session.value == "[0, 2, 4]"
    session("%%map -o t range(4)\nx ** 2")
    session("t")
    assert session.value == "[0, 1, 4, 9]"
    session("%%map -o t range(3)\ndef g(x):\n    return -x")
    session("t")
    assert session.value == "[0, -1, -2]"


def test_map_learns_how_large_its_chunks_should_be(session):
    session("quick = %map (lambda v: v) range(20_000)")
    session("len(get_ipython().magics_manager.registry['ParallelMagics'].rc.get_result().tasks()), sum(quick)")
    tasks, total = ast.literal_eval(session.value)
    assert total == 199990000
    assert tasks < 3 * 32, "as many as where nothing is learnt"
    session("def endless():\n    yield from range(3)")
    session("some = %map abs endless()")
    session("some")
    assert session.value == "[0, 1, 2]"
    session("%map abs 5")
    assert "not a sequence" in session.err


def test_ctrl_c_in_a_map_ends_it_before_the_prompt_is_back(session):
    session(
        "import os, signal, threading\n"
        "def begins(x):\n    open(x, 'w').close()\n    while True: pass\n"
        "import tempfile, time\nfolder = tempfile.mkdtemp()\n"
        "paths = [os.path.join(folder, str(n)) for n in range(3)]\n"
        "def interrupt():\n"
        "    while not all(map(os.path.exists, paths)): time.sleep(0.01)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=interrupt).start()\n"
        "%map begins paths"
    )
    assert session.error == "KeyboardInterrupt"
    session("get_ipython().magics_manager.registry['ParallelMagics'].rc.get_result().done()")
    assert session.value == "True"
    assert session("%px 1").count("Out[") == 3


def test_ctrl_c_in_a_call_shows_the_users_own_lines(session, tmp_path):
    begun = tmp_path / "begun"
    session(
        "import signal, threading\n"
        "from ipkernel_ext import RemoteController\nrc = RemoteController()\n"
        f"def begins():\n    open({str(begun)!r}, 'w').close()\n    while True: pass\n"
        "def interrupt():\n"
        f"    while not os.path.exists({str(begun)!r}): time.sleep(0.01)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "def call():\n    return rc.apply(begins)\n"
        "threading.Thread(target=interrupt).start()\n"
        "call()"
    )
    assert session.error == "KeyboardInterrupt"
    shown = session.out + session.err
    assert "in call" in shown and shown.rstrip().endswith("KeyboardInterrupt")
    assert "remote.py" not in shown and "threading.py" not in shown
    session("rc.close()")


def test_a_whole_cell_as_scatter_compute_gather(session):
    session("data = list(range(5))")
    session("%%px --scatter data --gather squares\nsquares = [d * d for d in data]")
    session("squares")
    assert session.value == "[0, 1, 4, 9, 16]"
    session("%%px --push data --pull total --local\ntotal = sum(data)")
    session("total")
    assert session.value == "10", "run here last"


def test_without_waiting(session):
    session("%px -a -o result print('later'); 5")
    session("result.get().values")
    assert session.value == "[5, 5, 5]"
    session("result.stdout")
    assert session.value == "['later\\n', 'later\\n', 'later\\n']"


def test_an_error_of_all_engines_is_shown_once_and_raised(session):
    out = session("%px 1 / 0")
    assert session.error == "CompositeError"
    assert out.count("ZeroDivisionError: division by zero") == 2, "the traceback, and the count"
    assert "[0-2] 3 engines" in out
    assert "3 × ZeroDivisionError" in out
    out = session("%px x ===")
    assert out.count("x ===") == 1
    session("%px -t 1 1 / 0")
    assert session.error == "ZeroDivisionError"


def test_an_exit_is_told_as_what_it_is(session):
    session("%px -t 0 raise SystemExit(3)")
    assert session.error == "RemoteExit"
    told = session.out + session.err
    assert "RemoteExit: engine code raised SystemExit(3); the engine lives on with its namespace" in told


def test_the_last_error_can_be_shown_again(session):
    for cell in "%px 1 / 0", "%px -t 1 1 / 0", "%px x ===", "%px -t 1 x ===":
        session(cell)
        first = session.out + session.err
        session("%tb")
        assert session.error is None
        assert session.out + session.err == first
    session("1 / 0")
    assert "1 / 0" in session("%tb")


def test_an_error_of_a_call_in_a_cell_names_the_call_too(session):
    session("%px 1")
    session("from ipkernel_ext import RemoteController\nrc = RemoteController()\ndef mine():\n    rc.execute('1 / 0')")
    out = session("mine()")
    assert session.error == "CompositeError"
    assert out.startswith("Traceback")
    assert "rc.execute('1 / 0')" in out
    assert "in execute" not in out
    assert "[0-2] 3 engines:" in out
    out = session("rc[1].execute('1 / 0')")
    assert session.error == "ZeroDivisionError"
    assert out.splitlines()[:3] == [
        "Traceback (most recent call last):",
        out.splitlines()[1],
        "    rc[1].execute('1 / 0')",
    ]
    assert out.count("ZeroDivisionError: division by zero") == 1
    assert "on engine 1 of host" in out
    assert "in execute" not in out
    out = session("rc[9]")
    assert session.error == "NoSuchEngine"
    assert "views.py" not in out
    session("rc.close()")


def test_the_source_of_functions_typed_in_cells_is_shown(session):
    session("def f(x):\n    return 1 / x")
    out = session("%map f [1, 0]")
    assert session.error == "ZeroDivisionError"
    assert "return 1 / x" in out
    assert "at item 1 of the map" in out


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("1 / x", "line 1, in <lambda>\n    1 / x"),
        ("\n  # inverse\n  1 / \\\n    x  # of x", "line 3, in <lambda>\n    1 / "),
        ("def g(x):\n    return 1 / x", "line 2, in g\n    return 1 / x"),
    ],
)
def test_the_source_of_a_cell_that_is_mapped_is_shown(session, cell, said):
    out = session(f"%%map -o y [1, 0]\n{cell}")
    assert session.error == "ZeroDivisionError"
    assert said in out


def test_errors_have_the_colours_of_the_shell(session):
    assert "\x1b[" not in session("%px 1 / 0")
    session("get_ipython().colors = 'linux'")
    out = session("%px 1 / 0")
    session("get_ipython().colors = 'nocolor'")
    assert "\x1b[" in out
    assert "[0-2] 3 engines:" in out


@pytest.mark.parametrize(
    ("cell", "error", "says"),
    [
        ("%px -t 9 1", "NoSuchEngine", "0-2"),
        ("%px --target 0 1", "UsageError", "--targets"),
        ("%px", "UsageError", "no code"),
        ("%push nothing_here", "UsageError", "nothing_here"),
        ("%pull nothing_here", "CompositeError", "nothing_here"),
        ("%map f", "UsageError", "F DATA"),
        ("%map x range(3)", "UsageError", "not a function"),
        ("%cluster dance", "UsageError", "start"),
        ("%map nope [1]", "UsageError", "nope"),
        ("%map abs 5", "UsageError", "not a sequence"),
        ("%%map -o y range(4)\nimport math\nmath.sqrt(nobody)", "UsageError", "nor one function: NameError: name"),
        ("%%map -o y range(4)\nx +", "UsageError", "nor one function: SyntaxError"),
        ("%px -t x 1", "UsageError", "write all"),
        ("%px -t 0, 1 x", "UsageError", "write -t 0,1;"),
        ("%px -t 0, 1,  2 x", "UsageError", "write -t 0,1,2;"),
        ("%engines 3", "UsageError", "it shows all engines"),
        ("%why 9", "NoSuchEngine", "the engines are 0-2"),
        ("%why nobody", "UsageError", "no local variable"),
        ("%why x", "UsageError", "an engine, a task or a result"),
        ("%why nobody:3", "LookupError", "nothing is known of task nobody:3"),
        ("%scatter x", "TypeError", "cannot scatter"),
        ("%peek", "UsageError", "write: %peek NAME"),
        ("%peek -t 1 nothing_here", "NameNotFound", "no variable 'nothing_here' on engine 1"),
        ("%where 3", "UsageError", "-t SPEC"),
        ("%follow me", "UsageError", "%follow on"),
        ("%pxdebug x", "UsageError", "an engine's id"),
        ("%pxdebug 9", "NoSuchEngine", "0-2"),
        ("%pxtime", "UsageError", "no code"),
        ("%pxtime --push nothing_here 1", "UsageError", "nothing_here"),
        ("%pxprofile", "UsageError", "%pxprofile CODE"),
        ("%pxprofile --seconds never", "UsageError", "positive number of seconds"),
    ],
)
def test_wrong_input_says_what_is_right(session, cell, error, says):
    session("x = 3")
    session(cell)
    assert session.error == error
    assert says in session.out + session.err


def test_what_this_package_refuses_is_told_without_its_own_frames(session):
    session("x = 3")
    session("%scatter x")
    assert (
        session.out + session.err
    ).strip() == "TypeError: cannot scatter an int: it has no length; make a list of it first"
    session("from ipkernel_ext import RemoteController\nRemoteController('http://x')")
    told = (session.out + session.err).strip().split("\n")
    assert session.error == "ValueError"
    assert len(told) in (4, 5)  # with a line of carets, or without
    assert told[2].endswith("RemoteController('http://x')")
    assert "write tcp://HOST:PORT" in told[-1]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%pxreset 0", "%pxreset -t 0"),
        ("%interrupt --kill 0", "%interrupt -t 0"),
        ("%interrupt foo", "takes no 'foo'"),
        ("%pxwhos 0", "%pxwhos -t 0"),
        ("%cluster stop foo", "takes no 'foo'"),
        ("%cluster start junk", "takes no 'junk'"),
        ("%cluster restart 0", "takes no '0'"),
        ("%cluster status 0", "takes no '0'"),
        ("%cluster start -n 0", "positive number"),
        ("%cluster start -n x", "positive number"),
        ("%cluster scale -1", "a number of engines from 0 on, not '-1'"),
        ("%cluster scale", "a number of engines from 0 on, not ''"),
    ],
)
def test_what_a_magic_does_not_take_it_does_not_ignore(session, cell, says):
    session("%px kept = 1")
    session(cell)
    assert session.error == "UsageError"
    assert says in session.out + session.err
    session("%px kept")
    assert session.error is None


def test_engines_and_cluster_status(session):
    for cell in ("%engines", "%cluster status"):
        out = session(cell)
        head, *rows = out.splitlines()
        assert head.split() == ["id", "host", "pid", "state", "running", "queued", "done", "cpu", "memory"]
        assert [row.split()[3] for row in rows] == ["ready"] * 3
        assert all(row.endswith("MB") for row in rows)
        assert "views.py" not in out


def test_engines_are_looked_into_while_they_are_busy(session):
    session("%px -t all -a -o held import time; step = 5; time.sleep(600)")
    session("while not all(e.task for e in get_ipython().magics_manager.registry['ParallelMagics'].rc.engines): pass")
    try:
        assert session("%peek -t all step") == "[0-2] 5\n"
        assert session("%peek -t 1 step") == "[1] 5\n"
        out = session("%where -t all")
        assert out.startswith("[0-2]\n") and "import time; step = 5; time.sleep(600)" in out
    finally:
        session("held.cancel(); held.wait(20)")
    session("%px -t 0 own = {'a': 1}")
    session("%peek -t all own")
    assert session.error == "CompositeError"
    assert session.out.startswith("[0] {'a': 1}\n") and "2 × NameNotFound" in session.out


def test_where_the_time_of_a_cell_went(session):
    session("%px -t all import os, time")
    session("data = list(range(6))")
    session("%%pxtime -t all --scatter data --gather total\ntime.sleep(0.2 * (data[0] == 0)); total = [sum(data)]")
    assert session.error is None
    head, *rows, cell, balance = session.out.splitlines()
    assert head.split() == ["engine", "in", "code", "computing", "waiting", "moving", "data", "idle"]
    assert [row.split()[0] for row in rows] == ["0", "1", "2"]
    assert cell.startswith("the cell took ")
    assert balance.startswith("load imbalance: engine 0 took ")
    session("total")
    assert session.value == "[1, 5, 9]"
    session("%pxtime -t 0 print('hello'); 1 / 0")
    assert session.error == "ZeroDivisionError"
    assert "[0] hello\n" in session.out and "in code" in session.out


def test_a_profile_of_a_cell(session, tmp_path):
    page = tmp_path / "page.html"
    session(f"%%pxprofile -t all -o kept --html {page}\ndef busy():\n    t = 0\n    while t < 3e6: t += 1\nbusy()")
    assert session.error is None
    assert session.out.startswith("3 engines: ")
    assert "busy (<ipython-input-" in session.out
    assert f"written: {page}" in session.out
    assert page.read_text().startswith("<!DOCTYPE html>")
    session("print(kept.stop() is kept)")
    assert session.out.endswith("True\n")
    session("%pxprofile -t all --seconds 0.05")
    assert session.error is None and "between tasks" in session.out


def test_following_other_clients(session):
    assert session("%follow on") == "other clients are followed; %follow off ends that\n"
    cell = (
        "from ipkernel_ext import RemoteController\n"
        "with RemoteController() as other: other[0].execute('print(6 * 7)')\n"
        "import time\n"
        "until = time.monotonic() + 20\n"
        "import sys\n"
        "while ' [0] 42' not in sys.stdout.getvalue() and time.monotonic() < until: pass"
    )
    session(cell)
    assert " [0] >>> print(6 * 7)\n" in session.out and " [0] 42\n" in session.out
    assert session("%follow") == "other clients are not followed any more\n"


def test_why_says_why_something_does_not_go_on(session):
    assert session("%why") == "nothing waits\n"
    assert session("%why 1") == "engine 1 is ready and has nothing to do\n"
    session("%px -t 1 -a -o held import time; time.sleep(600)")
    session("while not get_ipython().magics_manager.registry['ParallelMagics'].rc.engines[1].task: pass")
    assert "(import time; time.sleep(600)) has been running on engine 1 for" in session("%why")
    assert "busy" in session("%engines").splitlines()[2]
    assert session("%why held").startswith("task ")
    session("held.cancel(); held.wait(20)")
    assert "was cancelled" in session("%why held")
    session("print(held.task_ids[0]); get_ipython().run_line_magic('why', held.task_ids[0])")
    assert "was cancelled" in session.out


@pytest.mark.parametrize("magic", ["px", "push", "pull", "map", "scatter", "gather", "engines", "cluster"])
def test_help_texts(session, magic):
    session(f"get_ipython().find_magic('{magic}').__doc__")
    assert f"%{magic}" in session.value or magic == "engines"


def test_autopx_sends_every_cell_until_it_is_said_again(session):
    session("%px counted = 0")
    assert "cells run on engine 1;" in session("%autopx -t 1")
    assert session("counted = 5\nprint(counted)") == "[1] 5\n"
    session("%timeit -n1 -r1 counted")
    assert "[1]" in session.out
    session("%pull counted")
    session("raise ValueError('there')")
    assert session.error == "ValueError"
    assert "cells run here again" in session("%autopx")
    session("counted")
    assert session.value == "[0, 5, 0]"
    session("%autopx code")
    assert "next cell" in session.err


def test_result_shows_again_what_there_was(session):
    first = session("%px -t 0:2 print('again'); 6*7")
    assert sorted(session("%result").splitlines()) == sorted(first.splitlines())
    session("%px -a -o later 1+1")
    assert "Out[2:" in session("%result")
    session("%map abs [-1, -2]")
    session("%result")
    assert session.value == "[1, 2]"
    session("%px 1/0")
    session("%result")
    assert session.error == "CompositeError"
    session("%result 100000")
    assert "there is no call 100000" in session.err


def test_pxwhos_marks_what_differs(session):
    session("%pxreset")
    session("%px import os; same = [1, 2]; other = os.getpid(); text = 'a'")
    session("%px -t 0 only = 1.5; text = {}")
    lines = session("%pxwhos").splitlines()
    table = [line.split() for line in lines]
    assert table[0] == ["name", "type", "shape", "size", "engines"]
    assert table[4][:3] == ["same", "list", "2"]
    assert table[4][-1] == "0-2"
    by_name = {tuple(row[:3]): row for row in table[1:]}
    assert ("≠", "only", "float") in by_name
    assert ("≠", "other", "int") in by_name
    assert by_name["≠", "text", "dict"][-1] == "0"
    assert by_name["≠", "text", "str"][-1] == "1-2"
    assert "only" in session("%pxwhos -t 0")
    session("%pxwhos -t all")
    assert session.error is None


def test_values_that_are_too_large_are_refused(session):
    session("%px x = b'x' * 20_000")
    session("%config ParallelMagics.max_result = 10_000")
    session("%pull -t 0 x as large")
    assert session.error == "ResultTooLarge"
    session("%config ParallelMagics.max_result = 100_000")
    session("%pull -t 0 x as large")
    session("len(large)")
    assert session.value == "20000"


def test_pxseed_gives_the_same_numbers_again(session):
    session("import random")
    for name in ("first", "again"):
        session("%pxseed 7")
        session("%px import random; number = random.random()")
        session("%pull number")
        session("items = %map (lambda _: random.random()) range(6)")
        session(f"{name} = [*number, *items]")
    session("first == again, len(set(first))")
    assert session.value == "(True, 9)"
    session("%pxseed soon")
    assert "an integer from 0 on" in session.err


def test_engines_env_compares_packages(session):
    session("%engines --env")
    assert session.out.startswith("engines 0-2 of host ")
    assert ": as here are Python 3." in session.out


def test_pxautoreload_follows_edits_before_each_cell(session, tmp_path):
    module = tmp_path / "followed.py"
    module.write_text("def answer():\n    return 1\n")
    session("%pxautoreload")
    session(
        f"import os; rc = get_ipython().magics_manager.registry['ParallelMagics'].rc; rc.sync_modules({str(module)!r})"
    )
    session("%px from followed import answer; answer()")
    assert session.error is None
    session(f"""with open({str(module)!r}, "w") as file: file.write("def answer():\\n    return 22\\n")""")
    session("a = %px answer()")
    session("a")
    assert session.value == "[22, 22, 22]"
    module.write_text("def answer(:\n    return 333\n")
    session("a = %px answer()")
    assert "followed.py" in session.err and "line 1" in session.err
    session("a")
    assert session.value == "[22, 22, 22]"
    session("%pxautoreload off")
    module.write_text("def answer():\n    return 4444\n")
    session("a = %px answer()")
    session("a")
    assert session.value == "[22, 22, 22]"
    session("%pxautoreload now")
    session("a = %px answer()")
    session("a")
    assert session.value == "[4444, 4444, 4444]"
    session("%pxautoreload maybe")
    assert "on, now or off, not 'maybe'" in session.err


def test_pxconfig_is_for_all_that_follows(session):
    assert session("%pxconfig") == "targets all, block\n"
    assert session("%pxconfig -t 1 --noblock") == "targets 1, noblock\n"
    session("%px -o alone 'x'")
    session("alone.get()")
    assert session.value.startswith("Out[1:")
    assert session("%px --block 'y'").startswith("Out[1:")
    assert session("%pxconfig -t 0, --block") == "targets '0,', block\n"
    assert session("%pxconfig -t all --block") == "targets all, block\n"
    session("%px --targets 0,, x")
    assert "targets '0,,' are not understood: write all, 0, 0,2," in session.err
    session("%pxconfig -t nonsense")
    assert "not understood" in session.err


def test_a_cell_that_takes_too_long_is_interrupted(session):
    session("%px --timeout 0.3 while True: pass")
    assert session.error == "TaskTimeout"
    assert "engines 0-2: it was interrupted" in session.out
    assert session("%px --timeout 60 'quick'").count("quick") == 3
    session("%px --timeout soon 1")
    assert "positive number" in session.err


STUBBORN = """
import time
until = time.monotonic() + SECONDS
while time.monotonic() < until:
    try:
        time.sleep(0.05)
    except KeyboardInterrupt:
        pass
"""


def test_it_is_said_what_does_not_obey_ctrl_c(session):
    timer = threading.Timer(1.0, session.process.send_signal, [signal.SIGINT])
    timer.start()
    out = session("%%px -t 0,1" + STUBBORN.replace("SECONDS", "4"))
    timer.join()
    assert session.error == "KeyboardInterrupt"
    assert "engines 0-1 were asked to stop and have not yet; Ctrl-C again gives the prompt back" in out


def test_interrupt_says_what_does_not_obey(session):
    session("%%px -a -t 0 -o stubborn" + STUBBORN.replace("SECONDS", "600"))
    session("%px -a -t 1 -o obeys import time; time.sleep(600)")
    session("while any(not e.task for e in get_ipython().magics_manager.registry['ParallelMagics'].rc.engines[:2]): 0")
    out = session("%interrupt")
    assert "engines 1-2: what ran has ended\nengine 0 still runs; %where says where" in out
    session("%interrupt --kill -t 0")
    session("obeys.wait(20), stubborn.wait(20)")
    assert session.value == "(True, True)"
    assert "engine 0: what ran has ended" in session("%interrupt -t 0")


def test_interrupt_kill_begins_anew(session):
    session("%px -t 2 lost = 1")
    session("%interrupt --kill -t 2")
    session("%px -t 2 'lost' in globals()")
    assert "False" in session.out


@pytest.mark.parametrize(
    ("line", "among"),
    [
        ("%px --ti", "--timeout"),
        ("%px -t ", "all"),
        ("%px --targets ho", "host:"),
        ("%pull comp", "completed"),
        ("%px comp", "completed"),
        ("%pxconfig --no", "--noblock"),
    ],
)
def test_tab_completes_options_targets_and_names_of_the_engines(session, line, among):
    session("%px completed = 1")
    session(f"get_ipython().complete(None, {line!r}, {len(line)})[1]")
    assert among in session.value


def test_tab_completes_names_of_the_engines_in_a_cell(session):
    session("%px completed = 1")
    cell = "%%px\nx = 1\nprint(compl"
    session(
        "from IPython.core.completer import provisionalcompleter\n"
        f"with provisionalcompleter(): found = list(get_ipython().Completer.completions({cell!r}, {len(cell)}))\n"
        "[(one.start, one.end, one.text) for one in found]"
    )
    assert f"({len(cell) - 5}, {len(cell)}, 'completed')" in session.value


def test_a_second_start_keeps_what_runs(session):
    session("%px kept = 1")
    assert "runs already: connected to its 3 engines" in session("%cluster start -n 2")
    session("%px kept")
    assert session.error is None


def test_restart_reset_and_stop(session):
    session("%px kept = 1")
    session("%pxreset")
    session("%px kept")
    assert session.error == "CompositeError"
    session("%px kept = 1")
    assert "0-2" in session("%cluster restart")
    session("%px 1")
    assert session.error is None
    assert "ended" in session("%cluster stop")
    assert "started 2 engines" in session("%cluster start -n 2")
    session("%unload_ext ipkernel_ext")
    assert session.error is None, session.out + session.err
    session("hasattr(get_ipython().showtraceback, '__wrapped__')")
    assert session.value == "False"
    session("%px 1")
    assert session.error == "UsageError"


def test_the_profile_of_a_cluster_is_configured_and_looking_makes_none(ipython_dir):
    (ipython_dir / "profile_mpi").mkdir(parents=True)
    (ipython_dir / "profile_mpi" / "ipcluster_config.py").write_text("c.ParallelCluster.n = 1\n")
    session = Session()
    try:
        session("%cluster connect --profile mip")
        assert session.error == "NotConnected"
        assert "Did you mean 'mpi'" in session.out
        assert not (ipython_dir / "profile_mip").exists()
        assert "started 1 engine on" in session("%cluster start --profile mpi")
        assert "the cluster has ended" in session("%cluster stop")
        assert "profile 'mpj' is new" in session("%cluster start -n 1 --profile mpj")
    finally:
        session.close()


@pytest.fixture
def own(ipython_dir):
    """A session of its own, with a cluster of its own."""
    session = Session()
    try:
        session("%cluster start -n 2")
        yield session
    finally:
        session.close()


def test_looking_at_a_cluster_that_has_ended_starts_none(own):
    own("%px 1")
    own("%cluster stop")
    for magic in ("%why", "%engines", "%result", "%pxwhos", "%where", "%peek x", "%interrupt", "%cluster restart"):
        own(magic)
        assert own.error == "NotConnected", magic
        assert "no cluster runs; %cluster start, or %px, starts one" in own.out + own.err
    assert "started" in own("%px 1")


def test_a_session_whose_cluster_was_ended_from_elsewhere_says_so(own):
    own("rc = %cluster connect")
    stop_profile("default")
    own("while rc.ended is None: pass")
    other = Cluster(1, profile="default")
    other.start()
    try:
        with other.connect() as client:
            other.wait_ready(client, 20)
        out = own("%px 1")
        assert own.error is None, own.err
        assert "the cluster this session used has ended; another one runs: connected to its 1 engine\n" in out
        assert "has ended" not in own("%px 1")
        own("rc = %cluster connect")
    finally:
        other.stop()
    own("while rc.ended is None: pass")
    out = own("%px 1")
    assert "the cluster this session used has ended; another one is started\nstarted " in out
    own("rc = %cluster connect\nrc.close()")
    assert "has ended" not in own("%px 1")


CONNECTING = {
    "%cluster connect": None,
    "%cluster connect --profile default": None,
    "%cluster connect /typo.json": "NotConnected",
    "%cluster connect --profile nobody": "NotConnected",
    "%cluster connect --profile we/ird": "ValueError",
    "%cluster start --profile we/ird": "ValueError",
}


def test_connecting_ends_no_cluster_that_is_still_needed(own):
    own("%px keepme = 1")
    for number, (line, error) in enumerate(CONNECTING.items(), 2):
        own(line)
        assert own.error == error, own.out + own.err
        assert own("%px keepme") == f"Out[0:{number}]: 1\nOut[1:{number}]: 1\n"
        own("%cluster status")
        assert own.error is None
    assert "the cluster has ended" in own("%cluster stop")


def test_a_session_that_connects_to_another_cluster_lets_go_of_its_own(own):
    with launch(n=1) as rc:
        place = rc.cluster.launched.place.connection("client")
        own("from ipkernel_ext import RemoteController; before = RemoteController()")
        own(f"%cluster connect {place}")
        assert own.value == "<RemoteController: 1 engine (0)>"
        assert own("%px 1") == "Out[0:1]: 1\n"
        own("before.execute('1')")
        assert own.error == "NotConnected"


PROFILE = """
%load_ext ipkernel_ext
%cluster start -n 1
from ipkernel_ext import RemoteController
from ipkernel_ext.errors import NotConnected
found = []
for profile in ("t", None):
    try:
        found.append(RemoteController(profile=profile).ids)
    except NotConnected:
        found.append(None)
print(found)
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["--profile=t"], "[[0], None]"), ([], "[None, [0]]"), (["--profile-dir=elsewhere"], "[None, [0]]")],
)
def test_the_cluster_is_that_of_the_sessions_profile(options, expected, tmp_path):
    command = [sys.executable, "-m", "IPython", *options, "--no-banner", "--colors=nocolor", "-c", PROFILE]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert expected in ran.stdout, ran.stdout + ran.stderr


def test_activate_has_the_magics_use_a_client():
    with contextlib.closing(Session()) as session:
        session("%cluster start -n 2")
        session("%px mine = 'of the session'")
        session("from ipkernel_ext import launch, RemoteController")
        session("given = launch(n=1, start_method='spawn'); given.activate(); given.activate()")
        assert session.error is None
        session("%px mine = 'given'")
        session("x = given.pull('mine'), given.ids")
        assert session("print(x)") == "(['given'], [0])\n"
        session("%px -t 1 1")
        assert session.error == "NoSuchEngine"
        session("given.close()")
        session("%pull mine")
        assert session("print(mine)") == "['of the session', 'of the session']\n"
        session("mine = RemoteController(); mine.activate(); mine.close()")
        session("%pull -t 0 mine")
        assert session("print(mine)") == "of the session\n"


def test_activate_of_a_view_goes_with_its_engines():
    with contextlib.closing(Session()) as session:
        session("%cluster start -n 3")
        session("%pxconfig -t 0:2")
        session("from ipkernel_ext import RemoteController; rc = RemoteController()")
        for view, value in (
            ("rc[1]", "1"),
            ("rc[1:2]", "[1]"),
            ("rc[[0, 2]]", "[0, 2]"),
            ("rc['host:' + rc.engines[0].host]", "[0, 1, 2]"),
            ("rc", "[0, 1, 2]"),
        ):
            session("[rc[n].push({'who': n}) for n in rc.ids]")
            session(f"({view}).activate()")
            session("%pull who")
            session("who")
            assert (session.error, session.value) == (None, value)
        session("rc[2].activate(); rc.close()")
        session("%px 'of the session'")
        assert sorted(line[:5] for line in session.out.splitlines()) == ["Out[0", "Out[1"]
        assert session("%pxconfig") == "targets 0:2, block\n"


def test_activate_outside_ipython():
    code = "from ipkernel_ext.testing import InProcessCluster; InProcessCluster(1).client().activate()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "RuntimeError: activate() is for the magics of IPython and Jupyter, and this is no such" in done.stderr
