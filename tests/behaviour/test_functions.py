"""What goes by value: functions and classes of notebooks and of modules that only the client has."""

import dataclasses
import enum
import functools
import importlib
import sys
import textwrap
import types
import warnings

import pytest

from ipkernel_ext import payload
from ipkernel_ext.errors import PayloadError


class Notebook:
    """A client's session: cells run in ``__main__``."""

    def __init__(self, names):
        self.names = names

    def run(self, cell):
        exec(compile(textwrap.dedent(cell), "<cell>", "exec"), self.names)

    def __getitem__(self, name):
        return self.names[name]


@pytest.fixture
def notebook(monkeypatch):
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    return Notebook(vars(main))


KINDS = {
    "lambda": "f = lambda x: x + 1",
    "default": "def f(x, one=1, *, more=0): return x + one + more",
    "recursive": "def f(x): return 1 if x < 1 else 1 + f(x - 1)",
    "mutually recursive": "def f(x): return g(x) + 1\ndef g(x): return x if x < 1 else f(x - 1)",
    "global": "one = 1\ndef f(x): return x + one",
    "closure": "def make(one):\n    return lambda x: x + one\nf = make(1)",
    "generator": "def each(x):\n    yield x\n    yield 1\ndef f(x): return sum(each(x))",
    "coroutine": "import asyncio\nasync def g(x): return x + 1\ndef f(x): return asyncio.run(g(x))",
    "partial": "import functools, operator\nf = functools.partial(operator.add, 1)",
    "bound method": "class A:\n    one = 1\n    def add(self, x): return x + self.one\nf = A().add",
    "class method": "class A:\n    @classmethod\n    def add(cls, x): return x + 1\nf = A.add",
    "callable": "class A:\n    def __call__(self, x): return x + 1\nf = A()",
    "decorated": "import functools\ndef twice(g):\n    @functools.wraps(g)\n    def h(x): return g(g(x))\n"
    "    return h\n@twice\n"
    "def f(x): return x + .5",
    "cached": "import functools\n@functools.lru_cache\ndef f(x): return x + 1",
    "super": "class A:\n    def add(self, x): return x\nclass B(A):\n    def add(self, x): return super().add(x) + 1\n"
    "def f(x): return B().add(x)",
    "dataclass": "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass P:\n    x: int\n    one: int = 1\n"
    "def f(x):\n    p = P(x)\n    return p.x + dataclasses.replace(p).one",
    "enum": "import enum\nclass N(enum.IntEnum):\n    ONE = 1\ndef f(x): return x + N.ONE",
    "named tuple": "from typing import NamedTuple\nclass T(NamedTuple):\n    a: int\n    b: int = 1\n"
    "def f(x): return sum(T(x))",
    "cached partial": "import functools, operator\nf = functools.lru_cache(functools.partial(operator.add, 1))",
    "nested": "def f(x):\n    def g():\n        nonlocal x\n        x += 1\n    g()\n    return x",
    "imports inside": "def f(x):\n    import operator\n    return operator.add(x, 1)",
    "dispatching": "import functools\n@functools.singledispatch\ndef f(x): raise TypeError\n"
    "@f.register\ndef _(x: int): return f([x])\n@f.register(list)\ndef _(x): return x[0] + 1",
    "dispatching method": "import functools\nclass A:\n    @functools.singledispatchmethod\n"
    "    def add(self, x): raise TypeError\n    @add.register\n    def _(self, x: int): return x + 1\n"
    "    @add.register\n    def _(self, x: str): return x\nf = A().add",
    "builtin": "import operator\nf = operator.index\nf = (lambda g: lambda x: g(x) + 1)(f)",
}


@pytest.mark.parametrize("name", KINDS)
def test_functions_of_every_kind(rc, notebook, name):
    notebook.run(KINDS[name])
    assert rc[0].apply(notebook["f"], 3) == 4
    assert rc.map(notebook["f"], range(3)) == [1, 2, 3]
    rc.push({"pushed": notebook["f"]})
    assert rc[:2].apply(lambda: pushed(3)) == [4, 4]  # noqa: F821 - a name of the engines


def test_a_function_that_dispatches_is_itself_again(rc, notebook):
    notebook.run("""
        import functools
        @functools.singledispatch
        def tell(x):
            "Say what it is."
            return "a thing"
        tell.note = 5
    """)
    tell = notebook["tell"]
    assert rc[0].apply(tell, 1) == "a thing"
    tell.register(int, lambda x: "a number")
    assert rc[0].apply(tell, 1) == "a number"
    rc.push({"tell": tell})
    rc.execute("@tell.register\ndef _(x: str): return 'a text'")
    assert rc[0].execute("tell(1), tell(True), tell(''), tell(1.5), tell.__doc__, tell.note").value == (
        "a number",
        "a number",
        "a text",
        "a thing",
        "Say what it is.",
        5,
    )
    back = rc[0].pull("tell")
    assert [back(x) for x in (1, "", None)] == ["a number", "a text", "a thing"]
    assert tell("") == "a thing"


