"""Functions by value: what they bring is their own, the rest is the engine's, and all of it is fast."""

import builtins
import json
import math
import types

import pytest

from ipkernel_ext import payload
from ipkernel_ext.execution import functions
from ipkernel_ext.execution.functions import FunctionCache


class Engine:
    """A namespace and its functions."""

    def __init__(self):
        self.names = {"__name__": "__main__", "__builtins__": builtins}
        self.cache = FunctionCache(self.names)

    def load(self, source, name="f", **brings):
        """The function of this name in a client's notebook, as it arrives here."""
        client = {"__name__": "__main__", **brings}
        exec(source, client)
        digest, frames = payload.dumps_function(client[name])
        payload.internals._DYNAMIC_CLASS_TRACKER_BY_ID.clear()  # another process does not know the client's classes
        return self.cache.function(digest, frames)

    def call(self, f, *args):
        self.cache.begin()
        try:
            return f(*args)
        finally:
            self.cache.end()


@pytest.fixture
def engine():
    return Engine()


def test_what_it_brings_is_its_own(engine):
    engine.names["x"] = "engine"
    f = engine.load("def f(): return x", x="client")
    assert engine.call(f) == "client"
    g = engine.load("def f():\n    global x\n    x += '!'\n    return x", x="client")
    assert [engine.call(g), engine.call(g)] == ["client!", "client!!"]
    assert engine.names["x"] == "engine"


@pytest.mark.parametrize("brings", [{}, {"math": math}], ids=["nothing", "something"])
def test_what_it_does_not_bring_is_looked_up_when_it_is_used(engine, brings):
    uses = "math.pi; " if brings else ""
    f = engine.load(f"def f(): {uses}return x", **brings)
    with pytest.raises(NameError, match="name 'x' is not defined"):
        engine.call(f)
    engine.names["x"] = 1
    assert engine.call(f) == 1
    engine.names["x"] = 2
    assert engine.call(f) == 2
    exec("def step():\n    global x\n    x += 1", engine.names)
    g = engine.load(f"def f(): {uses}step(); return x", **brings)
    assert engine.call(g) == 3
    del engine.names["x"]
    with pytest.raises(NameError):
        engine.call(f)


@pytest.mark.parametrize("brings", [{}, {"math": math}], ids=["nothing", "something"])
def test_what_it_assigns_is_the_engines(engine, brings):
    uses = "math.pi; " if brings else ""
    f = engine.load(f"def f():\n    global n\n    {uses}n = n + 1\n    return n", **brings)
    engine.names["n"] = 10
    assert [engine.call(f) for _ in range(3)] == [11, 12, 13]
    assert engine.names["n"] == 13
    engine.names["n"] = 0
    assert engine.call(f) == 1
    failing = engine.load(f"def f():\n    global m\n    {uses}m = 5\n    1/0", **brings)
    with pytest.raises(ZeroDivisionError):
        engine.call(failing)
    assert engine.names["m"] == 5


def test_helpers_and_classes_come_along(engine):
    engine.names.update(scale=3, helper=None)
    f = engine.load(
        "def helper(x): return x * scale\n"
        "class Box:\n"
        "    def __init__(self, x): self.x = x\n"
        "    def get(self): return helper(self.x)\n"
        "def f(x):\n"
        "    inner = lambda: Box(x).get()\n"
        "    return inner()"
    )
    assert engine.call(f, 2) == 6
    engine.names["scale"] = 5
    assert engine.call(f, 2) == 10
    assert engine.names["helper"] is None


def test_closures(engine):
    engine.names["y"] = 1
    f = engine.load(
        "def make(a):\n    def g(): return helper() + a\n    return g\ndef helper(): return y\nf = make(10)"
    )
    assert engine.call(f) == 11


def test_the_engine_may_shadow_builtins(engine):
    f = engine.load("def f(): return math.floor(sum([1, 2]))", math=math)
    assert engine.call(f) == 3
    engine.names["sum"] = max
    assert engine.call(f) == 2
    del engine.names["sum"]
    assert engine.call(f) == 3


def test_imports_classes_and_eval_work_inside(engine):
    engine.names["z"] = 7
    source = "def f():\n    import json\n    class A: pass\n"
    source += "    return json.dumps([A.__name__, eval('z'), len('ab'), bool(math)])"
    assert json.loads(engine.call(engine.load(source, math=math))) == ["A", 7, 2, True]


def test_by_reference_is_left_alone(engine):
    digest, frames = payload.dumps_function(json.dumps)
    assert engine.cache.function(digest, frames) is json.dumps
    assert "__builtins__" not in vars(json) or vars(json)["__builtins__"] is not engine.cache._builtins


def test_pushed_functions_are_the_same(engine):
    client = {"__name__": "__main__", "math": math}
    exec("def f(): return math.floor(later)", client)
    f = engine.cache.load(payload.dumps({"f": client["f"]}))["f"]
    engine.names["later"] = 2.5
    assert f() == 2


def test_globals_are_exact_and_hold_what_is_used(engine):
    f = engine.load("def f(x): return len(x) + n", n=1)
    assert type(f.__globals__) is dict
    assert {"len", "n"} <= f.__globals__.keys()
    bare = engine.load("def f(x): return len(x) + missing")
    assert bare.__globals__ is engine.names
    assert engine.names["__builtins__"] is builtins


def test_a_returned_function_goes_back(engine):
    engine.names["here"] = 4
    f = engine.load("def f(): return here + math.floor(1.5)", math=math)
    back = payload.loads(payload.dumps_function(f)[1])
    assert isinstance(back, types.FunctionType)
    assert back.__globals__["math"] is math


def test_a_digest_is_loaded_once_and_few_are_kept(engine, monkeypatch):
    monkeypatch.setattr(functions, "KEPT", 2)
    f = engine.load("def f(): return 1")
    assert engine.load("def f(): return 1") is f
    engine.load("def f(): return 2")
    assert engine.load("def f(): return 1") is f
    engine.load("def f(): return 3")
    assert engine.load("def f(): return 1") is f
    assert len(engine.cache._loaded) == 2
    engine.cache.clear()
    assert engine.load("def f(): return 1") is not f
