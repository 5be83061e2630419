"""What user code can do to an engine, and what the engine makes of it."""

import gc
import signal
import sys
import threading

import pytest

from ipkernel_ext import payload
from ipkernel_ext.core import messages as m
from ipkernel_ext.execution.interrupt import Interrupter
from ipkernel_ext.execution.output import OutputBuffer
from ipkernel_ext.execution.runner import Runner
from ipkernel_ext.execution.shell import KEPT, EngineShell

TASK = m.TaskId("client", 1)


class Bench:
    """An engine without its connections."""

    def __init__(self):
        self.output = OutputBuffer()
        self.shell = EngineShell(self.output)
        self.interrupter = Interrupter()
        self.runner = Runner(self.shell, self.output, self.interrupter)

    def work(self, work, frames=(), function=None, task=1, timer=None, max_result=0):
        self.output.begin(TASK, 1)
        with self.shell.being_global():
            outcome = self.runner.run(work, frames, function, task, timer, max_result)
        self.pieces, self.count = self.output.end()
        return outcome

    def execute(self, code, filename=""):
        return self.work(m.Execute(code, filename))

    def call(self, f, *args, **kwargs):
        digest, function = payload.dumps_function(f)
        outcome = self.work(m.Apply(digest), payload.dumps((args, kwargs)), function)
        return outcome.failure or payload.loads(outcome.frames)

    def text(self, name="stdout"):
        return "".join(p.text for p in self.pieces if isinstance(p, m.Stream) and p.name == name)

    @property
    def names(self):
        return self.shell.user_ns


@pytest.fixture
def bench():
    return Bench()


def test_the_namespace_stays(bench):
    assert bench.execute("a = 1").failure is None
    outcome = bench.execute("a + 1")
    assert outcome.has_value
    assert bench.pieces[0].bundle == {"text/plain": "2"}
    assert bench.pieces[0].execution == outcome.execution == 2
    assert payload.loads(bench.work(m.Keys()).frames) == ["a"]


def test_magics_shell_commands_and_await(bench):
    bench.execute("!echo from a child")
    assert bench.text() == "from a child\n"
    bench.execute("%time 3")
    assert "Wall time" in bench.text()
    assert bench.execute("import asyncio\nawait asyncio.sleep(0)").failure is None
    bench.execute("from IPython.display import HTML, display; display(HTML('<b>'))")
    assert bench.pieces[0].bundle["text/html"] == "<b>"


def test_both_streams_in_order(bench):
    bench.execute("import sys\nprint('a'); print('b', file=sys.stderr); print('c')")
    assert [(p.name, p.text) for p in bench.pieces] == [("stdout", "a\n"), ("stderr", "b\n"), ("stdout", "c\n")]
    assert [p.sequence for p in bench.pieces] == [0, 1, 2]
    assert bench.count == 3


def test_an_exception_keeps_its_type_and_shows_its_source(bench):
    failure = bench.execute("def f(x):\n    return 1 / x\nf(0)").failure
    assert failure.kind == "user"
    assert failure.type_name == "ZeroDivisionError"
    assert "return 1 / x" in failure.traceback
    assert "ipkernel_ext" not in failure.traceback
    assert "IPython/core" not in failure.traceback


@pytest.mark.fault("engine code calls exit")
@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("x ===", "user", "invalid syntax"),
        ("import sys; sys.exit(3)", "RemoteExit", "3"),
        ("exit()", "RemoteExit", "lives on"),
        ("quit", "RemoteExit", "lives on"),
        ("raise KeyboardInterrupt", "TaskInterrupted", "interrupted"),
        ("raise GeneratorExit('g')", "RemoteError", "g"),
        ("class Mine(BaseException): pass\nraise Mine('m')", "RemoteError", "m"),
        ("input('? ')", "user", "no keyboard"),
        ("%nosuch", "user", "nosuch"),
        ("class Bad(Exception):\n    def __str__(self): raise OSError\nraise Bad", "user", ""),
    ],
)
def test_what_ends_a_cell_is_a_failure_and_the_engine_lives_on(bench, code, kind, says):
    failure = bench.execute(code).failure
    assert (failure.kind, says in failure.message) == (kind, True)
    assert bench.execute("1").failure is None


def test_the_file_of_run_is_named(bench):
    outcome = bench.execute("__file__", "/some/where.py")
    assert outcome.failure is None
    assert "/some/where.py" in bench.pieces[0].bundle["text/plain"]