def test_the_new_definition_wins(rc, notebook):
    notebook.run("scale = 1\ndef helper(x): return x * scale\ndef f(x): return helper(x)")
    assert rc[0].apply(notebook["f"], 2) == 2
    notebook.run("def helper(x): return -x")
    assert rc[0].apply(notebook["f"], 2) == -2
    notebook.run("def f(x): return 'new'")
    assert rc.map(notebook["f"], [1]) == ["new"]


def test_the_new_definition_of_a_class_wins(rc, notebook):
    cell = "class Box:\n    def __init__(self, x): self.x = x\n    def get(self): return "
    notebook.run(cell + "self.x\ndef f(x): return Box(x).get()")
    assert rc[0].apply(notebook["f"], 2) == 2
    notebook.run(cell + "-self.x")
    assert rc[0].apply(notebook["f"], 2) == -2
    there = rc[0].apply(lambda box: [box, box.get()], notebook["Box"](5))
    assert isinstance(there[0], notebook["Box"])
    assert there[1] == -5


@pytest.mark.parametrize("rc", ["forked", "spawned"], indirect=True)
def test_what_a_sent_class_uses_may_change(rc, notebook):
    notebook.run("def helper(x): return x\nclass Box:\n    n = 1\n    def get(self): return helper(self.n)")
    notebook.run("def call(): return Box().get()")
    assert rc[0].apply(notebook["call"]) == 1
    notebook.run("def helper(x): return 10 * x\nBox.n = 2")
    assert rc[0].apply(notebook["call"]) == 20
    before = notebook["Box"].get
    assert isinstance(rc[0].apply(lambda box: box, notebook["Box"]()), notebook["Box"])
    assert notebook["Box"].get is before, "what comes back does not change the client's class"


def test_it_never_overwrites_the_engines_names(rc, notebook):
    rc.execute("scale = 'engine'; helper = 'engine'")
    notebook.run("scale = 2\ndef helper(x): return scale * x\ndef f(x): return helper(x)")
    assert rc.apply(notebook["f"], 3) == [6] * 4
    assert rc.pull(("scale", "helper")) == [("engine", "engine")] * 4


def test_names_that_it_does_not_bring_are_the_engines(rc, notebook):
    rc.scatter("mine", [10, 20, 30, 40])
    notebook.run("import math\ndef f():\n    global total\n    total = math.floor(sum(mine))\n    return total + 1")
    assert rc.apply(notebook["f"]) == [11, 21, 31, 41]
    assert rc.pull("total") == [10, 20, 30, 40]
    rc.execute("mine = [1]")
    assert rc.apply(notebook["f"]) == [2] * 4


# ---------------------------------------------------------------- classes of the engines

