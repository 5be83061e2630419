"""Exceptions of user code that misbehave when they are asked what they are."""

import pytest

from ipkernel_ext import payload
from ipkernel_ext.core import messages as m
from ipkernel_ext.execution.runner import LARGEST
from ipkernel_ext.execution.traces import LONGEST, MESSAGE, message_of, shortened
from tests.execution.test_runner import Bench


@pytest.fixture
def bench():
    return Bench()


METHODS = ["__str__", "__repr__", "__reduce__", "__reduce_ex__", "__getattribute__", "__class__"]


@pytest.mark.fault("an exception's class misbehaves or is not there")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("answer", ["raise ValueError", "raise SystemExit", "raise KeyboardInterrupt", "return 5"])
def test_an_exception_that_misbehaves_is_a_failure_and_the_engine_lives_on(bench, method, answer):
    decorator = "@property\n    " if method == "__class__" else ""
    code = f"class Bad(Exception):\n    {decorator}def {method}(self, *args):\n        {answer}\nraise Bad(1)"
    failure = bench.execute(code).failure
    assert failure.kind in ("user", "RemoteError", "TaskInterrupted", "RemoteExit")
    assert failure.type_name in ("Bad", "KeyboardInterrupt", "SystemExit", "ValueError", "AttributeError")
    assert bench.execute("1").failure is None


def test_a_class_that_lies_about_its_name(bench):
    code = (
        "class Liar(type):\n"
        "    @property\n"
        "    def __name__(cls): raise OSError\n"
        "    __module__ = __mro__ = __name__\n"
        "class Bad(Exception, metaclass=Liar): pass\n"
        "raise Bad\n"
    )
    assert bench.execute(code).failure.type_name in ("Bad", "OSError")
    digest, function = payload.dumps_function(eval("lambda: Bad.fail()", {"__builtins__": __builtins__}))
    bench.execute("Bad.fail = lambda: (_ for _ in ()).throw(Bad())")
    failure = bench.work(m.Apply(digest), payload.dumps(((), {})), function).failure
    assert (failure.kind, failure.type_name) == ("RemoteError", "Bad")
    assert bench.execute("1").failure is None


def test_huge_messages_keep_their_beginning_and_end(bench):
    failure = bench.execute("raise ValueError('<' + 'x' * 3_000_000 + '>')").failure
    assert failure.kind == "user"
    assert failure.message.startswith("<xx")
    assert failure.message.endswith("xx>")
    assert "characters left out" in failure.message
    assert len(failure.message) < MESSAGE + 100
    assert len(failure.traceback) < LONGEST + 100
    assert failure.traceback.startswith("Traceback")


def test_an_exception_that_is_too_large_to_travel_is_told(bench):
    outcome = bench.execute(f"raise ValueError('x' * {LARGEST + 1})")
    assert (outcome.failure.kind, outcome.failure.type_name, outcome.frames) == ("RemoteError", "ValueError", ())


def test_a_recursion_of_several_functions_is_cut(bench):
    code = "def f(n): return g(n + 1)\ndef g(n): return h(n + 1)\ndef h(n): return f(n + 1)\nf(0)"
    failure = bench.execute(code).failure
    assert (failure.kind, failure.type_name) == ("user", "RecursionError")
    assert len(failure.traceback) < LONGEST + 100
    assert "RecursionError" in failure.traceback
    assert bench.execute("1").failure is None


def test_text_that_is_not_unicode_does_not_stop_the_message(bench):
    failure = bench.execute("raise FileNotFoundError('\\udcff')").failure
    assert failure.message == "?"
    failure.message.encode()
    failure.traceback.encode()


@pytest.mark.parametrize("code", ["'c'", "Bad()", "'x' * 1000000"])
def test_exit_codes_of_all_kinds(bench, code):
    bench.execute("class Bad:\n    def __repr__(self): raise OSError")
    failure = bench.execute(f"raise SystemExit({code})").failure
    assert failure.kind == "RemoteExit"
    assert "lives on" in failure.message
    assert len(failure.message) < MESSAGE + 200


def test_items_of_a_map_that_misbehave_stand_in_its_list(bench):
    bench.execute(
        "class Bad(Exception):\n"
        "    def __str__(self): raise SystemExit\n"
        "    def __reduce__(self): raise OSError\n"
        "class Code:\n"
        "    def __repr__(self): raise OSError\n"
        "def fails(x):\n"
        "    raise (Bad, SystemExit)[x](Code())\n"
    )
    digest, function = payload.dumps_function(eval("lambda x: fails(x)", {"__builtins__": __builtins__}))
    outcome = bench.work(m.Map(digest, 0, True), payload.dumps([[0, 1]]), function)
    assert outcome.failure is None
    bad, left = payload.loads(outcome.frames)
    assert (type(bad).__name__, bad.type_name, type(left).__name__) == ("RemoteError", "Bad", "RemoteExit")


@pytest.mark.filterwarnings("ignore:text/html formatter returned")
@pytest.mark.parametrize("answer", ["raise OSError('from repr')", "return 5"])
def test_an_error_in_a_repr_is_printed_and_the_value_is_still_one(bench, answer):
    code = f"class Odd:\n    def _repr_html_(self): {answer}\n    def __repr__(self): return 'plain'\nOdd()"
    outcome = bench.execute(code)
    assert outcome.failure is None
    assert outcome.has_value
    (value,) = [piece for piece in bench.pieces if isinstance(piece, m.Display)]
    assert value.bundle == {"text/plain": "plain"}
    assert "raise" not in answer or "OSError: from repr" in bench.text("stderr")


def test_causes_and_contexts_are_told(bench):
    code = (
        "try:\n"
        "    try: 1 / 0\n"
        "    except ZeroDivisionError as error: raise KeyError('k') from error\n"
        "except KeyError: raise ValueError('v')\n"
    )
    trace = bench.execute(code).failure.traceback
    assert trace.index("ZeroDivisionError") < trace.index("KeyError: 'k'") < trace.index("ValueError: v")
    assert "direct cause" in trace
    assert "During handling" in trace


def test_shortened():
    assert shortened("abc", 3) == "abc"
    assert shortened("a" * 5 + "b" * 5, 4) == "aa\n… 6 characters left out …\nbb"
    assert message_of(ValueError("x")) == "x"