def test_an_hour_of_cells_keeps_only_the_last_values(bench):
    for i in range(3 * KEPT):
        bench.execute(f"{i}")
    size = len(bench.names)
    for i in range(3 * KEPT):
        bench.execute(f"{i}")
    assert len(bench.names) == size
    assert len(bench.names["_oh"]) == KEPT
    assert bench.work(m.Value(6 * KEPT)).failure is None
    assert bench.work(m.Value(3)).failure.kind == "ResultExpired"


def test_pull_and_delete_name_close_names_and_are_all_or_nothing(bench):
    bench.execute("velocity = 1; b = 2")
    failure = bench.work(m.Pull(["b", "velocty"])).failure
    assert failure.kind == "NameNotFound"
    assert "'velocity'" in failure.message
    assert bench.work(m.Delete(["b", "nope"])).failure.kind == "NameNotFound"
    assert "b" in bench.names
    assert bench.work(m.Delete(["b"])).failure is None
    assert "b" not in bench.names


def test_of_a_value_that_is_too_large_nothing_is_sent(bench):
    bench.execute("x = b'x' * 10_000")
    digest, function = payload.dumps_function(bytes)
    call = m.Apply(digest), payload.dumps_call((10_000,), {}), function
    chunk = m.Map(digest, 0), payload.dumps([[1, 10_000]]), function
    for work in ((m.Pull(["x"]),), call, chunk):
        outcome = bench.work(*work, max_result=9_000)
        assert outcome.failure.kind == "ResultTooLarge"
        assert list(outcome.frames) == []
        assert bench.work(*work, max_result=11_000).failure is None
        assert bench.work(*work).failure is None
    assert [len(item) for item in bench.names["_refused"]] == [1, 10_000]


def test_push_is_all_or_nothing(bench):
    good = payload.dumps({"a": 1})
    assert bench.work(m.Push(["a"]), good).failure is None
    broken = [b"\x01\x00\x00\x00cno_such_module\nx\n."]
    assert bench.work(m.Push(["b"]), broken).failure.kind == "PayloadError"
    assert "b" not in bench.names


def test_values_that_cannot_be_pickled_are_named(bench):
    bench.execute("import threading; lock = threading.Lock()")
    failure = bench.work(m.Pull(["lock"])).failure
    assert failure.kind == "PayloadError"
    assert "lock" in failure.message


def test_map_names_the_failing_item(bench):
    digest, function = payload.dumps_function(lambda x: 1 / x)
    items = payload.dumps([[1, 2, 0, 3]])
    failure = bench.work(m.Map(digest, 10), items, function).failure
    assert (failure.type_name, failure.item) == ("ZeroDivisionError", 12)
    values = payload.loads(bench.work(m.Map(digest, 10, True), items, function).frames)
    assert values[:2] == [1, 0.5]
    assert isinstance(values[2], ZeroDivisionError)


def test_what_a_function_brings_is_its_own_and_the_rest_is_the_engines(bench):
    bench.execute("here = 1; shared = 'engine'")
    shared = "client"

    def brings():
        return shared

    assert bench.call(brings) == "client"
    assert bench.names["shared"] == "engine"
    # `here` is known only on the engine
    assert bench.call(eval("lambda: here + 1", {})) == 2
    bench.execute("here = 5")
    assert bench.call(eval("lambda: here + 1", {})) == 6
    del bench.names["here"]
    assert bench.call(eval("lambda: here + 1", {})).type_name == "NameError"


def test_global_assigns_in_the_engines_namespace(bench):
    names = {}
    exec("def count():\n    global counter\n    counter = counter + 1\n    return counter", names)
    bench.execute("counter = 10")
    assert [bench.call(names["count"]) for _ in range(3)] == [11, 12, 13]
    assert bench.names["counter"] == 13


def test_refs_are_resolved(bench):
    bench.execute("a = 4")
    assert bench.call(lambda x, y: x + y, payload.Ref("a"), y=payload.Ref("a")) == 8
    assert bench.call(lambda x: x, payload.Ref("nope")).kind == "NameNotFound"


def test_an_interrupt_reaches_only_the_task_it_is_for(bench):
    def interrupt_itself(code, for_task):
        bench.names["interrupt"] = lambda: bench.interrupter.interrupt(for_task)
        return bench.execute(code)

    assert interrupt_itself("interrupt(); import time; time.sleep(20)", 1).failure.kind == "TaskInterrupted"
    assert interrupt_itself("interrupt(); x = 1", "another").failure is None


