"""An engine's IPython shell: real magics, real display, no terminal, no history file, no input.

Errors are kept for the runner instead of being printed; what is displayed goes into the output
buffer. Several shells may live in one process; ``become_global`` makes one the process's own.
"""

from __future__ import annotations

import builtins
import getpass
import os
import signal
import subprocess
import sys
import traceback
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

from ipkernel_ext.execution.output import OutputBuffer

KEPT = 20
"""How many values stay in ``Out``."""

_OWN = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open"})


class _Hook(DisplayHook):
    """Sends the last value of a cell into the output buffer and keeps the latest few."""

    shell: EngineShell

    def __call__(self, result: Any = None) -> None:
        self.check_for_underscore()
        if result is None or self.quiet():
            return
        bundle, metadata = self.compute_format_data(result)
        self.update_user_ns(result)
        self.shell.has_value = True
        self.shell.output.display(bundle, metadata or {}, self.shell.cell)

    def update_user_ns(self, result: Any) -> None:
        super().update_user_ns(result)
        names = self.shell.user_ns
        for old in [n for n in names["_oh"] if n <= self.shell.cell - KEPT]:
            del names["_oh"][old]
            names.pop(f"_{old}", None)


class _Publisher(DisplayPublisher):
    """Sends what is displayed into the output buffer."""

    shell: EngineShell

    def publish(self, data: Any, metadata: Any = None, **_: Any) -> None:
        self.shell.output.display(dict(data), dict(metadata or {}))

    def clear_output(self, wait: bool = False) -> None:
        """Nothing: what was shown stays."""


class EngineShell(InteractiveShell):
    """The shell of one engine.

    Parameters
    ----------
    output : OutputBuffer
        Where displayed objects go.
    """

    displayhook_class = Type(_Hook)
    display_pub_class = Type(_Publisher)

    cell = 0  # number of the running cell
    has_value = False  # the running cell ended in a value
    problem_text = ""  # traceback of what the running cell raised

    def __init__(self, output: OutputBuffer) -> None:
        self.output = output
        config = Config()
        config.HistoryManager.enabled = False
        config.HistoryManager.hist_file = ":memory:"
        config.InteractiveShell.colors = "nocolor"
        config.InteractiveShell.autoindent = False
        config.InteractiveShell.cache_size = 1000
        names = types.ModuleType("__main__", "The engine's namespace.")
        before = sys.modules.get("__main__")
        super().__init__(config=config, user_module=names)
        if before is not None:
            sys.modules["__main__"] = before
        self._input = self._no_input
        self.user_ns["input"] = self.user_ns_hidden["input"] = self._input
        warnings.filterwarnings("ignore", "To exit: use")

    def become_global(self) -> None:
        """Make this the shell of the process: ``get_ipython()`` gives it everywhere, its namespace is ``__main__``."""
        for kind in type(self)._walk_mro():
            kind._instance = self
        sys.modules["__main__"] = self.user_module
        builtins.input = self._input
        getpass.getpass = self._input

    @contextmanager
    def being_global(self) -> Iterator[None]:
        """The same for a while, where several shells share a process."""
        shells = {kind: kind._instance for kind in type(self)._walk_mro()}
        before = sys.modules["__main__"], builtins.input, getpass.getpass
        self.become_global()
        try:
            yield
        finally:
            for kind, shell in shells.items():
                kind._instance = shell
            sys.modules["__main__"], builtins.input, getpass.getpass = before

    # ------------------------------------------------------------ running

    def run(self, code: str, filename: str = "") -> BaseException | None:
        """Run a cell; what it raised, or None. The text of the traceback is in ``problem_text``."""
        self.cell = self.execution_count
        self.has_value = False
        self.problem_text = ""
        self.user_ns.pop("__file__", None)
        if filename:
            self.user_ns["__file__"] = filename
        result = self.run_cell(code, store_history=True)
        self._forget_input()
        error: BaseException | None = result.error_before_exec or result.error_in_exec
        if error is not None and not self.problem_text:
            self.problem_text = "".join(traceback.format_exception_only(error))
        return error

    def _forget_input(self) -> None:
        old = self.cell - KEPT
        for inputs in (self.user_ns["In"], self.history_manager.input_hist_raw):
            if 0 < old < len(inputs):
                inputs[old] = ""
        self.user_ns.pop(f"_i{old}", None)

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        """Keep the traceback instead of printing it."""
        kind, value, trace = sys.exc_info()
        if value is not None and kind is not None:
            self.problem_text = format_traceback(value)

    showsyntaxerror = showtraceback

    def showindentationerror(self) -> None:
        """Keep the error instead of printing it."""
        self.showtraceback()

    def ask_exit(self) -> None:
        """``exit`` and ``quit`` end the cell; the engine lives on."""
        raise SystemExit

    def enable_gui(self, gui: Any = None) -> None:
        """Nothing: there is no event loop to hook into."""

    def init_io(self) -> None:
        """Nothing: streams are installed around each task."""

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
            if not name.startswith("_") and name not in _OWN and hidden.get(name, missing) is not names[name]
        )

    def empty(self) -> None:
        """Empty the namespace."""
        self.reset(new_session=False)
        self.user_ns["input"] = self.user_ns_hidden["input"] = self._input

    # ------------------------------------------------------------ child processes and input

    def system(self, command: str) -> None:
        """Run a shell command; its output streams, an interrupt ends it."""
        child = subprocess.Popen(
            self.var_expand(command, depth=1),
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert child.stdout is not None
        try:
            while chunk := os.read(child.stdout.fileno(), 65536):
                self.output.write("stdout", chunk.decode(errors="replace"))
            code = child.wait()
        except BaseException:
            os.killpg(child.pid, signal.SIGTERM)
            child.wait()
            raise
        finally:
            child.stdout.close()
        self.user_ns["_exit_code"] = code

    system_piped = system_raw = system

    def _no_input(self, *_: Any, **__: Any) -> str:
        frame = sys._getframe(1)
        raise EOFError(
            f"engine {self.output.engine_id()} has no keyboard: line {frame.f_lineno} of "
            f"{frame.f_code.co_filename} asks for input; push the value instead"
        )


def format_traceback(error: BaseException) -> str:
    """The traceback with source lines, without the frames that belong to the engine and to IPython."""
    described = traceback.TracebackException.from_exception(error)
    todo: list[traceback.TracebackException | None] = [described]
    while todo:
        part = todo.pop()
        if part is not None:
            kept = [frame for frame in part.stack if not _ours(frame.filename)]
            part.stack = traceback.StackSummary.from_list(kept)
            todo += [part.__cause__, part.__context__]
    text = "".join(described.format())
    return text if described.stack else text.removeprefix("Traceback (most recent call last):\n")


def _ours(filename: str) -> bool:
    parts = filename.replace("\\", "/").split("/")
    return "IPython" in parts or "ipkernel_ext" in parts or filename.endswith("contextlib.py")
