"""An engine's IPython shell: real magics, real display, no terminal, no history file, no input.

Errors are kept for the runner instead of being printed; what is displayed goes into the output
buffer. Several shells may live in one process; ``become_global`` makes one the process's own.
Tasks, and how they are asked for, must not be known here.
"""

from __future__ import annotations

import getpass
import linecache
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from IPython.core import page
from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import UsageError
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

from ipkernel_ext.execution import child
from ipkernel_ext.execution.cells import PlainCells
from ipkernel_ext.execution.output import CaptureStream, OutputBuffer
from ipkernel_ext.execution.traces import format_traceback

KEPT = 20
"""How many values stay in ``Out``, and how many cells in ``In``."""

SOURCES = 1000
"""How many cells keep their source lines for tracebacks."""

_OWN = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open"})


def _print_page(text: Any, start: int = 0, screen_lines: int = 0) -> None:
    """What IPython would show in a pager, as lines of output: so they are labelled, and folded."""
    lines = str(text["text/plain"] if isinstance(text, dict) else text).splitlines()
    print("\n".join(lines[start:]))


class _Hook(DisplayHook):
    """Sends the last value of a cell into the output buffer and keeps the latest few."""

    shell: EngineShell
    exec_result: Any = None  # no trait, as with those of the shell

    def __call__(self, result: Any = None) -> None:
        self.check_for_underscore()
        if result is None or self.quiet():
            return
        bundle, metadata = self.compute_format_data(result)
        self.update_user_ns(result)
        self.fill_exec_result(result)
        self.shell.has_value = True
        if bundle:
            self.shell.output.display(bundle, metadata or {}, self.shell.cell)

    def update_user_ns(self, result: Any) -> None:
        super().update_user_ns(result)
        kept = self.shell.kept()
        if result is kept:  # which IPython does not keep in itself
            self.shell.showed_out = self.shell.cell
        for old in sorted(kept)[:-KEPT]:
            del kept[old]
            self.shell.forget(f"_{old}")


class _Publisher(DisplayPublisher):
    """Sends what is displayed into the output buffer."""

    shell: EngineShell

    def publish(
        self, data: Any, metadata: Any = None, *_: Any, transient: Any = None, update: bool = False, **__: Any
    ) -> None:
        id = str((transient or {}).get("display_id") or "")
        self.shell.output.display(dict(data), dict(metadata or {}), id=id, update=bool(update and id))

    def clear_output(self, wait: bool = False) -> None:
        """Nothing: what was shown stays."""


class _Compiler(CachingCompiler):
    """Names a cell, or the file that its code came from, and forgets the lines of old ones."""

    filename = ""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[str, None] = {}  # in order of use
        self._named = "", 0, ""  # the latest cell that got a name, its number, and the name

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        if self.filename:
            return self.filename
        if self._named[:2] != (transformed_code, number):
            name = super().get_code_name(raw_code, transformed_code, number)
            self._named = transformed_code, number, name
        return self._named[2]

    def cache(self, *args: Any, **kwargs: Any) -> str:
        name: str = super().cache(*args, **kwargs)
        self._names.pop(name, None)
        self._names[name] = None
        if len(self._names) > SOURCES:
            old = next(iter(self._names))
            del self._names[old]
            linecache.cache.pop(old, None)
            self._filename_map.pop(old, None)
        return name


class _History(HistoryManager):
    """Keeps the latest cells in memory and nothing on disk."""

    _i00 = _i = _ii = _iii = ""  # no traits, as with those of the shell

    def store_inputs(self, line_num: int, source: str, source_raw: str | None = None) -> None:
        raw = (source if source_raw is None else source_raw).rstrip("\n")
        if self._exit_re.match(raw.strip()):
            return
        shell = self.shell
        for lines, cell in ((self.input_hist_parsed, source.rstrip("\n")), (self.input_hist_raw, raw)):
            lines.append(cell)
            if len(lines) > KEPT:
                lines[-KEPT - 1] = ""
        self._iii, self._ii, self._i, self._i00 = self._ii, self._i, self._i00, raw
        names = {"_i": self._i, "_ii": self._ii, "_iii": self._iii, f"_i{line_num}": raw}
        shell.user_ns.update(names)
        shell.user_ns_hidden.update(names)
        shell.forget(f"_i{line_num - KEPT}")

    def forget_exceptions(self) -> None:
        """Not every IPython keeps them."""
        if hasattr(self, "exceptions"):
            self.exceptions.clear()

    def begin(self) -> None:
        """Nothing has been typed yet."""
        self.reset()
        self._i00 = self._i = ""