def test_an_interrupt_that_comes_just_before_the_task_is_not_lost(bench):
    bench.interrupter.install()
    bench.interrupter.interrupt(1)
    assert bench.execute("while True: pass").failure.kind == "TaskInterrupted"


def test_an_import_that_was_interrupted_can_be_done_again(bench, tmp_path, monkeypatch):
    (tmp_path / "halfway").mkdir()
    (tmp_path / "halfway" / "part.py").write_text("__all__ = ['x']\nx = 42")
    whole = "from .part import *\nimport sys\nsys.half()\n__all__ = part.__all__"
    (tmp_path / "halfway" / "__init__.py").write_text(whole)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "half", lambda: bench.interrupter.interrupt(1), raising=False)
    assert bench.execute("import halfway").failure.kind == "TaskInterrupted"
    monkeypatch.setattr(sys, "half", lambda: None)
    try:
        outcome = bench.execute("import halfway; halfway.x")
        assert outcome.failure is None
    finally:
        for name in [name for name in sys.modules if name.startswith("halfway")]:
            del sys.modules[name]


def test_user_code_that_replaces_the_handler_does_not_stop_the_next_interrupt(bench):
    bench.execute("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)")
    timer = threading.Timer(0.05, lambda: bench.interrupter.interrupt(1))
    timer.start()
    assert bench.execute("while True: pass").failure.kind == "TaskInterrupted"
    timer.join()


def test_an_interrupted_child_process_is_ended(bench):
    timer = threading.Timer(0.1, lambda: bench.interrupter.interrupt(1))
    timer.start()
    assert bench.execute("!sleep 30").failure.kind == "TaskInterrupted"
    timer.join()


@pytest.mark.fault("engine code replaces streams, signal handlers, modules or builtins")
@pytest.mark.parametrize(
    "mischief",
    [
        "import sys; sys.stdout = None",
        "import sys; sys.stdout.close()",
        "import builtins; del builtins.print",
        "import sys; sys.modules['pickle'] = None",
    ],
)
def test_mischief_does_not_outlive_its_task(bench, mischief):
    import builtins
    import sys

    kept = builtins.print, sys.modules["pickle"]
    try:
        bench.execute(mischief)
        bench.execute("import sys; sys.stdout.write('still here')")
        assert bench.text() == "still here"
    finally:
        builtins.print, sys.modules["pickle"] = kept


@pytest.mark.fault("an object cannot be pickled, or misbehaves when it is")
def test_results_whose_pickling_misbehaves(bench):
    class Exits:
        def __reduce__(self):
            raise ValueError("no")

    bench.names["Exits"] = Exits
    failure = bench.call(eval("lambda: Exits()", {}))
    assert failure.kind == "PayloadError"


def test_output_of_a_thread_after_its_task_belongs_to_none(bench):
    bench.execute("x = 1")
    bench.output.write("stdout", "late\n")
    (late,) = bench.output.take()
    assert (late.task, late.text) == (None, "late\n")


@pytest.mark.fault("engine code prints without end")
def test_a_flood_of_output_keeps_head_and_tail(bench):
    bench.output = OutputBuffer(max_output=1000)
    bench.output.begin(TASK, 1)
    for i in range(500):
        bench.output.write("stdout", f"line {i}\n")
    pieces, count = bench.output.end()
    text = "".join(piece.text for piece in pieces)
    assert text.startswith("line 0\n")
    assert text.endswith("line 499\n")
    assert "characters left out" in text
    assert len(text) < 1100
    assert count == len(pieces)


def test_pending_output_is_announced_once_until_it_is_taken():
    output = OutputBuffer()
    announced = []
    output.on_pending = lambda: announced.append(1)
    output.begin(TASK, 1)
    for _ in range(10):
        output.write("stdout", "x")
    assert len(announced) == 1
    assert [p.text for p in output.take()] == ["x" * 10]
    output.write("stdout", "y")
    assert len(announced) == 2


