"""Cells that are Python as they stand, run as IPython runs them, but without asking what else they may be.

Nine tenths of what IPython does for ``a = 5`` is to find that there is no magic, no ``!``, no ``?`` and no ``await`` in
it, by tokenizing and compiling it several times. A cell that Python can parse has none of these, apart from a few words
which are looked for here. Whatever is unusual, in the cell or in what was registered with IPython, is IPython's.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from types import CodeType
from typing import TYPE_CHECKING, Any

from IPython.core.autocall import IPyAutocall
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult
from IPython.core.macro import Macro

if TYPE_CHECKING:
    from ipkernel_ext.execution.shell import EngineShell

_UNUSUAL = re.compile(r"await|async|\.\.\.|\bIn \[|\\|^\s")
"""What IPython may take for something else in Python that is valid; what Python may warn of, which is to do so once."""

_SETTINGS = ["ast_transformers", "input_transformers_post", "autocall", "ast_node_interactivity"]

_new_result: Any = ExecutionResult
_INFO = inspect.signature(ExecutionInfo).parameters
"""What this IPython tells of a cell."""


def _info(code: str, text: str) -> Any:
    """What IPython tells those who listen to its events."""
    new: Any = ExecutionInfo
    told = {
        "raw_cell": code,
        "store_history": True,
        "silent": False,
        "shell_futures": True,
        "cell_id": None,
        "cell_meta": None,
        "transformed_cell": text,
    }
    return new(**{name: told[name] for name in _INFO})


_WORD = re.compile(r"[^\W\d]\w*")


class PlainCells:
    """The plain cells of a shell.

    Parameters
    ----------
    shell : EngineShell
        As it was made: nothing has been registered with it yet.
    """

    def __init__(self, shell: EngineShell) -> None:
        self._shell: Any = shell  # as IPython's classes are: without types
        self._events = self._shell.events
        self._traps = self._shell.builtin_trap, self._shell.display_trap
        self._inputs: Any = self._shell.input_transformer_manager
        self._lines: Any = self._shell.prefilter_manager
        self._usual = [list(registered) for registered in self._registered()]
        self._counts_first = self._shell.displayhook.prompt_count < self._shell.execution_count
        self._shell.observe(self._look, _SETTINGS)
        self._look()

    def _look(self, _: Any = None) -> None:
        """What is set that changes what is done with cells: told of, since it is slow to ask for."""
        transformers, inputs, calls, shows = (getattr(self._shell, name) for name in _SETTINGS)
        self._more = transformers, inputs
        self._set = calls != 0 or shows != "last_expr"

    def run(self, code: str) -> ExecutionResult | None:
        """Run a cell; None: it was not run, since it is IPython's."""
        if not code or _UNUSUAL.search(code) or not self._is_usual():
            return None
        text = code if code.endswith("\n") else code + "\n"
        if len(text.splitlines()) == 1 and self._may_be_more(text):
            return None
        compiler = self._shell.compile
        name = compiler.get_code_name(code, text, self._shell.execution_count)
        try:
            tree = compiler.ast_parse(text, filename=name)
        except Exception:
            return None
        return self._run(code, text, tree.body) if tree.body else None

    def _registered(self) -> list[Any]:
        """What changes cells, in IPython's lists of it."""
        inputs, lines = self._inputs, self._lines
        return [
            inputs.cleanup_transforms,
            inputs.line_transforms,
            inputs.token_transformers,
            lines.transformers,
            lines.checkers,
        ]

    def _is_usual(self) -> bool:
        """Whether nothing was registered or set that changes cells, or what is done with them."""
        shell = self._shell
        return (
            self._registered() == self._usual
            and not (self._set or any(self._more) or shell.custom_exceptions)
            and not shell.logger.log_active
        )

    def _may_be_more(self, line: str) -> bool:
        """Whether a single line may be a magic without its ``%``, a macro, or what is called without parentheses."""
        found = _WORD.match(line)
        if found is None:
            return False
        word = found[0]
        names = self._shell.user_ns
        if isinstance(names.get(word), IPyAutocall | Macro):
            return True
        assigns = line[found.end() :].lstrip()[:1] in ("=", ",")
        return not assigns and self._shell.find_magic(word) is not None

    def _run(self, code: str, text: str, statements: list[ast.stmt]) -> ExecutionResult:
        shell, events = self._shell, self._events
        builtins, display = self._traps
        result: ExecutionResult = _new_result(None)
        result.execution_count = number = shell.execution_count
        shell.execution_count = number + self._counts_first
        try:
            events.trigger("pre_execute")
            if events.callbacks["pre_run_cell"]:
                result.info = _info(code, text)
                events.trigger("pre_run_cell", result.info)
            shell.history_manager.store_inputs(number, text, code)
            with builtins, display:
                name = shell.compile.cache(text, number, raw_code=code)
                shell.displayhook.exec_result = result
                self._execute(statements, name, result)
        except BaseException as error:
            result.error_in_exec = error
        shell.execution_count = number + 1
        shell.last_execution_succeeded = result.success
        shell.last_execution_result = result
        events.trigger("post_execute")
        if events.callbacks["post_run_cell"]:
            result.info = result.info or _info(code, text)
            events.trigger("post_run_cell", result)
        return result

    def _execute(self, statements: list[ast.stmt], name: str, result: ExecutionResult) -> None:
        """One statement after the other, each compiled when those before it have run. The last value is shown."""
        shell = self._shell
        compiler = shell.compile
        last = statements[-1]
        try:
            for statement in statements:
                if statement is last and isinstance(statement, ast.Expr):
                    compiled = compiler(ast.Interactive([statement]), name, "single")
                else:
                    compiled = compiler(ast.Module([statement], []), name, "exec")
                self._call(compiled, result)
                if result.error_in_exec is not None:
                    return
        except BaseException as error:
            result.error_before_exec = error
            shell.showtraceback()

    def _call(self, compiled: CodeType, result: ExecutionResult) -> None:
        shell = self._shell
        shell.sys_excepthook = before = sys.excepthook
        sys.excepthook = shell.excepthook
        try:
            try:
                exec(compiled, shell.user_global_ns, shell.user_ns)
            finally:
                sys.excepthook = before
        except BaseException as error:
            result.error_in_exec = error
            shell.showtraceback()
