"""A cell that is plain Python does what it does when IPython runs it."""

from __future__ import annotations

import linecache
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import pytest

from ipkernel_ext.execution.output import OutputBuffer
from ipkernel_ext.execution.shell import EngineShell

PLAIN = [
    "a = 5",
    "a = 5\n",
    "a = 5\na",
    "a, b = 1, 2; a + b",
    "1 + 1",
    "1 + 1;",
    "None",
    "'text'",
    "# nothing but a comment\nx = 1",
    "def f(x):\n    return x / 0\n\nf(1)",
    "class C:\n    def __repr__(self):\n        raise ValueError('no')\n\nC()",
    "x = 1\nraise KeyError('k')\nx = 2",
    "x = 1\nreturn 5",
    "raise SystemExit(3)",
    "import bdb\nraise bdb.BdbQuit",
    "raise KeyboardInterrupt",
    "for i in range(3):\n    print(i)",
    "print('a'); print('b')",
    "from __future__ import annotations",
    "x: undefined_name = 1",
    "list = 5",
    "print",
    "del nothing",
    "import sys; print(sys.excepthook.__name__, sys.displayhook.__class__.__name__, __name__)",
    "x = 1 is 1",
    "é = 'ü'; é",
    "'''\n%magic\n!shell\n'''",
    "{\n1: 2}",
    "if True:\n    3",
    "get_ipython().user_ns is globals()",
    "raise ExceptionGroup('several', [ValueError(1), KeyError(2)])",
    "_ = 7\n_",
    "Out",
    "In[-1]",
    "assert False, 'why'",
    "print(_i)",
    "x = 5\nx ; y = 6\ny",
]

IPYTHONS = [
    "",
    "   ",
    "\n\na = 5",
    "  a = 5",
    "%magic",
    "%pwd",
    "x = %pwd",
    "!echo hello",
    "x = !echo hello",
    "a?",
    "%%capture c\nprint(5)",
    "pwd",
    "exit",
    "quit",
    "In [1]: a = 5",
    ">>> a = 5\n>>> a",
    "x = 1\n...",
    "await something",
    "async def f(): pass",
    "x = (",
    "x = 'unfinished",
    "def f():\nreturn 5",
    "'\\d'",
    "x = 1\n%pwd",
    "\tx = 1",
    "a = 5 # a\\",
    "1 = x",
    "# only a comment",
    "/f 1",
    ",f a b",
]