@pytest.mark.fault("an object cannot be pickled, or misbehaves when it is")
def test_no_mischief_of_a_result_or_an_error_stops_the_engine(bench, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # what __del__ raises, raises when described
    bench.execute(
        "class Exits:\n"
        "    def __reduce__(self): raise SystemExit(3)\n"
        "class Evil(Exception):\n"
        "    def __reduce__(self): raise KeyboardInterrupt\n"
        "    def __str__(self): raise SystemExit\n"
        "    def __repr__(self): raise MemoryError\n"
        "class Loud:\n"
        "    def __del__(self): raise ValueError\n"
        "    def __repr__(self): raise SystemExit\n"
        "def deep(): return deep()\n"
    )
    assert bench.execute("Loud()").failure.kind in ("RemoteExit", "RemoteError")
    assert bench.work(m.Push(["x"]), payload.dumps({"x": 1})).failure is None
    bench.execute("exits = Exits()")
    assert bench.work(m.Pull(["exits"])).failure.message.startswith("cannot pickle exits: SystemExit: 3")
    assert bench.execute("raise Evil").failure.kind == "RemoteError"
    assert bench.call(eval("lambda: deep()", {})).type_name == "RecursionError"
    assert bench.execute("l = []\nfor i in range(100000): l = [l]").failure is None
    assert bench.work(m.Pull(["l"])).failure.kind == "PayloadError"
    bench.execute("del l")
    assert bench.execute("1").failure is None


@pytest.mark.fault("engine code replaces streams, signal handlers, modules or builtins")
@pytest.mark.parametrize("name", ["print", "len", "isinstance", "str", "BaseException", "__import__"])
def test_a_deleted_builtin_is_put_back(bench, name):
    import builtins

    kept = vars(builtins)[name]
    try:
        bench.execute(f"import builtins; del builtins.{name}; 1/0")
        assert vars(builtins)[name] is kept
        assert bench.execute("1").failure is None
    finally:
        setattr(builtins, name, kept)


def test_an_interrupt_anywhere_leaves_an_outcome(bench):
    """A signal that lands at any line of ours, while user code may run, ends in an outcome."""
    function = payload.dumps_function(lambda x: x)
    args = payload.dumps(((3,), {}))
    bench.interrupter.install()
    for line in range(1, 400):
        seen = 0

        def trace(frame, event, arg, line=line):
            nonlocal seen
            if event == "line" and bench.interrupter._armed is not None:
                seen += 1
                if seen == line:
                    bench.interrupter.interrupt(1)
            return trace

        gc.disable()  # the collector calls hooks of the test runner, where an exception is not raised
        sys.settrace(trace)
        try:
            outcome = bench.runner.run(m.Apply(function[0]), args, function[1], 1)
        finally:
            sys.settrace(None)
            gc.enable()
        assert outcome.failure is None or outcome.failure.kind in ("TaskInterrupted", "PayloadError")
        assert bench.interrupter._armed is None
        if seen < line:
            break
    assert line > 10
    assert bench.call(abs, -1) == 1


def test_an_interrupt_while_the_error_is_asked_for_its_message(bench):
    bench.names["interrupt"] = lambda: bench.interrupter.interrupt(1)
    bench.interrupter.install()
    code = "class Slow(Exception):\n    def __str__(self):\n        interrupt()\n        while True: pass\nraise Slow"
    assert bench.execute(code).failure.type_name in ("Slow", "KeyboardInterrupt")
    assert bench.execute("1").failure is None


def test_exits_and_odd_exceptions_stand_in_the_list_of_a_map(bench):
    import builtins

    bench.names["LOCK"] = threading.Lock()
    source = "def f(x):\n    if x == 1: raise SystemExit(1)\n    if x == 2: raise ValueError(LOCK)\n    return x"
    names = {"__builtins__": builtins, "__name__": "__main__"}
    exec(source, names)
    digest, function = payload.dumps_function(names["f"])
    outcome = bench.work(m.Map(digest, 0, True), payload.dumps([range(3)]), function)
    zero, left, odd = payload.loads(outcome.frames)
    assert zero == 0
    assert (type(left).__name__, type(odd).__name__, odd.type_name) == ("RemoteExit", "RemoteError", "ValueError")
    assert "SystemExit(1)" in str(left)
    failure = bench.work(m.Map(digest, 5), payload.dumps([range(2)]), function).failure
    assert (failure.kind, failure.item) == ("RemoteExit", 6)


def test_the_traceback_of_a_function_names_its_source(bench):
    def fails(x):
        return 1 / x

    failure = bench.call(fails, 0)
    assert failure.traceback.startswith(f'Traceback (most recent call last):\n  File "{__file__}"')
    assert "return 1 / x" in failure.traceback


def test_what_cannot_be_rebuilt_here_is_no_error_of_user_code(bench):
    missing = [b"\x01\x00\x00\x00cno_such_module\nx\n."]
    failure = bench.work(m.Apply("0"), payload.dumps(((), {})), missing).failure
    assert failure.kind == "PayloadError"
    assert "no module 'no_such_module'" in failure.message
    failure = bench.work(m.Apply("1"), missing, payload.dumps_function(abs)[1]).failure
    assert failure.kind == "PayloadError"


def test_errors_of_ours_that_user_code_raises_are_its_own(bench):
    failure = bench.execute(
        "from ipkernel_ext.errors import EngineLost\nraise EngineLost('of another cluster')"
    ).failure
    assert (failure.kind, failure.type_name) == ("user", "EngineLost")


@pytest.mark.parametrize("name", ["a b", "class", "1x", ""])
def test_only_names_are_pushed(bench, name):
    outcome = bench.work(m.Push(["ok", name]), payload.dumps({"ok": 1, name: 2}))
    assert outcome.failure.kind == "PayloadError"
    assert "ok" not in bench.names


def test_a_result_that_stays_on_the_engine_is_copied(bench):
    np = pytest.importorskip("numpy")
    bench.names["a"] = np.zeros(100_000)
    frames = bench.work(m.Pull(["a"])).frames
    bench.execute("a += 1")
    assert payload.loads(frames)[0].sum() == 0
    frames = bench.work(m.Value(bench.execute("a").execution)).frames
    bench.execute("a += 1")
    assert payload.loads(frames).sum() == 100_000


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_delete_is_all_or_nothing_under_an_interrupt(bench):
    class Interrupts:
        def __del__(self):
            bench.interrupter.interrupt(1)

    bench.names.update(one=Interrupts(), two=2)
    assert bench.work(m.Delete(["one", "two", "one"])).failure is None
    assert {"one", "two"} & bench.names.keys() == set()


def test_a_fork_of_user_code_prints_nothing_of_ours(bench):
    code = (
        "import os\npid = os.fork()\nif pid == 0:\n    print('child'); os._exit(0)\nos.waitpid(pid, 0)\nprint('parent')"
    )
    assert bench.execute(code).failure is None
    assert bench.text() == "parent\n"


def test_reset_empties_and_functions_go_on(bench):
    bench.execute("x = 1\n5")
    names = {"__name__": "__main__"}
    exec("def f(): return x", names)
    assert bench.call(names["f"]) == 1
    assert bench.work(m.Reset()).failure is None
    assert payload.loads(bench.work(m.Keys()).frames) == []
    assert bench.call(names["f"]).type_name == "NameError"
    bench.execute("x = 2")
    assert bench.call(names["f"]) == 2


class Expires:
    """A timer by which the time of some items is up, as soon as they begin."""

    def __init__(self, bench, items):
        self.bench, self.items = bench, items
        self.item = -1

    def begin_item(self):
        late = self.expired()
        self.item += 1
        return late

    def expired(self):
        return self.item in self.items

    def interrupt(self, x):
        if self.expired():
            self.bench.interrupter.interrupt(1)
            while True:
                pass
        return x


def test_an_interrupt_because_of_an_items_time_is_for_that_item(bench):
    timer = Expires(bench, {1, 2})
    function = payload.dumps_function(abs)
    bench.runner._functions.function = lambda digest, frames: timer.interrupt
    items = payload.dumps([range(4)])
    values = payload.loads(bench.work(m.Map(function[0], 0, True), items, function[1], timer=timer).frames)
    assert [type(value).__name__ for value in values] == ["int", "TaskTimeout", "TaskTimeout", "int"]
    timer.item = -1
    failure = bench.work(m.Map(function[0], 5), items, function[1], timer=timer).failure
    assert (failure.kind, failure.item) == ("TaskInterrupted", 6)


def test_an_interrupt_that_comes_too_late_does_not_meet_the_next_item(bench):
    bench.interrupter.install()
    bench.interrupter.otherwise = lambda: pytest.fail("taken for somebody else's")
    bench.interrupter.arm(1)
    bench.interrupter.hold()
    bench.interrupter.interrupt(1)
    bench.interrupter.spend()
    bench.interrupter.arm(1)
    signal.raise_signal(signal.SIGINT)
    bench.interrupter.disarm()
