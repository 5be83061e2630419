"""What user code writes and displays, collected until it is sent.

Pieces are numbered 0, 1, 2 … within one attempt of a task, so that the client can tell when it has
them all. They get their numbers when they are taken, never in the thread that runs user code: an
interrupt there may lose the text that was being written, but leaves no gap. Adjacent text of one
stream is one piece.

What is written between tasks, or by a thread that outlived its task, belongs to no task, but to the
client of that task. A thread that outlived its task and writes while one of the same client runs
counts as that one's: pools of threads live longer than cells. How pieces are sent must not be known
here.
"""

from __future__ import annotations

import codecs
import io
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakMethod

from ipkernel_ext.core.messages import Display, Stream, TaskId

MAX_OUTPUT = 64 * 2**20
"""Characters of text, and bytes of rich output, kept of one task."""

MAX_LATE = 2**20
"""Characters kept between two takes of what belongs to no task."""

_CHUNK = 65536  # characters; text beyond the limit is kept in pieces of about this size

_PIECE = 64  # characters of its limit that a piece costs a task beyond its text: many small ones fill a client too

_SAME_PRINT = 1e-4  # seconds; pieces of a line that follow each other faster belong to one print

StreamName = Literal["stdout", "stderr"]


class Through(Protocol):
    """Takes text on its way past a buffer."""

    def write(self, name: StreamName, text: str) -> None:
        """Text for a stream."""

    def flush(self) -> None:
        """Keep nothing back."""