class Session:
    """A shell in which cells are run one after the other, and what is seen of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, plain: bool) -> None:
        self.output = OutputBuffer()
        self.shell = EngineShell(self.output)
        self.plain: list[str] = []
        run = self.shell._plain.run

        def watched(code: str) -> Any:
            ended = run(code) if plain else None
            if ended is not None:
                self.plain.append(code)
            return ended

        monkeypatch.setattr(self.shell._plain, "run", watched)

    def run(self, code: str) -> Any:
        """Run a cell; all that may differ."""
        shell = self.shell
        hooks = sys.excepthook, sys.displayhook
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            warnings.filterwarnings("ignore", "To exit: use")
            error = shell.run(code)
        assert (sys.excepthook, sys.displayhook) == hooks
        own = {"_dh", "_ih", "_oh", "In", "Out", "get_ipython", "open", "exit", "quit", "__builtins__"}
        return (
            type(error),
            str(error),
            shell.problem_text,
            shell.execution_count,
            shell.has_value,
            shell.last_execution_succeeded,
            {(type(one.message), str(one.message)) for one in warned},
            {name: shown(value) for name, value in shell.user_ns.items() if name not in own},
            list(shell.user_ns["In"]),
            {number: shown(value) for number, value in shell.kept().items() if value is not shell.kept()},
            sorted(shell.user_ns_hidden),
            shell.compile.flags,
            [shown(piece) for piece in self.output.take()],
        )


def shown(value: Any) -> str:
    """What an object looks like, without where it is."""
    try:
        return re.sub("0x[0-9a-f]+", "0x", repr(value))
    except ValueError as error:
        return str(error)


def compare(monkeypatch: pytest.MonkeyPatch, cells: Sequence[str], prepare: str = "") -> list[str]:
    """Run cells both ways; those that were plain."""
    sessions = [Session(monkeypatch, plain) for plain in (True, False)]
    for session in sessions:
        with session.shell.being_global():
            if prepare:
                session.run(prepare)
            session.plain.clear()
    for cell in cells:
        seen = []
        for session in sessions:
            with session.shell.being_global():
                seen.append(session.run(cell))
        assert seen[0] == seen[1], cell
    return sessions[0].plain


@pytest.mark.parametrize("code", PLAIN)
def test_a_plain_cell_does_what_it_does_in_ipython(monkeypatch, code: str) -> None:
    assert compare(monkeypatch, [code]) == [code]


@pytest.mark.parametrize("code", IPYTHONS)
def test_other_cells_are_ipythons(monkeypatch, code: str) -> None:
    assert compare(monkeypatch, [code]) == []


def test_cells_that_follow_each_other_leave_the_same_behind(monkeypatch) -> None:
    assert len(compare(monkeypatch, PLAIN + IPYTHONS + PLAIN)) == 2 * len(PLAIN)


def test_the_lines_of_a_cell_are_known_to_tracebacks(monkeypatch) -> None:
    before = set(linecache.cache)
    compare(monkeypatch, ["def f():\n    return 1 / 0", "f()"])
    fresh = [linecache.cache[name] for name in linecache.cache.keys() - before]
    assert any("return 1 / 0" in "".join(entry[2]) for entry in fresh)


@pytest.mark.parametrize(
    "prepare",
    [
        "get_ipython().input_transformers_post.append(lambda lines: [line.replace('5', '6') for line in lines])",
        "get_ipython().input_transformers_cleanup.append(lambda lines: [line.replace('5', '6') for line in lines])",
        "import ast\nclass T(ast.NodeTransformer):\n    def visit_Constant(self, node):\n"
        "        return ast.copy_location(ast.Constant(6), node)\nget_ipython().ast_transformers.append(T())",
        "get_ipython().ast_node_interactivity = 'all'",
        "get_ipython().set_custom_exc((ValueError,), lambda self, *rest, **more: print('custom'))",
        "get_ipython().autocall = 2",
        "from IPython.core.macro import Macro\na = Macro('b = 7')",
        "from IPython.core.prefilter import PrefilterTransformer\n"
        "class P(PrefilterTransformer):\n    def transform(self, line, rest):\n        return line.replace('5', '6')\n"
        "P(get_ipython(), get_ipython().prefilter_manager)",
    ],
)
def test_what_is_registered_with_ipython_has_its_effect(monkeypatch, prepare: str) -> None:
    cells = ["a", "x = 5\nx", "raise ValueError(5)", "x = 5", "print (5)"]
    assert len(compare(monkeypatch, cells, prepare)) == (2 if "Macro" in prepare else 0) * 2


@pytest.mark.parametrize("event", ["pre_execute", "pre_run_cell", "post_execute", "post_run_cell"])
def test_who_listens_to_cells_is_told_of_them(monkeypatch, event: str) -> None:
    prepare = (
        "def told(*args):\n"
        "    names = 'raw_cell', 'store_history', 'transformed_cell', 'execution_count', 'success', 'error_in_exec'\n"
        "    print([(name, getattr(arg, name, None)) for arg in args for name in names if name != 'error_in_exec'"
        " or getattr(arg, name, None) is None])\n"
        f"get_ipython().events.register({event!r}, told)"
    )
    cells = ["a = 5", "a", "1 / 0"]
    assert compare(monkeypatch, cells, prepare) == cells


def test_an_interrupt_in_the_midst_of_a_cell_ends_it(monkeypatch) -> None:
    session = Session(monkeypatch, True)
    with session.shell.being_global():
        session.shell.user_ns["interrupt"] = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
        error = session.shell.run("x = 1\ninterrupt()\nx = 2")
    assert isinstance(error, KeyboardInterrupt)
    assert session.shell.user_ns["x"] == 1
    assert session.plain