CLASSES = {
    "plain": "class A:\n    'text'\n    def __init__(self): self.x = 1\n    def get(self): return self.x",
    "slots": "class A:\n    __slots__ = ('x',)\n    def __init__(self): self.x = 1\n    def get(self): return self.x",
    "dataclass": "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\n    y: list = "
    "dataclasses.field(default_factory=list)\n    def get(self): return self.x",
    "derived": "class Base:\n    def get(self): return 1\nclass A(Base):\n    def get(self): return super().get()",
    "property": "class A:\n    @property\n    def x(self): return 1\n    @staticmethod\n    def get(): return 1",
    "enum": "import enum\nclass A(enum.Enum):\n    ONE = 1\n    def get(self): return self.value\n"
    "    @classmethod\n    def _missing_(cls, value): return cls.ONE",
    "named tuple": "from typing import NamedTuple\nclass A(NamedTuple):\n    x: int = 1\n"
    "    def get(self): return self.x",
    "abstract": "import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def get(self): ...\nBase = A\n"
    "class A(Base):\n    def get(self): return 1",
    "exception": "class A(Exception):\n    def get(self): return 1",
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("rc", ["forked", "spawned"], indirect=True)
def test_a_class_of_the_engines_is_one_class_here(rc, notebook, name):
    rc.execute(CLASSES[name] + f"\na = A{'.ONE' if name == 'enum' else '()'}")
    first, second = rc.pull("a"), rc.pull("a")
    kinds = {type(a) for a in [*first, *second]}
    assert len(kinds) == 1
    assert kinds == {*rc.pull("A")}
    assert first[0].get() == 1
    assert rc.apply(lambda a: isinstance(a, A), first[3]) == [True] * 4  # noqa: F821 - a name of the engines


def test_classes_of_one_name_that_say_different_things_are_different(rc, notebook):
    rc[0].execute("class A:\n    x = 1\na = A()")
    rc[1].execute("class A:\n    x = 2\na = A()")
    one, two = rc[:2].pull("a")
    assert (one.x, two.x) == (1, 2)
    rc[:2].execute(
        "def make(n):\n    class B:\n        def get(self): return n\n    return B()\none, two = make(1), make(2)"
    )
    one, two = rc[0].pull(("one", "two"))
    assert (one.get(), two.get()) == (1, 2)


@pytest.mark.parametrize("rc", ["forked", "spawned"], indirect=True)
def test_a_class_of_the_same_cell_here_and_there_is_one(rc, notebook):
    rc.execute(CLASSES["plain"])
    notebook.run(CLASSES["plain"])
    assert type(rc[0].apply(lambda: A())) is notebook["A"]  # noqa: F821 - a name of the engines


# ---------------------------------------------------------------- modules that only the client has


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes and imports a module that engines cannot find."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        names.append(name)
        return importlib.reload(sys.modules[name]) if name in sys.modules else importlib.import_module(name)

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture(params=["forked", "spawned"])
def elsewhere(request, clusters):
    """Engines of other processes, which do not find what the client put on its path since."""
    yield clusters[request.param]
    clusters[request.param].reset()


def test_a_module_that_the_engines_cannot_import_is_sent(elsewhere, module):
    rc = elsewhere
    module("beneath", "def scaled(x): return SCALE * x\nSCALE = 2\nclass Base:\n    pass")
    above = module(
        "above",
        """
        import beneath
        from beneath import Base
        class Box(Base):
            def __init__(self, x): self.x = beneath.scaled(x)
        def f(x): return Box(x).x
        def g(): return Box
        """,
    )
    assert rc[0].apply(above.f, 3) == 6
    assert rc.map(above.f, range(3)) == [0, 2, 4]
    boxes = rc.apply(lambda: above.Box(5))
    assert {type(box) for box in boxes} == {above.Box}
    assert rc[0].apply(lambda box: box.x, above.Box(1)) == 2
    rc.push({"above": above})
    assert rc[1].execute("above.f(4)").value == 8
    assert rc[2].apply(above.g) is above.Box


def test_a_module_that_was_edited_is_sent_again(elsewhere, module):
    edited = module("edited", "def f(): return 'old'")
    assert elsewhere[0].apply(edited.f) == "old"
    module("edited", "def f(): return 'the new one'")
    assert elsewhere[0].apply(edited.f) == "the new one"
    assert elsewhere[0].apply(lambda: edited.f()) == "the new one"


def test_a_dispatching_function_of_a_module_brings_what_was_registered_last(elsewhere, module):
    source = "import functools\n@functools.singledispatch\ndef tell(x): return name\nname = 'thing'"
    tell = module("telling", source).tell
    assert elsewhere[0].apply(tell, 1) == "thing"
    tell.register(int, lambda x: "number")
    assert elsewhere[0].apply(tell, 1) == "number"


def test_a_module_that_the_engine_has_is_imported(elsewhere, module, tmp_path):
    home = module("home", "def f(): return __name__, globals() is vars(__import__('sys').modules.get('home', f))")
    elsewhere.execute(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.path_importer_cache.clear()")
    assert elsewhere[3].apply(home.f) == ("home", True)
    elsewhere.execute(f"import sys; sys.path.remove({str(tmp_path)!r}); sys.modules.pop('home', None)")


@pytest.mark.fault("an engine cannot import a module")
def test_where_that_is_impossible_the_error_says_why(elsewhere, module):
    locked = module("locked", "import threading\nlock = threading.Lock()\ndef f():\n    with lock: return 1")
    with pytest.raises(
        PayloadError, match=r"no module 'locked', and it could not be sent along: cannot pickle lock, a global that"
    ):
        elsewhere[0].apply(locked.f)


def test_much_that_comes_along_warns_and_names_the_global(elsewhere, module, notebook):
    notebook.run("import numpy; table = numpy.zeros(2_000_000); other = 1\ndef f(): return table.size + other")
    with pytest.warns(UserWarning, match="function f brings 'table' along, 16 MB"):
        assert elsewhere[0].apply(notebook["f"]) == 2_000_001
    heavy = module("heavy", "import numpy\ntable = numpy.zeros(2_000_000)\ndef f(): return table.size")
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(PayloadError, match="no module 'heavy', .*brings 'table' along, 16 MB"),
    ):
        elsewhere[0].apply(heavy.f)


def test_a_heavy_module_is_not_copied_to_find_that_out(module, monkeypatch):
    heavy = module("heavy", "import numpy\ntable = numpy.zeros(10**9, dtype='u1')\ndef f(): return table")
    frames = payload.dumps([lambda: heavy.f(), heavy])
    assert sum(len(memoryview(frame)) for frame in frames) < 10_000
    monkeypatch.delitem(sys.modules, "heavy")
    sys.path_importer_cache.clear()
    monkeypatch.setattr(sys, "path", sys.path[1:])
    with pytest.raises(PayloadError, match="cannot rebuild heavy here: .*: module heavy weighs more than 10 MB"):
        payload.loads(frames)


@dataclasses.dataclass
class Point:
    x: int


class Colour(enum.Enum):
    RED = 1


def test_classes_of_modules_stay_what_they_are(rc):
    there = rc[0].apply(functools.partial(lambda *args: args, Point(1), Colour.RED))
    assert there == (Point(1), Colour.RED)
    assert there[1] is Colour.RED