class _Rich(NamedTuple):
    bundle: dict[str, Any]
    metadata: dict[str, Any]
    execution: int | None
    id: str = ""
    update: bool = False


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
    catch_up
        Called before Python code's text is added: adds what was written past it before.
    descriptors : bool
        Whether what is written to descriptors 1 and 2 comes here too.
    through
        In a process that user code has forked: where its text goes instead.
    """

    def __init__(self, max_output: int = MAX_OUTPUT) -> None:
        self.on_pending: Callable[[], None] = lambda: None
        self.engine_id: Callable[[], int] = lambda: -1
        self.catch_up: Callable[[], None] = lambda: None
        self.descriptors = False
        self.through: Through | None = None
        self._whole = True  # the last text that Python code wrote ended its line, or was flushed
        self._wrote_at = 0.0
        self._half_of_task = max_output // 2
        self._half_late = min(max_output, MAX_LATE) // 2
        self._lock = threading.RLock()  # a finalizer or signal handler may print while a print holds it
        self._task: TaskId | None = None
        self._attempt = 0
        self._client = ""  # of the latest task
        self._runs_in = 0  # thread of the latest task
        self._outlived: WeakKeyDictionary[threading.Thread, str] = WeakKeyDictionary()  # whose tasks have ended
        self._threads: list[threading.Thread] = []  # that were there when tasks of another client began
        self._late: dict[str, _Tail] = {}  # of such threads, by client
        self._earlier: list[Stream | Display] = []  # written between tasks
        self._pending: list[tuple[StreamName, str] | _Rich] = []
        self._restart(self._half_late)
        forked = WeakMethod(self._after_fork)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (method := forked()) and method())

    def begin(self, task: TaskId, attempt: int = 0) -> None:
        """Output belongs to this task from now on."""
        self._lock.acquire()  # takes half the time of ``with``, which is for where an interrupt may come
        try:
            if self._pending or self._late or self._earlier or self._size:
                self._earlier = self._take()
            if task.client != self._client:
                self._know_threads()
                self._client = task.client
            self._task, self._attempt = task, attempt
            self._runs_in = threading.get_ident()
            self._restart(self._half_of_task)
        finally:
            self._lock.release()

    def _know_threads(self) -> None:
        """The latest client's tasks have ended: threads that nobody is known to have started are that client's."""
        threads = threading.enumerate()
        if self._client and threads != self._threads:
            self._threads = threads
            for thread in threads:
                if thread.ident != self._runs_in:
                    self._outlived.setdefault(thread, self._client)

    def write(self, name: StreamName, text: str) -> None:
        """Text that Python code writes to a stream, after what was written past it before."""
        if not text:
            return
        if self.through is not None:
            self.through.write(name, text)
            return
        now = time.monotonic()
        if self._whole or now - self._wrote_at > _SAME_PRINT:
            self.catch_up()
        self._wrote_at = now
        self._whole = text.endswith("\n")
        if threading.get_ident() != self._runs_in:
            client = self._outlived.get(threading.current_thread(), self._client)
            if client != self._client or self._task is None:
                self._add_late(client, name, text)
                return
        self.add(name, text)

    def flush(self) -> None:
        """Nothing waits here but in a forked process. What follows may have to wait for what is written past it."""
        self._whole = True
        if self.through is not None:
            self.through.flush()

    def add(self, name: StreamName, text: str) -> None:
        """Text for a stream."""
        with self._lock:
            room = self._half - self._size
            self._size += len(text)
            if room < len(text):
                self._excess().add(name, text[max(room, 0) :])
                text = text[: max(room, 0)]
                if not text:
                    return
            self._pending.append((name, text))
            first = len(self._pending) == 1
        if first:
            self.on_pending()

    def _add_late(self, client: str, name: StreamName, text: str) -> None:
        with self._lock:
            first = not self._late
            self._late.setdefault(client, _Tail(MAX_LATE)).add(name, text)
        if first:
            self.on_pending()

    def display(
        self,
        bundle: dict[str, Any],
        metadata: dict[str, Any],
        execution: int | None = None,
        id: str = "",
        update: bool = False,
    ) -> None:
        """A rich output.

        Parameters
        ----------
        execution : int or None
            It is the value of the cell of that number.
        id : str
            By which it can be changed later.
        update : bool
            It takes the place of the earlier one of this id.
        """
        if self.through is not None:
            self.through.write("stdout", f"{bundle.get('text/plain', '')}\n")
            return
        self.catch_up()
        rich = _Rich(plain(bundle), plain(metadata), execution, sendable(id), update)
        size = sum(len(value) for value in rich.bundle.values() if isinstance(value, str | bytes))
        with self._lock:
            if update and self._replaces(rich):
                return
            self._size += size
            if self._size > 2 * self._half:
                self._excess().dropped += size
                return
            self._pending.append(rich)
            first = len(self._pending) == 1
        if first:
            self.on_pending()

    def _replaces(self, rich: _Rich) -> bool:
        """Put a change in the place of the one before, where that has not been sent."""
        last = self._pending[-1] if self._pending else None
        if not isinstance(last, _Rich) or not last.update or last.id != rich.id:
            return False
        self._pending[-1] = rich
        return True

    def take(self) -> list[Stream | Display]:
        """The pieces that wait to be sent."""
        with self._lock:
            return self._take()

    def end(self) -> tuple[list[Stream | Display], int]:
        """The task ended: its pieces that wait to be sent, and how many it had in all."""
        self._lock.acquire()
        try:
            pieces = self._take_all() if self._pending or self._tail is not None else []
            count = self._sequence
            self._task, self._attempt = None, 0
            self._restart(self._half_late)
            return pieces, count
        finally:
            self._lock.release()

    def _take(self) -> list[Stream | Display]:
        if not (self._pending or self._late or self._earlier or self._task is not None or self._size):
            return []
        earlier, self._earlier = self._earlier, []
        late, self._late = self._late, {}
        engine = self.engine_id()
        for client, tail in late.items():
            earlier += [
                Stream(None, engine, i, name, sendable(text), client=client)
                for i, (name, text) in enumerate(tail.pieces())
            ]
        if self._task is not None:
            return [*earlier, *self._take_task()]
        pieces = self._take_all()
        self._restart(self._half_late)
        return [*earlier, *pieces]

    def _take_all(self) -> list[Stream | Display]:
        if self._tail is not None:
            self._pending += self._tail.pieces()
        return self._take_task()

    def _take_task(self) -> list[Stream | Display]:
        if not self._pending:
            return []
        waiting, self._pending = self._pending, []
        return self._numbered(waiting)

    def _restart(self, half: int) -> None:
        self._sequence = self._size = 0
        self._half = half
        self._tail: _Tail | None = None  # of what is beyond this half

    def _excess(self) -> _Tail:
        if self._tail is None:
            self._tail = _Tail(self._half)
        return self._tail

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # the thread that may have held it does not exist here

    def _numbered(self, waiting: list[tuple[StreamName, str] | _Rich]) -> list[Stream | Display]:
        pieces: list[Stream | Display] = []
        texts: list[str] = []
        engine = self.engine_id() if waiting else -1
        client = self._client if self._task is None else ""
        for i, piece in enumerate(waiting):
            number = self._sequence + len(pieces)
            if isinstance(piece, _Rich):
                bundle, metadata, execution, id, update = piece
                pieces.append(
                    Display(self._task, engine, number, bundle, metadata, execution, self._attempt, client, id, update)
                )
                continue
            name, text = piece
            texts.append(text)
            following = waiting[i + 1] if i + 1 < len(waiting) else None
            if following is None or isinstance(following, _Rich) or following[0] != name:
                text = sendable("".join(texts))
                pieces.append(Stream(self._task, engine, number, name, text, self._attempt, client))
                texts = []
        self._sequence += len(pieces)
        self._size += _PIECE * len(pieces)
        return pieces


class _Tail:
    """The end of a text that is too long, and how much of its middle was left out."""

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self.limit = limit
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
        while self._size > self.limit and self._kept:
            excess = self._size - self.limit
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


def sendable(text: str) -> str:
    """The text, with a question mark for each half of a surrogate pair that stands alone: no UTF-8 has those."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def plain(value: Any) -> Any:
    """The value with everything that a message cannot carry turned into text."""
    if isinstance(value, dict):
        return {sendable(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or type(value) in (bool, float, bytes):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    return sendable(str(value))


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

    def flush(self) -> None:
        self._buffer.flush()

    def fileno(self) -> int:
        """The descriptor for child processes; what they write there comes in order with what is printed here."""
        if not self._buffer.descriptors:
            return super().fileno()
        return 1 if self._name == "stdout" else 2

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

    def flush(self) -> None:
        self._buffer.flush()

    def close(self) -> None:
        """Nothing: the next task writes here again."""
