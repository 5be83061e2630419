"""Log files of a cluster: which there are, what is in them, how they stay bounded.

Knows files only: not what is written into them, nor by which processes. Files are opened anew at each
look, since a successor may have replaced them and a supervisor may have shortened them.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(message)s"
"""Of a line, whoever writes it."""

BLOCK = 2**20  # bytes read at a time
LOOK = 0.5  # seconds between two looks at files that are followed
REMEMBERED = 1024  # bytes by which a follower knows its place again in a file that was shortened


def engine_logs(directory: Path) -> dict[str, Path]:
    """Logs of engines by what names the engine, numbers in their order."""
    found = {path.stem.removeprefix("engine-"): path for path in directory.glob("engine-*.log")}
    return dict(sorted(found.items(), key=lambda item: (not item[0].isdigit(), len(item[0]), item[0])))


def cluster_logs(directory: Path) -> dict[str, Path]:
    """All logs of a cluster by the name of who writes them: controller, agent, zygote, engines."""
    named = {
        "controller": "controller.log",
        "agent": "agent.log",
        "agent (errors)": "agent.err",
        "zygote": "zygote.log",
        "launcher": "launcher.log",
    }
    found = {name: directory / file for name, file in named.items()}
    found.update({f"engine {name}": path for name, path in engine_logs(directory).items()})
    return {name: path for name, path in found.items() if path.is_file()}


class Follower:
    """Reads what is appended to a file, from one look to the next.

    Parameters
    ----------
    path : Path
        It need not be there yet.
    lines : int, optional
        How many of the lines that are there already count as new; by default all.
    """

    def __init__(self, path: Path, lines: int | None = None) -> None:
        self.path = path
        self._skip = lines
        self._inode: int | None = None
        self._offset = 0
        self._last = b""  # the end of what was read
        self._part = b""  # of a line whose end has not come

    def read(self, *, final: bool = False) -> list[str]:
        """Whole lines that are new. ``final``: also one without an end."""
        new = self._part + b"".join(self._new())
        if self._skip is not None and self._inode is not None:
            new = _last_lines(new, self._skip)
            self._skip = None
        whole, end, self._part = (new, b"", b"") if final else new.rpartition(b"\n")
        return (whole + end).decode(errors="replace").splitlines()

    def _new(self) -> Iterator[bytes]:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode:
                if self._part:
                    yield b"\n"
                self._inode, self._offset, self._last = status.st_ino, 0, b""
            elif status.st_size < self._offset:
                self._offset = self._place_in(file.read(status.st_size))
            file.seek(self._offset)
            while block := file.read(BLOCK):
                self._offset += len(block)
                self._last = (self._last + block)[-REMEMBERED:]
                yield block

    def _place_in(self, text: bytes) -> int:
        """Where to go on in a file that was shortened: behind what was read last, if that is still in it."""
        found = text.rfind(self._last) if self._last else -1
        return found + len(self._last) if found >= 0 else 0


def follow(
    logs: Callable[[], dict[str, Path]], lines: int | None, running: int | None, output: int | None = None
) -> Iterator[tuple[str, str]]:
    """Lines of several logs as they come, each with the name of its log; then what is there at the end.

    Parameters
    ----------
    logs
        Which logs there are now; more may come.
    lines : int or None
        How many lines of each that are there already to begin with; None is all.
    running : int or None
        A descriptor that can be read when nothing more is written (a process's, of ``os.pidfd_open``).
        None: nothing more is written already now.
    output : int or None
        The descriptor that the caller writes to; following ends when a pipe there has lost its reader.
    """
    poller = select.poll()
    for descriptor, events in ((running, select.POLLIN), (output, 0)):
        if descriptor is not None:
            poller.register(descriptor, events)
    followers: dict[str, Follower] = {}
    ended = running is None
    while True:
        for name, path in logs().items():
            follower = followers.setdefault(name, Follower(path, lines))
            for line in follower.read(final=ended):
                yield name, line
        if ended:
            return
        lines = None  # a log that comes later is new from its first line
        ready = [descriptor for descriptor, _ in poller.poll(LOOK * 1000)]
        if output in ready:
            return
        ended = bool(ready)


def _last_lines(text: bytes, count: int) -> bytes:
    return b"".join(text.splitlines(keepends=True)[-count:]) if count else b""


def shorten(path: Path, limit: int, keep: int) -> bool:
    """Cut a log down to its end, while another process that appends to it goes on and does not notice.

    The writer must have the file open with ``O_APPEND``: then what it writes next goes behind what was kept.

    Parameters
    ----------
    limit : int
        Bytes up to which the file is left alone.
    keep : int
        Bytes of its end that stay, less the first line if it is not whole; smaller than ``limit``.

    Returns
    -------
    bool
        Whether it was cut. False also when there is no such file.
    """
    if not 0 <= keep < limit:
        raise ValueError(f"keep must be smaller than limit: {keep} and {limit}")
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        size = os.fstat(file).st_size
        if size <= limit:
            return False
        kept = _from_line(os.pread(file, keep + 1, size - keep - 1))
        done = 0
        # The end is copied over the beginning before the rest is cut off, so that a crash in between doubles
        # lines and loses none. What the writer appends meanwhile is copied too, until nothing has come. Only what
        # it appends between the last look at the size and the cut is lost: some microseconds, without a lock that
        # the writer, which is user code's own standard output, could be asked to take.
        while True:
            done = _write(file, kept, done)
            kept = os.pread(file, BLOCK, size)
            size += len(kept)
            if not kept:
                break
        os.ftruncate(file, done)
        return True
    finally:
        os.close(file)


def _write(file: int, text: bytes, offset: int) -> int:
    """Write all of a text at an offset; where it ends."""
    while text:
        done = os.pwrite(file, text, offset)
        text, offset = text[done:], offset + done
    return offset


def _from_line(tail: bytes) -> bytes:
    """The whole lines of a file's end, which begins with one byte more than is wanted; all of it, if it has no line."""
    _, newline, lines = tail.partition(b"\n")
    return lines if newline and lines else tail[1:]


def choose(logs: dict[str, Path], engine: str | None) -> dict[str, Path]:
    """All of the logs, or one engine's.

    Raises
    ------
    ValueError
        It has no log; lists those that have.
    """
    if engine is None:
        return logs
    name = f"engine {engine}"
    if name not in logs:
        there: Sequence[str] = [name for name in logs if name.startswith("engine ")]
        raise ValueError(f"there is no log of engine {engine}; there are {', '.join(there) or 'none of engines'}")
    return {name: logs[name]}
