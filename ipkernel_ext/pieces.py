"""What a task of a call leaves behind: its output, its result, and how both look where it was code that ran.

Nothing is unpickled here before it is asked for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from ipkernel_ext import payload
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.wire import Frame

Output = m.Stream | m.Display

Decode = Callable[["Piece"], Any]
"""The value of a piece that succeeded."""


class RichOutput(str):
    """A rich output: its plain text, with all its representations."""

    bundle: dict[str, Any]
    metadata: dict[str, Any]

    def __new__(cls, bundle: dict[str, Any], metadata: dict[str, Any]) -> RichOutput:
        output = super().__new__(cls, bundle.get("text/plain", ""))
        output.bundle = bundle
        output.metadata = metadata
        return output

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.bundle, self.metadata


class LateOutput:
    """Output of threads and processes that outlived their call: the latest of it, until somebody asks."""

    LIMIT = 2**20  # characters, at most

    def __init__(self) -> None:
        self._pieces: deque[Output] = deque()
        self._size = 0
        self._lock = threading.Lock()

    def add(self, output: Output) -> None:
        """Keep it; the oldest goes where there is too much."""
        with self._lock:
            self._pieces.append(output)
            self._size += _size(output)
            while self._size > self.LIMIT and len(self._pieces) > 1:
                self._size -= _size(self._pieces.popleft())

    def take(self) -> list[Output]:
        """What came since the last time."""
        if not self._pieces:
            return []
        with self._lock:
            taken, self._size = list(self._pieces), 0
            self._pieces.clear()
        return taken


def _size(output: Output) -> int:
    return 100 + (len(output.text) if isinstance(output, m.Stream) else sum(map(len, map(str, output.bundle.values()))))


class Times(NamedTuple):
    """How long a task took; seconds."""

    engine: int
    under_way: float  # from the call until its result was here
    seconds: float  # in user code
    cpu: float  # on processors meanwhile, to 0.1 ms


class Piece(Struct, eq=False, gc=False):
    """One task of a call: its output so far, and its result once it came."""

    result: m.Result | None = None
    frames: Sequence[Frame] = ()
    log: Sequence[Output] = ()
    came: float = 0.0  # when the result did; perf_counter

    def write(self, output: Output) -> None:
        """It wrote something."""
        if isinstance(self.log, list):
            self.log.append(output)
        else:
            self.log = [output]

    def text(self, name: str) -> str:
        """What it wrote to stdout or stderr so far."""
        return "".join(o.text for o in self.log if isinstance(o, m.Stream) and o.name == name)

    @property
    def displays(self) -> list[m.Display]:
        """Its rich outputs so far, those that were changed as they are now."""
        found: dict[object, m.Display] = {}
        for number, output in enumerate(self.log):
            if isinstance(output, m.Display):
                found[output.id or number] = output
        return list(found.values())


def decoded(piece: Piece) -> Any:
    """The piece's value as it was pickled on the engine."""
    return payload.loads(piece.frames) if piece.frames else None


class ExecuteResult:
    """Of code that one engine ran.

    Attributes
    ----------
    engine_id : int
    execution_count : int or None
        The cell's number on that engine.
    stdout, stderr : str
    outputs : list of RichOutput
        Rich outputs and the last expression's value, each a string with all its representations.
    """

    def __init__(self, piece: Piece, fetch: Callable[[int, int], Any]) -> None:
        result = piece.result
        assert result is not None
        self.engine_id = result.engine
        self.execution_count = result.execution
        self.seconds = result.seconds
        self.stdout = piece.text("stdout")
        self.stderr = piece.text("stderr")
        self.outputs = [RichOutput(d.bundle, d.metadata) for d in piece.displays]
        self._shown = next((RichOutput(d.bundle, d.metadata) for d in piece.displays if d.execution is not None), None)
        self._has_value = result.has_value
        self._fetch = fetch
        self._value: list[Any] = []

    @property
    def value(self) -> Any:
        """The value of the code's last expression, fetched from the engine when asked for; None if it has none."""
        if not self._has_value or self.execution_count is None:
            return None
        if not self._value:
            self._value.append(self._fetch(self.engine_id, self.execution_count))
        return self._value[0]

    def __repr__(self) -> str:
        if self._shown is not None:
            text = str(self._shown)
            separator = "\n" if "\n" in text else " "
            return f"Out[{self.engine_id}:{self.execution_count}]:{separator}{text}"
        return f"<ExecuteResult: engine {self.engine_id}, In [{self.execution_count}]>"


class ResultList(list[ExecuteResult]):
    """Of code that several engines ran: a list of ``ExecuteResult`` in engine order."""

    @property
    def stdout(self) -> list[str]:
        """By engine."""
        return [result.stdout for result in self]

    @property
    def stderr(self) -> list[str]:
        """By engine."""
        return [result.stderr for result in self]

    @property
    def outputs(self) -> list[RichOutput]:
        """All rich outputs, in engine order."""
        return [output for result in self for output in result.outputs]

    @property
    def values(self) -> list[Any]:
        """By engine, fetched when asked for."""
        return [result.value for result in self]

    def __repr__(self) -> str:
        shown = [result for result in self if result._shown is not None]
        if shown:
            return "\n".join(map(repr, shown))
        return f"<ResultList: engines {', '.join(str(result.engine_id) for result in self)}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))
