"""What user code writes and displays, collected until it is sent.

Pieces are numbered 0, 1, 2 … within one attempt of a task, so that the client can tell when it has
them all. They get their numbers when they are taken, never in the thread that runs user code: an
interrupt there may lose the text that was being written, but leaves no gap. Adjacent text of one
stream is one piece. How pieces are sent must not be known here.
"""

from __future__ import annotations

import codecs
import io
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from ipkernel_ext.core.messages import Display, Stream, TaskId

MAX_OUTPUT = 64 * 2**20
"""Characters of text, and bytes of rich output, kept of one task."""

_CHUNK = 65536  # characters; text beyond the limit is kept in pieces of about this size

StreamName = Literal["stdout", "stderr"]


class _Rich(NamedTuple):
    bundle: dict[str, Any]
    metadata: dict[str, Any]
    execution: int | None


class OutputBuffer:
    """Collects output; may be written to from any thread.

    Parameters
    ----------
    max_output : int
        Characters that one task may write; of more, the beginning and the end are kept.

    Attributes
    ----------
    on_pending
        Called, in the thread that writes, when the first piece waits to be sent.
    engine_id
        Says which engine this is.
    """

    def __init__(self, max_output: int = MAX_OUTPUT) -> None:
        self.on_pending: Callable[[], None] = lambda: None
        self.engine_id: Callable[[], int] = lambda: -1
        self._half = max_output // 2
        self._lock = threading.RLock()  # a finalizer or signal handler may print while a print holds it
        self._task: TaskId | None = None
        self._attempt = 0
        self._earlier: list[Stream | Display] = []  # written between tasks
        self._pending: list[tuple[StreamName, str] | _Rich] = []
        self._sequence = 0
        self._size = 0
        self._tail = _Tail(self._half)
        forked = weakref.WeakMethod(self._after_fork)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (method := forked()) and method())

    def begin(self, task: TaskId, attempt: int = 0) -> None:
        """Output belongs to this task from now on."""
        with self._lock:
            self._earlier = self._take()
            self._task, self._attempt = task, attempt
            self._restart()

    def write(self, name: StreamName, text: str) -> None:
        """Text for a stream."""
        if not text:
            return
        with self._lock:
            room = self._half - self._size
            self._size += len(text)
            if room < len(text):
                self._tail.add(name, text[max(room, 0) :])
                text = text[: max(room, 0)]
                if not text:
                    return
            self._pending.append((name, text))
            first = len(self._pending) == 1
        if first:
            self.on_pending()

    def display(self, bundle: dict[str, Any], metadata: dict[str, Any], execution: int | None = None) -> None:
        """A rich output. ``execution``: it is the value of the cell of that number."""
        rich = _Rich(plain(bundle), plain(metadata), execution)
        size = sum(len(value) for value in rich.bundle.values() if isinstance(value, str | bytes))
        with self._lock:
            self._size += size
            if self._size > 2 * self._half:
                self._tail.dropped += size
                return
            self._pending.append(rich)
            first = len(self._pending) == 1
        if first:
            self.on_pending()

    def take(self) -> list[Stream | Display]:
        """The pieces that wait to be sent."""
        with self._lock:
            return self._take()

    def end(self) -> tuple[list[Stream | Display], int]:
        """The task ended: the pieces that wait to be sent, and how many it had in all."""
        with self._lock:
            self._pending += self._tail.pieces()
            pieces = self._take()
            count = self._sequence
            self._task, self._attempt = None, 0
            self._restart()
            return pieces, count

    def _take(self) -> list[Stream | Display]:
        waiting, self._pending = self._pending, []
        earlier, self._earlier = self._earlier, []
        if self._task is None:
            waiting += self._tail.pieces()
            pieces = self._numbered(waiting)
            self._restart()
        else:
            pieces = self._numbered(waiting)
        return [*earlier, *pieces]

    def _restart(self) -> None:
        self._sequence = 0
        self._size = 0
        self._tail = _Tail(self._half)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # the thread that may have held it does not exist here

    def _numbered(self, waiting: list[tuple[StreamName, str] | _Rich]) -> list[Stream | Display]:
        pieces: list[Stream | Display] = []
        texts: list[str] = []
        engine = self.engine_id() if waiting else -1
        for i, piece in enumerate(waiting):
            number = self._sequence + len(pieces)
            if isinstance(piece, _Rich):
                pieces.append(Display(self._task, engine, number, *piece, self._attempt))
                continue
            name, text = piece
            texts.append(text)
            following = waiting[i + 1] if i + 1 < len(waiting) else None
            if following is None or isinstance(following, _Rich) or following[0] != name:
                pieces.append(Stream(self._task, engine, number, name, "".join(texts), self._attempt))
                texts = []
        self._sequence += len(pieces)
        return pieces


class _Tail:
    """The end of a text that is too long, and how much of its middle was left out."""

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._limit = limit
        self._kept: deque[tuple[StreamName, str]] = deque()
        self._small: list[str] = []  # of one stream, not yet a kept chunk
        self._name: StreamName = "stdout"
        self._small_size = 0
        self._size = 0

    def add(self, name: StreamName, text: str) -> None:
        if name != self._name:
            self._close_small()
            self._name = name
        self._small.append(text)
        self._small_size += len(text)
        self._size += len(text)
        if self._small_size >= _CHUNK:
            self._close_small()

    def _close_small(self) -> None:
        if self._small:
            self._kept.append((self._name, "".join(self._small)))
            self._small = []
            self._small_size = 0
        while self._size > self._limit and self._kept:
            excess = self._size - self._limit
            first, text = self._kept.popleft()
            if len(text) > excess:
                self._kept.appendleft((first, text[excess:]))
            cut = min(excess, len(text))
            self._size -= cut
            self.dropped += cut

    def pieces(self) -> list[tuple[StreamName, str]]:
        """What is kept, after a line that counts what is not."""
        self._close_small()
        kept = list(self._kept)
        if self.dropped:
            name = kept[0][0] if kept else "stdout"
            kept.insert(0, (name, f"\n… {self.dropped} characters left out …\n"))
        return kept


def plain(value: Any) -> Any:
    """The value with everything that a message cannot carry turned into text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or type(value) in (bool, float, bytes, str):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    return str(value)


class CaptureStream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` of an engine."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, buffer: OutputBuffer, name: StreamName) -> None:
        self._buffer = buffer
        self.name = f"<{name}>"
        self._name: StreamName = name
        self.buffer = _Bytes(buffer, name)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._buffer.write(self._name, text)
        return len(text)

    def writable(self) -> bool:
        return True

    def reconfigure(self, **_: Any) -> None:
        """Nothing: text leaves the engine as text."""

    def close(self) -> None:
        """Nothing: the next task writes here again."""


class _Bytes(io.BufferedIOBase):
    """``sys.stdout.buffer``: bytes that are text in UTF-8."""

    def __init__(self, buffer: OutputBuffer, name: StreamName) -> None:
        self._buffer = buffer
        self._name: StreamName = name
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, data: Any) -> int:
        raw = bytes(data)
        self._buffer.write(self._name, self._decoder.decode(raw))
        return len(raw)

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing: the next task writes here again."""
