"""When two classes say the same."""

import itertools
import sys
import types

import pytest

from ipkernel_ext import classes


def defined(source, file="<cell>"):
    """The class ``A`` of a notebook."""
    names = {"__name__": "__main__"}
    exec(compile(source, file, "exec", dont_inherit=True), names)
    return names["A"]


SOURCES = [
    "class A: pass",
    "class A:\n    'text'",
    "class A:\n    x = 1",
    "class A:\n    x = 2",
    "class A:\n    x = (1, [2, {3: {4, 'a', 'b', 'c'}}])",
    "class A:\n    def f(self): return 1",
    "class A:\n    def f(self): return 2",
    "class A:\n    def f(self, x=1): return 2",
    "class A:\n    def f(self): return self.x",
    "class A:\n    def f(self): return self.y",
    "class A:\n    def f(self): return lambda: 1",
    "class A:\n    def f(self): return lambda: 2",
    "class A:\n    def f(self): return super().f()",
    "class A:\n    @staticmethod\n    def f(self): return 1",
    "class A:\n    @property\n    def f(self): return 1",
    "class A(dict): pass",
    "class A(list): pass",
    "class B: pass\nclass A(B): pass",
    "class B:\n    x = 1\nclass A(B): pass",
    "class M(type): pass\nclass A(metaclass=M): pass",
    "class A:\n    __slots__ = ('x',)",
    "class A:\n    x: int",
    "class A:\n    x: str",
    "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1",
    "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 2",
    "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass A:\n    x: int = 1",
    "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: list = dataclasses.field(default_factory=list)",
    "from typing import NamedTuple\nclass A(NamedTuple):\n    x: int",
    "from typing import NamedTuple\nclass A(NamedTuple):\n    y: int",
    "import enum\nclass A(enum.Enum):\n    X = 1",
    "import enum\nclass A(enum.Enum):\n    X = 2",
    "import enum\nclass A(enum.Enum):\n    X = 1\n    def f(self): return 3",
    "import contextlib\nclass A:\n    @contextlib.contextmanager\n    def f(self): yield 1",
    "import contextlib\nclass A:\n    @contextlib.contextmanager\n    def f(self): yield 2",
    "import functools\nclass A:\n    @functools.cached_property\n    def f(self): return 1",
]


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_source_is_the_same_class(source):
    assert classes.identity(defined(source)) == classes.identity(defined(source, "<another>")) is not None


def test_different_sources_are_different_classes():
    for one, two in itertools.combinations(SOURCES, 2):
        assert classes.identity(defined(one)) != classes.identity(defined(two)), (one, two)


@pytest.mark.parametrize(
    "source",
    [
        "def make(n):\n    class A: x = n\n    return A\nA = make(1)",
        "def make(n):\n    return type('A', (), {'__module__': '__main__', 'f': lambda self: n})\nA = make(1)",
        "class A:\n    x = object()",
        "class A:\n    x = list(range(1000)).__repr__()",
        "class A:\n    x = type('Long', (), {'__repr__': lambda self: 'long' * 1000})()",
        "class A: pass\nA.A = A",
    ],
    ids=["local", "closure", "address", "text", "long", "ring"],
)
def test_what_cannot_be_told_has_no_identity(source, request):
    identity = classes.identity(defined(source))
    assert (identity is None) == (request.node.callspec.id != "text")


def test_what_happens_to_a_class_in_use_does_not_change_it():
    kind = defined("import abc\nclass A(abc.ABC):\n    __slots__ = ('x',)\n    y: int")
    before = classes.identity(kind)
    kind().__reduce_ex__(4)
    isinstance(1, kind)
    kind.register(types.SimpleNamespace)
    vars(kind)["__annotations__"] if sys.version_info < (3, 14) else kind.__annotations__
    assert classes.identity(kind) == before
