"""What user code writes and displays, numbered and collected until it is sent.

Pieces are numbered 0, 1, 2 … within one attempt of a task, so that the client can tell when it has
them all. Adjacent text of one stream is one piece.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from ipkernel_ext.core.messages import Display, Stream, TaskId

MAX_OUTPUT = 64 * 2**20  # characters of text kept of one task
StreamName = Literal["stdout", "stderr"]


class OutputBuffer:
    """Collects output; may be written to from any thread.

    Parameters
    ----------
    max_output : int
        Characters of text that one task may write; of more, the beginning and the end are kept.

    Attributes
    ----------
    on_pending
        Called when the first piece waits to be sent.
    engine_id
        Says which engine this is.
    """

    def __init__(self, max_output: int = MAX_OUTPUT) -> None:
        self.on_pending: Callable[[], None] = lambda: None
        self.engine_id: Callable[[], int] = lambda: -1
        self._max = max_output
        self._lock = threading.RLock()  # a signal handler of user code may print while a print holds it
        self._task: TaskId | None = None
        self._attempt = 0
        self._sequence = 0
        self._texts: list[str] = []  # of one stream, not yet a piece
        self._name: StreamName = "stdout"
        self._pieces: list[Any] = []
        self._written = 0
        self._tail: list[str] = []  # beyond the limit
        self._tail_size = 0
        self._dropped = 0

    def begin(self, task: TaskId, attempt: int) -> None:
        """Output belongs to this task from now on."""
        with self._lock:
            self._close_text()
            self._task, self._attempt = task, attempt
            self._sequence = 0
            self._written = 0

    def write(self, name: StreamName, text: str) -> None:
        """Text for a stream."""
        if not text:
            return
        with self._lock:
            waiting = bool(self._texts or self._pieces)
            if name != self._name:
                self._close_text()
                self._name = name
            self._written += len(text)
            if self._written > self._max // 2 and self._task is not None:
                self._keep_tail(text)
            else:
                self._texts.append(text)
        if not waiting:
            self.on_pending()

    def _keep_tail(self, text: str) -> None:
        """Of what is beyond half the limit, the end is kept."""
        self._tail.append(text)
        self._tail_size += len(text)
        while self._tail_size > self._max // 2:
            first = self._tail[0]
            excess = self._tail_size - self._max // 2
            if len(first) <= excess:
                del self._tail[0]
                cut = len(first)
            else:
                self._tail[0] = first[excess:]
                cut = excess
            self._tail_size -= cut
            self._dropped += cut

    def display(self, bundle: dict[str, Any], metadata: dict[str, Any], execution: int | None = None) -> None:
        """A rich output."""
        with self._lock:
            waiting = bool(self._texts or self._pieces)
            self._close_text()
            self._pieces.append(
                Display(
                    self._task, self.engine_id(), self._next(), plain(bundle), plain(metadata), execution, self._attempt
                )
            )
        if not waiting:
            self.on_pending()

    def take(self) -> list[Any]:
        """The pieces that wait to be sent."""
        with self._lock:
            self._close_text()
            pieces, self._pieces = self._pieces, []
            return pieces

    def end(self) -> tuple[list[Any], int]:
        """The task ended: the pieces that wait to be sent, and how many it had in all."""
        with self._lock:
            self._close_text()
            if self._tail:
                left_out = f"\n… {self._dropped} characters left out …\n" if self._dropped else ""
                self._piece(left_out + "".join(self._tail))
                self._tail, self._tail_size, self._dropped = [], 0, 0
            pieces, self._pieces = self._pieces, []
            count = self._sequence
            self._task = None
            self._sequence = 0
            return pieces, count

    def _close_text(self) -> None:
        if self._texts:
            text = "".join(self._texts)
            self._texts = []
            self._piece(text)

    def _piece(self, text: str) -> None:
        self._pieces.append(Stream(self._task, self.engine_id(), self._next(), self._name, text, self._attempt))

    def _next(self) -> int:
        sequence = self._sequence
        self._sequence += 1
        return sequence


def plain(value: Any) -> Any:
    """The value with everything that a message cannot carry turned into text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | float | bytes):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    return str(value)


class CaptureStream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` of an engine."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, buffer: OutputBuffer, name: StreamName) -> None:
        self._buffer = buffer
        self.name = f"<{name}>"
        self._name: StreamName = name

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._buffer.write(self._name, text)
        return len(text)

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing: the next task writes here again."""


@contextmanager
def captured(buffer: OutputBuffer) -> Iterator[None]:
    """Within it, ``sys.stdout`` and ``sys.stderr`` write into the buffer."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = CaptureStream(buffer, "stdout"), CaptureStream(buffer, "stderr")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
