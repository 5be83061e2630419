"""What an engine tells of itself while it is busy."""

import threading

import pytest

from ipkernel_ext import payload
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.looking import SILENT
from ipkernel_ext.execution.interrupt import Interrupter
from ipkernel_ext.execution.looking import AT_ONCE, Lookout, in_words
from ipkernel_ext.execution.output import OutputBuffer
from ipkernel_ext.execution.runner import Runner
from ipkernel_ext.execution.shell import EngineShell


@pytest.fixture(scope="module")
def shell():
    shell = EngineShell(OutputBuffer())
    with shell.being_global():
        yield shell


@pytest.fixture
def tell(shell):
    shell.empty()
    lookout = Lookout(shell)
    return lookout.tell


def run(shell, code, **names):
    shell.user_ns.update(names)
    outcome = Runner(shell, OutputBuffer(), Interrupter()).run(m.Execute(code), (), None)
    assert outcome.failure is None, outcome.failure


def test_a_variable(shell, tell):
    shell.user_ns["a"] = [1, 2]
    assert payload.loads(tell(m.Peek("a", 1000))["value"]) == [1, 2]


def test_an_unknown_name_has_close_ones(shell, tell):
    shell.user_ns["weights"] = 1
    assert tell(m.Peek("weight", 1000)) == {
        "missing": "there is no variable 'weight' on engine -1; did you mean 'weights'?"
    }


@pytest.mark.parametrize(("size", "limit"), [(5000, 4000), (10**6, 10**5)])
def test_what_is_too_large_comes_in_words(shell, tell, size, limit):
    for value in (b"x" * size, list(range(size)), bytearray(size)):
        shell.user_ns["a"] = value
        told = tell(m.Peek("a", limit))
        assert "its pickle has more than" in told["why"]
        assert len(told["words"]) < 3000


def test_what_cannot_be_pickled_comes_in_words(shell, tell):
    shell.user_ns["a"] = {"lock": threading.Lock()}
    told = tell(m.Peek("a", 1000))
    assert "lock" in told["words"]
    assert "a['lock']" in told["why"]


def test_a_value_that_cannot_even_be_shown():
    class Hostile:
        def __repr__(self):
            raise SystemExit

        def __reduce__(self):
            raise SystemExit

    assert "SystemExit" in Lookout.tell(_With({"a": Hostile()}), m.Peek("a", 10))[SILENT]

    class Sick(Hostile):
        def __repr__(self):
            raise ValueError

    assert in_words(Sick()) == "<Sick that cannot be shown>"


class _With(Lookout):
    def __init__(self, names):
        self._shell = type("Shell", (), {"user_ns": names, "output": OutputBuffer(), "keys": lambda self: []})()
        self._runs_in = None


CODE = """
def outer():
    local = 'outer'
    hidden = 1
    inner()

def inner():
    local = 'inner'
    see()

outer()
"""


def test_local_variables_and_the_stack_of_what_runs(shell, tell):
    seen = {}

    def see():
        for name in ("local", "hidden", "see"):
            seen[name] = tell(m.Peek(name, 1000))
        seen["stacks"] = tell(m.Stacks())["threads"]

    run(shell, CODE, see=see)
    assert payload.loads(seen["local"]["value"]) == "inner"
    assert payload.loads(seen["hidden"]["value"]) == 1
    ((_, frames),) = [stack for stack in seen["stacks"] if not stack[0]]
    assert [(frame[2], frame[3]) for frame in frames[:3]] == [
        ("<module>", "outer()"),
        ("outer", "inner()"),
        ("inner", "see()"),
    ]
    assert frames[-1][2] == "see"


def test_between_tasks_there_is_no_stack(tell):
    assert [stack for stack in tell(m.Stacks())["threads"] if not stack[0]] == []


def test_the_users_threads_have_stacks_too(tell):
    begun, end = threading.Event(), threading.Event()

    def wait():
        begun.set()
        end.wait(20)

    thread = threading.Thread(target=wait, name="worker")
    thread.start()
    assert begun.wait(20)
    names = dict(tell(m.Stacks())["threads"])
    end.set()
    thread.join()
    assert "wait" in [frame[2] for frame in names["worker"]]


def test_looks_that_do_not_end_hold_nobody_up(shell):
    begun, end = threading.Semaphore(0), threading.Event()

    class Waits:
        def __reduce__(self):
            begun.release()
            end.wait(20)
            return (int, ())

    shell.user_ns["a"] = Waits()
    lookout, told = Lookout(shell), []
    came = threading.Semaphore(0)

    def then(answer):
        told.append(answer)
        came.release()

    for _ in range(AT_ONCE):
        lookout.look(m.Peek("a", 1000), then)
        assert begun.acquire(timeout=20)
    lookout.look(m.Stacks(), then)
    assert came.acquire(timeout=1)
    assert "do not end" in told[0][SILENT]
    end.set()
    for _ in range(AT_ONCE):
        assert came.acquire(timeout=20)
    lookout.look(m.Stacks(), then)
    assert came.acquire(timeout=20)
    assert "threads" in told[-1]
