"""What user code can do to an engine, and what the engine makes of it."""

import signal
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

    def work(self, work, frames=(), function=None, task=1):
        self.output.begin(TASK, 1)
        with self.shell.being_global():
            outcome = self.runner.run(work, frames, function, task)
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
    before = signal.getsignal(signal.SIGINT)
    yield Bench()
    signal.signal(signal.SIGINT, before)


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
    items = payload.dumps([(1,), (2,), (0,), (3,)])
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
