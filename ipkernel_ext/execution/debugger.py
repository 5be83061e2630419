"""IPython's debugger on an engine: its commands are typed at a client. How they get here must not be known.

While it waits for a command it waits for the user, and whoever calls the engine waits too. So there
is an end to it: when nobody is there, or types nothing for long, it says so, a post-mortem ends, and
a program that was stopped goes on. Frames that only run user code are not shown, and never stopped in.
"""

from __future__ import annotations

import builtins
import cmd
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from IPython.core.debugger import Pdb

from ipkernel_ext.core.effects import Typed
from ipkernel_ext.execution.traces import ABOVE, RUNS
from ipkernel_ext.units import duration

Ask = Callable[[str, float], Typed | None]
"""Asks for a line, with a prompt and the seconds to wait; None: it did not come in time."""


def ask_nobody(prompt: str, timeout: float) -> Typed | None:
    """Where there is nobody to ask."""
    return Typed(None, "nobody can be asked here")


class _NobodyTypes(EOFError):
    """There is no line, and there will be none."""


class Debugger(Pdb):
    """One debugger of one task.

    Parameters
    ----------
    shell
        The engine's.
    ask
        Asks for a line.
    timeout : float
        Seconds to wait for each.
    """

    def __init__(self, shell: Any, ask: Ask, timeout: float) -> None:
        super().__init__(completekey=None, stdout=sys.stdout, nosigint=True, readrc=False)
        self.use_rawinput = True
        self._engine_shell = shell
        self._ask = ask
        self._timeout = timeout
        self._goes_on = False  # there is a program to go on with
        self._nobody = False
        self._left = False  # interrupted at the prompt
        self._began: FrameType | None = None  # where it was called
        self._at: FrameType | None = None  # where the last line was that it stopped at
        self._returns = False  # it has stopped where a function returns

    def begin(self, frame: FrameType) -> None:
        """Stop in this frame, at its next line."""
        self._goes_on = True
        self._began = frame
        self.set_trace(frame)  # type: ignore[no-untyped-call]
        self.set_step()  # from Python 3.13 on it would stop where it was called

    def post_mortem(self, trace: TracebackType) -> None:
        """Look at what failed."""
        self.reset()
        self.interaction(None, trace)

    def end(self) -> None:
        """The task is over."""
        sys.settrace(None)
        self._began = self._at = None
        self._engine_shell.debugger = None

    # ------------------------------------------------------------ what the user types

    def interaction(self, *args: Any, **kwargs: Any) -> None:
        with self._typing():
            super().interaction(*args, **kwargs)  # type: ignore[no-untyped-call]
        if self._left:
            raise KeyboardInterrupt  # which IPython shows, and drops

    @contextmanager
    def _typing(self) -> Iterator[None]:
        before = builtins.input
        builtins.input = self._input
        self._engine_shell.debugger = self
        try:
            yield
        finally:
            self._engine_shell.debugger = None
            builtins.input = before

    def _input(self, prompt: object = "") -> str:
        if self._nobody:
            raise _NobodyTypes
        try:
            typed = self._ask(str(prompt), self._timeout)
        except KeyboardInterrupt:
            self._left = True
            raise
        if typed is None:
            typed = Typed(None, f"nothing was typed for {duration(self._timeout)}")
        if typed.text is not None:
            return typed.text
        if typed.why:
            self._nobody = True
            self.message(f"the debugger ends: {typed.why}")
            raise _NobodyTypes
        raise EOFError

    def _cmdloop(self) -> None:
        while True:
            try:
                self.cmdloop()
                return
            except KeyboardInterrupt:
                if self._left:
                    raise
                self.message("--KeyboardInterrupt--")

    def do_EOF(self, arg: str) -> Any:
        """End: a program that nobody debugs any more goes on."""
        if self._nobody and self._goes_on:
            return self.do_continue(arg)
        return super().do_EOF(arg)

    def completions(self, before: str, word: str) -> list[str]:
        """What may stand where a word is.

        Parameters
        ----------
        before : str
            What stands before it in its line.
        """
        import rlcompleter  # here, because it looks for a terminal

        frame = self.curframe
        if frame is None:
            return []
        names = rlcompleter.Completer({**frame.f_globals, **frame.f_locals})
        if "." in word:
            return sorted({match.rstrip("(").rstrip("()") for match in names.attr_matches(word)})
        commands = [] if before.strip() else cmd.Cmd.completenames(self, word)
        return sorted({*commands, *(match.rstrip("(").rstrip("()").strip() for match in names.global_matches(word))})

    # ------------------------------------------------------------ frames

    def stop_here(self, frame: FrameType) -> bool:
        return self._is_users(frame) and bool(super().stop_here(frame))  # type: ignore[no-untyped-call]

    def _is_users(self, frame: FrameType) -> bool:
        """Whether a frame is of user code, or of what that has called; what runs user code calls other things too."""
        if frame.f_code.co_filename.startswith(ABOVE):
            return False
        outer = frame
        while outer is not self._began:
            caller = outer.f_back
            if caller is None:
                return False
            if caller.f_code.co_filename.startswith(ABOVE):
                return caller.f_code.co_filename == RUNS or _is_statement(outer)
            outer = caller
        return True

    def user_call(self, frame: FrameType, arguments: None) -> None:
        if not _is_statement(frame):
            super().user_call(frame, arguments)

    def user_line(self, frame: FrameType) -> None:
        self._at = frame
        super().user_line(frame)

    def user_return(self, frame: FrameType, value: Any) -> None:
        """A statement of a cell is a frame of its own: after it comes the next one."""
        if _is_statement(frame) and self._at is frame:
            self.set_step()
            return
        self._returns = True
        super().user_return(frame, value)
        self._returns = False

    def set_next(self, frame: FrameType) -> None:
        if self._returns and _is_statement(frame):
            self.set_step()
        else:
            super().set_next(frame)

    def get_stack(self, *args: Any, **kwargs: Any) -> tuple[list[tuple[FrameType, int]], int]:
        stack, index = super().get_stack(*args, **kwargs)  # type: ignore[no-untyped-call]
        files = [frame.f_code.co_filename for frame, _ in stack]
        first = len(files) - files[::-1].index(RUNS) if RUNS in files else 0
        while first < len(files) - 1 and files[first].startswith(ABOVE):
            first += 1
        return stack[first:], index - first


def _is_statement(frame: FrameType) -> bool:
    """Whether this is a statement of a cell."""
    caller = frame.f_back
    return frame.f_code.co_name == "<module>" and caller is not None and caller.f_code.co_filename.startswith(ABOVE)


def of_user_code(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from where user code begins; None where there is none of it."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(ABOVE):
        trace = trace.tb_next
    return trace