class EngineShell(InteractiveShell):
    """The shell of one engine.

    Parameters
    ----------
    output : OutputBuffer
        Where displayed objects go.

    Attributes
    ----------
    cell : int
        Number of the cell that runs, or ran last.
    has_value : bool
        It ended in a value, which is in ``Out``.
    showed_out : int
        Number of the latest cell whose value was ``Out`` itself; 0: none.
    problem_text : str
        Traceback of what it raised.
    input_timeout : float
        Seconds for which code waits for a line from its user.
    on_breakpoint
        Called with the frame in which user code calls ``breakpoint``.
    debugger : Debugger or None
        The one that waits for a command.
    """

    input_timeout = 3600.0
    on_breakpoint: Callable[[FrameType], None] = staticmethod(lambda frame: None)
    debugger: Any = None

    compiler_class = Type(_Compiler)
    displayhook_class = Type(_Hook)
    display_pub_class = Type(_Publisher)

    # no traits: to set one is slow, and nobody watches these, which are set for each cell
    execution_count = 1
    last_execution_succeeded = True
    last_execution_result: Any = None

    cell = 0
    compile: _Compiler
    history_manager: _History
    has_value = False
    showed_out = 0
    problem_text = ""
    _untransformed: Exception | None = None

    def __init__(self, output: OutputBuffer) -> None:
        self.output = output
        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor"
        config.InteractiveShell.autoindent = False
        config.InteractiveShell.cache_size = 10 * KEPT
        config.Completer.use_jedi = False
        before = sys.modules.get("__main__")
        super().__init__(config=config, user_module=types.ModuleType("__main__", "The engine's namespace."))
        if before is not None:
            sys.modules["__main__"] = before
        self.builtin_trap.auto_builtins["input"] = self._input = self._no_input
        self.set_hook("show_in_pager", page.as_hook(_print_page), 90)
        warnings.filterwarnings("ignore", "To exit: use")
        self._plain = PlainCells(self)

    def become_global(self) -> None:
        """Make this the shell of the process, in all its modules and threads.

        ``get_ipython()`` gives it everywhere, its namespace is ``__main__``, nothing reads from the
        keyboard, and what is printed between tasks goes into the output buffer too.
        """
        self._set_global(dict.fromkeys(type(self)._walk_mro(), self))
        sys.modules["__main__"] = self.user_module
        getpass.getpass = self._input
        sys.breakpointhook = self._on_breakpoint
        sys.stdout, sys.stderr = CaptureStream(self.output, "stdout"), CaptureStream(self.output, "stderr")
        self.builtin_trap.__enter__()

    @contextmanager
    def being_global(self) -> Iterator[None]:
        """The same for a while, where several shells share a process."""
        shells: dict[Any, Any] = {kind: kind._instance for kind in type(self)._walk_mro()}
        before = sys.modules["__main__"], getpass.getpass, sys.breakpointhook, sys.stdout, sys.stderr
        self.become_global()
        try:
            yield
        finally:
            self.builtin_trap.__exit__(None, None, None)
            self._set_global(shells)
            sys.modules["__main__"], getpass.getpass, sys.breakpointhook, sys.stdout, sys.stderr = before

    @staticmethod
    def _set_global(shells: dict[Any, Any]) -> None:
        for kind, shell in shells.items():
            kind._instance = shell

    # ------------------------------------------------------------ running

    def run(self, code: str, filename: str = "") -> BaseException | None:
        """Run a cell; what it raised, or None. The text of the traceback is in ``problem_text``.

        Parameters
        ----------
        filename : str
            Of the script that the code is, for ``__file__`` and tracebacks; "" for a cell.
        """
        self.cell = self.execution_count
        self.has_value = False
        self.problem_text = ""
        if filename:
            self.user_ns["__file__"] = filename
        else:
            self.user_ns.pop("__file__", None)
        self.compile.filename = filename
        arguments = sys.argv
        if filename:
            sys.argv = [filename]
        try:
            result = self._plain.run(code)
            if result is None:
                result = self.run_cell(code, store_history=True)
        finally:
            if filename:
                sys.argv = arguments
            self.compile.filename = ""
            self._untransformed = self.last_execution_result = self.displayhook.exec_result = None
            self.history_manager.forget_exceptions()
        error: BaseException | None = result.error_before_exec or result.error_in_exec
        if error is not None and not self.problem_text:
            self.problem_text = format_traceback(error)
        return error

    def warm_up(self) -> None:
        """Run a cell and forget it, so that a user's first one is as fast as those that follow."""
        self.run("None")
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget the cells that were run, but not what they did: the next one is the first."""
        for number in range(1, self.execution_count):
            self.forget(f"_i{number}")
            self.forget(f"_{number}")
        self.kept().clear()
        self.execution_count, self.showed_out = 1, 0
        self.history_manager.begin()

    def transform_cell(self, raw_cell: str) -> str:
        """Python code from a cell, in which magics are calls and lines have the numbers they had."""
        try:
            transformed: str = super().transform_cell(raw_cell)
        except Exception as error:
            self._untransformed = error
            raise
        begins = len(raw_cell) - len(raw_cell.lstrip())
        return "\n" * raw_cell.count("\n", 0, begins) + transformed  # IPython drops empty lines at the top

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
        """Keep the cell's traceback instead of printing it; print that of a failed ``__repr__``."""
        error = exc_tuple[1] if exc_tuple else sys.exc_info()[1]
        if error is None:
            return
        text = f"UsageError: {error}\n" if isinstance(error, UsageError) else format_traceback(error)
        if exc_tuple and error is not self._untransformed:
            self.output.write("stderr", text)
        else:
            self.problem_text = text

    def showsyntaxerror(self, *args: Any, **kwargs: Any) -> None:
        """Keep the error instead of printing it."""
        self.showtraceback()

    def _format_exception_for_storage(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Nothing: the runner has the traceback, and rendering it once more is slow."""
        return {}

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Nothing: output is the output buffer's, no second copy of it is kept."""
        yield

    def ask_exit(self) -> None:
        """``exit`` and ``quit`` end the cell; the engine lives on."""
        raise SystemExit

    def enable_gui(self, gui: Any = None) -> None:
        """Nothing: there is no event loop to hook into."""

    def init_history(self) -> None:
        self.history_manager = _History(shell=self, parent=self)
        configurables: list[Any] = self.configurables
        configurables.append(self.history_manager)

    def init_virtualenv(self) -> None:
        """Nothing: ``sys.path`` is what the launcher has made it."""

    def atexit_operations(self) -> None:
        """Nothing: there is no history to close."""

    # ------------------------------------------------------------ the user's names

    def keys(self) -> list[str]:
        """The user's names, sorted."""
        hidden = self.user_ns_hidden
        names = self.user_ns
        missing = object()
        return sorted(
            name
            for name in list(names)
            if isinstance(name, str)
            and not name.startswith("_")
            and name not in _OWN
            and hidden.get(name, missing) is not names[name]
        )

    def kept(self) -> dict[int, Any]:
        """``Out``: the latest values, by the number of their cell."""
        kept = self.user_ns.get("_oh")
        return kept if isinstance(kept, dict) else {}

    def forget(self, name: str) -> None:
        """Unbind a name of IPython's own, if it is bound."""
        self.user_ns.pop(name, None)
        self.user_ns_hidden.pop(name, None)

    def empty(self) -> None:
        """Empty the namespace."""
        self.reset(new_session=False)

    # ------------------------------------------------------------ child processes and input

    def system(self, command: str) -> None:
        """Run a shell command; its output streams, an interrupt ends it."""
        expanded = self.var_expand(command, depth=1)
        self.user_ns["_exit_code"] = child.run(expanded, lambda text: self.output.write("stdout", text))

    system_piped = system_raw = system

    def _on_breakpoint(self, *_: Any, **__: Any) -> None:
        if os.environ.get("PYTHONBREAKPOINT") != "0":
            self.on_breakpoint(sys._getframe(1))

    def _no_input(self, *_: Any, **__: Any) -> str:
        frame = sys._getframe(1)
        raise EOFError(
            f"engine {self.output.engine_id()} has no keyboard: line {frame.f_lineno} of "
            f"{frame.f_code.co_filename} asks for input; push the value instead"
        )
