"""A function's pickle is used again only while nothing that it brings along has changed."""

import gc
import math
import sys
import types
import weakref

import numpy as np
import pytest

from ipkernel_ext import payload
from ipkernel_ext.snapshots import snapshot

SOURCE = """
import math
import numpy as np
import own_module

n = 1000
point = (1.5, ("a", 2))
items = [1]
array = np.arange(3)

def helper(x): return x + n
def deep(x): return helper(x)
def recursive(x): return recursive(x - 1) if x else math.sqrt(n)
def even(x): return x == 0 or odd(x - 1)
def odd(x): return x != 0 and even(x - 1)
def plain(x=2000, *, y=3000): return x
def annotated(x: "int") -> float: return x
def uses_tuple(): return point
def uses_numpy(): return np.linalg.norm([n])
def late(): return not_yet
def nested(): return [n for _ in range(3)], (lambda: helper(1))
def uses_list(): return items
def uses_array(): return array
def uses_own(): return own_module
class Kind:
    pass
def uses_class(): return Kind()
look = {}.get
def uses_method(): return look("a")
def factory(value):
    def inner(): return value
    return inner
low, high = factory(1), factory(2)
current = low
def uses_closures(): return low(), high(), current()
squared = math.sqrt
def uses_builtins(): return squared(2), len("a")

def closed():
    value = 5000
    def inner(): return value
    def change(): nonlocal value; value = 6000
    return inner, change
inner, change = closed()

def emptied():
    def inner(): return value
    value = 1
    del value
    return inner
empty = emptied()
"""


@pytest.fixture
def names(monkeypatch):
    own = types.ModuleType("own_module")
    monkeypatch.setitem(sys.modules, "own_module", own)
    main = types.ModuleType("__main__")
    exec(SOURCE, vars(main))
    return vars(main)


def fresh(f):
    """What a function is pickled to if nothing is remembered."""
    payload._pickled.pop(f, None)
    return payload.dumps_function(f)


REMEMBERED = ["helper", "deep", "recursive", "even", "plain", "annotated", "uses_tuple", "uses_numpy", "late", "nested"]
REMEMBERED += ["inner", "empty", "uses_closures", "uses_builtins"]


@pytest.mark.parametrize("name", REMEMBERED)
def test_what_cannot_change_unseen_is_pickled_once(names, name, monkeypatch):
    first = payload.dumps_function(names[name])
    monkeypatch.setattr(payload, "dumps", lambda *_, **__: pytest.fail("pickled again"))
    assert payload.dumps_function(names[name]) is first


@pytest.mark.parametrize("name", ["uses_list", "uses_array", "uses_own", "uses_class", "uses_method"])
def test_what_could_is_pickled_each_time(names, name):
    assert snapshot(names[name]) is None


def other(x):
    return -x


CHANGES = {
    "a number": ("helper", lambda names: names.update(n=1001)),
    "a number that a function of it uses": ("deep", lambda names: names.update(n=1001)),
    "a number that a lambda of it uses": ("nested", lambda names: names.update(n=1001)),
    "the kind of a number": ("helper", lambda names: names.update(n=1000.0)),
    "a function of it": ("deep", lambda names: exec("def helper(x): return x - n", names)),
    "a function that calls it back": ("even", lambda names: exec("def odd(x): return not even(x)", names)),
    "itself, under its name": ("recursive", lambda names: names.update(recursive=math.cos)),
    "which of two closures of the same code": ("uses_closures", lambda names: names.update(current=names["high"])),
    "a builtin function": ("uses_builtins", lambda names: names.update(squared=math.cbrt)),
    "a tuple": ("uses_tuple", lambda names: names.update(point=(1.5, ("a", 3)))),
    "a name that was not there": ("late", lambda names: names.update(not_yet=1)),
    "a number to a list": ("helper", lambda names: names.update(n=[1])),
    "its closure": ("inner", lambda names: names["change"]()),
    "a default": ("plain", lambda names: setattr(names["plain"], "__defaults__", (2001,))),
    "a default by name": ("plain", lambda names: names["plain"].__kwdefaults__.update(y=3001)),
    "an attribute": ("plain", lambda names: setattr(names["plain"], "mark", 4000)),
    "an annotation": ("annotated", lambda names: names["annotated"].__annotations__.update(x="float")),
    "its text": ("plain", lambda names: setattr(names["plain"], "__doc__", "new")),
    "its name": ("plain", lambda names: setattr(names["plain"], "__qualname__", "new")),
    "its code": ("plain", lambda names: setattr(names["plain"], "__code__", other.__code__)),
    "a module": ("uses_numpy", lambda names: names.update(np=math)),
}


@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=CHANGES)
def test_it_is_pickled_again_when_something_has_changed(names, name, change):
    f = names[name]
    before = payload.dumps_function(f)
    taken = snapshot(f)
    change(names)
    assert not taken.holds()
    assert payload.dumps_function(f)[0] == fresh(f)[0] != before[0]


def test_a_submodule_that_was_imported_later_goes_along(names, monkeypatch):
    f = names["uses_numpy"]
    taken = snapshot(f)
    monkeypatch.setitem(sys.modules, "numpy.brand_new", types.ModuleType("numpy.brand_new"))
    assert not taken.holds()


def test_nobody_is_kept_by_what_is_remembered(names):
    f = names["even"]
    payload.dumps_function(f)
    assert f in payload._pickled
    kept = weakref.ref(f)
    names.clear()
    del f
    gc.collect()
    assert kept() is None


def test_what_a_tuple_has_of_functions_is_kept_by_nobody_either(names):
    exec("def one(): return both\ndef two(): return one\nboth = (one, two)", names)
    assert snapshot(names["one"]) is None, "the tuple would keep it"


def test_a_large_pickle_is_not_kept(names):
    names["n"] = b"x" * (payload.REMEMBERED + 1)
    f = names["helper"]
    payload.dumps_function(f)
    assert f not in payload._pickled


def test_a_functions_pickle_is_of_the_moment_in_which_it_was_made():
    array = np.zeros(payload.LARGE)
    digest, frames = payload.dumps_function(lambda: array[0])
    array[0] = 1
    assert payload.loads([bytes(frame) for frame in frames])() == 0
    assert payload.dumps_function(lambda: array[0])[0] != digest


def test_methods_and_objects_have_no_snapshot():
    assert snapshot("".join) is None
    assert snapshot(np.float64) is None
