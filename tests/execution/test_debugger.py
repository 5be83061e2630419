"""The debugger of an engine, typed at by a script."""

import bdb
import gc
import sys
import weakref

import pytest

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.effects import Typed
from ipkernel_ext.execution.interrupt import Interrupter
from ipkernel_ext.execution.looking import Lookout
from ipkernel_ext.execution.output import OutputBuffer
from ipkernel_ext.execution.runner import Runner
from ipkernel_ext.execution.shell import EngineShell

DIVIDE = """
def divide(a):
    half = a / 2
    return half / 0

def outer(n):
    twice = n * 2
    return divide(twice)
"""


class Engine:
    """A runner whose user types what a list says."""

    def __init__(self):
        self.output = OutputBuffer()
        self.shell = EngineShell(self.output)
        self.runner = Runner(self.shell, self.output, Interrupter())
        self.runner.ask = self._ask
        self.lines = []
        self.prompts = []
        self.numbers = iter(range(1, 1000))

    def _ask(self, prompt, timeout):
        self.prompts.append(prompt)
        line = self.lines.pop(0)
        return line() if callable(line) else Typed(line, "")

    def run(self, work, *lines):
        """Do work while this is typed; sets ``failure`` and gives what was written."""
        self.lines = list(lines)
        self.output.begin(m.TaskId("ann", next(self.numbers)), 1)
        with self.shell.being_global():
            self.failure = self.runner.run(work, (), (), "task").failure
        pieces, _ = self.output.end()
        assert self.lines == []
        assert sys.gettrace() is None or "coverage" in repr(sys.gettrace())
        return "".join(piece.text for piece in pieces)

    def execute(self, code, *lines):
        return self.run(m.Execute(code), *lines)

    def debug(self, *lines):
        return self.run(m.Debug(), *lines)


@pytest.fixture
def engine():
    engine = Engine()
    engine.execute(DIVIDE)
    return engine


def test_post_mortem_is_in_the_failed_frame_and_shows_user_code_only(engine):
    engine.execute("outer(3)")
    text = engine.debug("p half", "up", "p twice", "up", "up", "w", "q")
    assert engine.failure is None
    assert engine.prompts[0] == "ipdb> "
    assert "3.0\n" in text and "6\n" in text
    assert "Oldest frame" in text
    assert "runner.py" not in text and "interactiveshell.py" not in text
    assert "----> 4     return half / 0" in text


def test_quitting_keeps_the_namespace_and_what_was_changed(engine):
    engine.execute("outer(3)")
    engine.debug("!kept = 5", "up", "up", "!kept = 6", "q")
    assert engine.shell.user_ns["kept"] == 6
    engine.debug("p 1", "q")
    assert engine.failure is None, "as often as one likes"


def test_interact_reads_here_too(engine):
    engine.execute("outer(3)")
    text = engine.debug("interact", "print(half + 1)", lambda: Typed(None, ""), "q")
    assert "4.0\n" in text


def test_input_in_a_command_is_typed_too_and_nowhere_else(engine):
    engine.execute("outer(3)")
    assert "'typed'" in engine.debug("p input('what? ')", "typed", "q")
    assert "what? " in engine.prompts
    engine.execute("input()")
    assert engine.failure.type_name == "EOFError"


def test_nothing_to_debug(engine):
    engine.debug()
    assert engine.failure.kind == "NothingToDebug"
    engine.execute("1 +")
    engine.debug()
    assert engine.failure.kind == "NothingToDebug", "no user code ran"
    engine.execute("outer(3)")
    engine.run(m.Reset())
    engine.debug()
    assert engine.failure.kind == "NothingToDebug"


def test_only_the_last_failure_is_kept(engine):
    engine.execute("class Thing: pass\ndef f():\n    thing = Thing()\n    refs.append(weakref.ref(thing))\n    1 / 0")
    engine.execute("import weakref\nrefs = []")
    engine.execute("f()")
    (ref,) = engine.shell.user_ns["refs"]
    assert isinstance(ref, weakref.ref)
    gc.collect()
    assert ref() is not None
    engine.execute("outer(3)")
    gc.collect()
    assert ref() is None


def test_a_breakpoint_stops_steps_and_goes_on(engine):
    engine.execute("def f(n):\n    a = n\n    breakpoint()\n    b = a + 1\n    return b")
    text = engine.execute("result = f(1)", "n", "p b", "!b = 40", "c")
    assert engine.failure is None
    assert engine.shell.user_ns["result"] == 40
    assert "2\n" in text and "runner.py" not in text
    assert sys.breakpointhook is sys.__breakpointhook__


def test_stepping_beyond_user_code_ends_the_task(engine):
    engine.execute("breakpoint()\na = 1\nb = 2", "n", "n", "n")
    assert engine.failure is None
    assert engine.shell.user_ns["b"] == 2


def test_quitting_at_a_breakpoint_ends_the_task(engine):
    engine.execute("breakpoint()\nkept = 1\nb = 2", "n", "n", "q")
    assert engine.failure.kind == "TaskInterrupted" and "in the debugger" in engine.failure.message
    assert engine.shell.user_ns["kept"] == 1
    assert issubclass(bdb.BdbQuit, Exception)
    engine.debug()
    assert engine.failure.kind == "NothingToDebug"


@pytest.mark.parametrize(
    ("answer", "said"), [(Typed(None, "nobody is there"), "nobody is there"), (None, "nothing was typed for 60 min")]
)
def test_where_nobody_types_the_program_goes_on(engine, answer, said):
    text = engine.execute("breakpoint()\na = 1\nbreakpoint()\nb = 2", lambda: answer)
    assert engine.failure is None
    assert engine.shell.user_ns["b"] == 2
    assert f"the debugger ends: {said}" in text
    engine.execute("outer(3)")
    assert f"the debugger ends: {said}" in engine.debug(lambda: answer)
    assert engine.failure is None


def test_an_interrupt_at_the_prompt_ends_the_debugger_and_one_in_a_command_the_command(engine):
    def interrupted():
        raise KeyboardInterrupt

    engine.shell.user_ns["interrupted"] = interrupted
    engine.execute("outer(3)")
    assert "KeyboardInterrupt" in engine.debug("interrupted()", "q")
    assert engine.failure is None
    engine.debug(interrupted)
    assert engine.failure.kind == "TaskInterrupted"
    engine.execute("breakpoint()\na = 1", interrupted)
    assert engine.failure.kind == "TaskInterrupted"


def test_completion_knows_the_frame_and_the_commands(engine):
    found = {}

    def complete(line, begin):
        found[line] = Lookout(engine.shell).tell(m.Completions(line, begin, len(line)))["found"]
        return Typed("p 1", "")

    engine.execute("import math\nouter(3)")
    engine.debug(lambda: complete("p ha", 2), lambda: complete("unti", 0), lambda: complete("p math.sq", 2), "q")
    assert "half" in found["p ha"] and "hash" in found["p ha"]
    assert found["unti"] == ["until"]
    assert found["p math.sq"] == ["math.sqrt"]
    assert Lookout(engine.shell).tell(m.Completions("p ha", 2, 4)) == {"found": []}


def test_breakpoints_can_be_turned_off(engine, monkeypatch):
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    engine.execute("breakpoint()\nb = 3")
    assert engine.shell.user_ns["b"] == 3


def test_a_breakpoint_in_another_thread_is_passed_over(engine):
    text = engine.execute("import threading\nt = threading.Thread(target=breakpoint)\nt.start()\nt.join()")
    assert "in its main thread" in text
