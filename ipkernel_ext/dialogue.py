"""The user's side of a debugger on an engine: prompts come from there, lines are typed here.

Works at a terminal, with completion that the engine is asked for, and in a notebook, whose kernel
asks for the line. What a result is, and how lines travel, is not known here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.messages import TaskId

TURN = 0.5  # seconds between looks at whether something has ended
PATIENCE = 1.0  # seconds in which an engine must say what may stand at the cursor
NO_KEYBOARD = "its client has no terminal"

Output = m.Stream | m.Display


class Asking(Protocol):
    """As much of a result as is needed here."""

    asked: Mapping[int, m.InputWanted]

    def done(self) -> bool:
        """Whether all has ended."""

    def get(self) -> Any:
        """Its value, or its error."""

    def follow(self, until: float | None = None, enough: Callable[[], bool] = ...) -> Iterator[Output]:
        """Output as it comes."""

    def answer(self, wanted: m.InputWanted, text: str | None, why: str = "") -> None:
        """Give a line."""

    def is_open(self, task: TaskId) -> bool:
        """Whether a task has not ended."""

    def look(self, engine: int, inspection: m.Inspection, patience: float) -> dict[str, Any]:
        """What an engine tells."""

    def interrupt(self, engine: int) -> None:
        """Interrupt what it runs."""


def possible() -> bool:
    """Whether there is somebody who could type: at a terminal, or in a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is not None:
        return True
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # closed
        return False


def announce(wanted: m.InputWanted) -> None:
    """Say that code waits, where nobody waits for it."""
    id = wanted.engine
    print(f"engine {id} waits at a breakpoint: %pxdebug {id}, or rc.debug({id})", file=sys.stderr, flush=True)


_read_now: m.InputWanted | None = None
"""What the user is asked for at this moment; a process has one keyboard."""


def announce_end(wanted: m.InputWanted) -> None:
    """Say that something is not wanted any more, if it is what the user is asked for at this moment."""
    if wanted is not _read_now:
        return
    print(f"\nengine {wanted.engine} does not wait for this any more: Enter goes on", file=sys.stderr, flush=True)


def attend(result: Asking) -> Any:
    """Show all that a result's tasks write, and have the user type what they ask for; its value."""
    while not result.done():
        for output in result.follow(time.monotonic() + TURN, lambda: bool(result.asked)):
            _write(output)
        hold(result)
    for output in result.follow(time.monotonic()):
        _write(output)
    return result.get()


def hold(result: Asking, engine: int | None = None, others: Callable[[Output], None] = lambda output: None) -> None:
    """Have the user type what tasks ask for, one engine after the other, until none asks.

    Parameters
    ----------
    engine : int or None
        Only what is asked there.
    others
        Told what engines write meanwhile that the user does not talk to, and the values of cells that end.
    """
    while True:
        asked = list(result.asked.values())
        asked.sort(key=lambda wanted: wanted.engine)
        wanted = next((wanted for wanted in asked if engine is None or wanted.engine == engine), None)
        if wanted is None:
            return
        _talk(result, wanted, others)


def _talk(result: Asking, wanted: m.InputWanted, others: Callable[[Output], None]) -> None:
    """One engine, until its task goes on for longer than a command takes, or ends."""
    following: m.InputWanted | None = wanted
    while following is not None:
        wanted = following
        text, why = _read(result, wanted)
        result.answer(wanted, text, why)
        following = _after(result, wanted, others)


def _after(result: Asking, wanted: m.InputWanted, others: Callable[[Output], None]) -> m.InputWanted | None:
    """Show what a command writes; what the task asks for then, or None when it has ended."""
    number = wanted.task.number
    interrupted = False

    def enough() -> bool:
        return number in result.asked or not result.is_open(wanted.task)

    while True:
        try:
            for output in result.follow(time.monotonic() + TURN, enough):
                if output.engine == wanted.engine and not _is_value(output):
                    _write(output)
                else:
                    others(output)
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            result.interrupt(wanted.engine)
        if enough():
            return result.asked.get(number)


def _is_value(output: Output) -> bool:
    """Whether it is the value of the cell, which no command of the debugger gave."""
    return isinstance(output, m.Display) and output.execution is not None


def _write(output: Output) -> None:
    if isinstance(output, m.Stream):
        stream = sys.stdout if output.name == "stdout" else sys.stderr
        stream.write(output.text)
        stream.flush()
    else:
        from IPython.display import display

        display(output.bundle, metadata=output.metadata, raw=True)  # type: ignore[no-untyped-call]


def _read(result: Asking, wanted: m.InputWanted) -> tuple[str | None, str]:
    """A line, or why there is none ("": the end of the input). Two Ctrl-C in a row go on."""
    global _read_now
    again = False
    while True:
        _read_now = wanted
        try:
            with _Completing(result, wanted):
                return input(f"[{wanted.engine}] {wanted.prompt}"), ""
        except KeyboardInterrupt:
            print()
            if again:
                raise
            again = True
            print("Ctrl-C once more leaves the debugger")
        except EOFError:
            print()
            return None, ""
        except (OSError, NotImplementedError, ValueError):
            return None, NO_KEYBOARD
        finally:
            _read_now = None


class _Completing:
    """The tab key completes what is typed at a terminal, with what the engine says."""

    def __init__(self, result: Asking, wanted: m.InputWanted) -> None:
        self._result = result
        self._wanted = wanted
        self._readline: Any = None
        self._before: Any = None
        self._found: list[str] = []

    def __enter__(self) -> None:
        if not possible() or not sys.stdin.isatty():
            return
        try:
            import readline
        except ImportError:
            return
        self._readline = readline
        self._before = readline.get_completer(), readline.get_completer_delims()
        readline.set_completer(self._complete)
        readline.set_completer_delims(" \t\n`@#$%^&*()=+[{]}|;:'\",<>?!~")
        readline.parse_and_bind("tab: complete")

    def __exit__(self, *_: object) -> None:
        if self._readline is not None:
            completer, delimiters = self._before
            self._readline.set_completer(completer)
            self._readline.set_completer_delims(delimiters)

    def _complete(self, text: str, state: int) -> str | None:
        if state == 0:
            line, begin, end = (
                self._readline.get_line_buffer(),
                self._readline.get_begidx(),
                self._readline.get_endidx(),
            )
            told = self._result.look(self._wanted.engine, m.Completions(line, begin, end), PATIENCE)
            self._found = told.get("found", [])
        return self._found[state] if state < len(self._found) else None
