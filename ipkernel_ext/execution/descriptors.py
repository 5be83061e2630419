"""What is written to the process's descriptors 1 and 2: by C code, by child processes, past ``sys.stdout``.

Both become pipes whose other ends are here. They are read by whoever serves the engine while user
code runs, by user code before it prints (so that the order is kept), and at the end of each task. One
read takes all that a pipe holds. So what was written before it has been taken after it, nobody ever
waits for an end of file that a process left behind would hold back, and one that writes without end
holds nobody up: it waits in its own ``write`` until somebody reads again.

A process that user code forks has no use for our buffer: what it prints goes to the descriptors too.
What belongs into the engine's log goes to ``log``, where standard error led before.

Code that holds the interpreter's lock while it writes more than a pipe holds waits for ever: whoever
could read needs that lock. The pipes are made larger where the system lets us.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import fcntl
import os
import resource
import select
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from ipkernel_ext.execution.output import OutputBuffer, StreamName

CAPACITY = 256 * 1024  # bytes that a pipe is to hold; a user's pipes may hold 64 MB in all before they shrink
HIGH = 64  # descriptors of ours begin here, where user code that counts them from 3 on does not meet them

_NAMES: dict[int, StreamName] = {1: "stdout", 2: "stderr"}
_LINE_BUFFERED = 1  # _IOLBF of stdio.h


class Descriptors:
    """Takes descriptors 1 and 2 over. To be made in the process that is to run user code, once.

    Parameters
    ----------
    output : OutputBuffer
        Where what comes is added.
    words : int or None
        The reading end of the pipe that is to be standard error, of which somebody else has a copy
        to read what is left there when this process has crashed. None: one of our own.

    Attributes
    ----------
    log, out : int
        Where standard error led before, and standard output.
    readers : list of int
        Readable when something was written.
    """

    def __init__(self, output: OutputBuffer, words: int | None = None) -> None:
        self._output = output
        self._lock = threading.RLock()
        self._taking = False
        self._has_read = False  # since the last finish
        self._before = {number: _high(number) for number in _NAMES}
        self.log, self.out = self._before[2], self._before[1]
        self._own = [stream for stream in (sys.__stdout__, sys.__stderr__) if stream is not None]
        _flush(self._own)
        self._pipes = [_Pipe(1, None), _Pipe(2, words)]
        self.readers = [pipe.reader for pipe in self._pipes]
        with select.epoll() as low:
            self._epoll = select.epoll.fromfd(_high(low.fileno()))  # unlike ``poll``, serves two threads at a time
        for reader in self.readers:
            self._epoll.register(reader, select.EPOLLIN)
        for stream in self._own:
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)
        self._flush_stdio = _line_buffered_stdio()
        output.catch_up = self.take
        output.descriptors = True
        forked = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (method := forked()) and method())

    def take(self) -> None:
        """Add what was written up to now to the output. From any thread; does not wait."""
        with self._lock:
            if self._taking:
                return  # a signal handler or finalizer prints
            self._taking = True
            try:
                for reader, _ in self._epoll.poll(0, 2):
                    pipe = self._pipes[self.readers.index(reader)]
                    self._has_read = True
                    text = pipe.read()
                    if text:
                        self._output.add(pipe.name, text)
            finally:
                self._taking = False

    def finish(self) -> None:
        """A task ended: add all that it has written, also what C code and ``sys.__stdout__`` hold back."""
        self._flush_stdio()
        _flush(self._own)
        if self._epoll.poll(0, 2) or self._taking:  # or another thread has read it and not added it yet
            self.take()
        if self._has_read:
            self._has_read = False
            for pipe in self._pipes:
                rest = pipe.finish()
                if rest:
                    self._output.add(pipe.name, rest)

    def close(self) -> None:
        """Let the descriptors lead where they led before, and write there what nobody has taken."""
        self._output.catch_up = lambda: None
        self._flush_stdio()
        _flush(self._own)
        for pipe in self._pipes:
            os.dup2(self._before[pipe.number], pipe.number)
            rest = pipe.read()
            with contextlib.suppress(OSError):
                os.write(pipe.number, rest.encode(errors="replace"))

    def _after_fork(self) -> None:
        self._epoll.close()
        for reader in self.readers:
            os.close(reader)
        self._output.through = Through()


class _Pipe:
    """One of the two descriptors, as a pipe."""

    def __init__(self, number: int, reader: int | None) -> None:
        self.number = number
        self.name = _NAMES[number]
        if reader is None:
            end, writer = os.pipe()
        else:
            end, writer = reader, os.open(f"/proc/self/fd/{reader}", os.O_WRONLY)
        self._capacity = _enlarged(end)
        self.reader = _high(end)
        os.set_blocking(self.reader, False)
        os.dup2(writer, number)
        for descriptor in (end, writer):
            os.close(descriptor)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self) -> str:
        """What it holds."""
        try:
            data = os.read(self.reader, self._capacity)
        except BlockingIOError:
            return ""
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What is left of a character whose rest did not come."""
        return self._decoder.decode(b"", final=True)


class Through:
    """Where a forked process prints: line by line to the descriptors that it has inherited."""

    def __init__(self) -> None:
        self._open = dict.fromkeys(_NAMES.values(), "")

    def write(self, name: StreamName, text: str) -> None:
        """Text for a stream; leaves when its line is complete."""
        line, end, rest = (self._open[name] + text).rpartition("\n")
        self._open[name] = rest
        self._emit(name, line + end)

    def flush(self) -> None:
        """Let lines that are not complete leave too."""
        for name, text in self._open.items():
            self._open[name] = ""
            self._emit(name, text)

    @staticmethod
    def _emit(name: StreamName, text: str) -> None:
        number = 1 if name == "stdout" else 2
        data = text.encode(errors="replace")
        while data:
            data = data[os.write(number, data) :]


def _enlarged(pipe: int) -> int:
    """Let a pipe hold more where the system allows it; how many bytes it holds."""
    if not hasattr(fcntl, "F_SETPIPE_SZ"):  # only Linux
        return 65536
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CAPACITY)
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)


def _high(descriptor: int) -> int:
    """A copy of a descriptor, out of the way of user code."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, min(HIGH, most // 2))


def _flush(streams: list[Any]) -> None:
    for stream in streams:
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # user code has closed it


def _line_buffered_stdio() -> Callable[[], None]:
    """Have C's ``stdout`` give each line at once, though it is a pipe; returns what flushes the rest."""
    try:
        library = ctypes.CDLL(None)
        stdout = ctypes.c_void_p.in_dll(library, "stdout")
        library.setvbuf(stdout, None, _LINE_BUFFERED, 0)
        flush = library.fflush
    except (OSError, ValueError, AttributeError):
        return lambda: None
    try:
        waits = ctypes.PyDLL(None).__fpending  # keeps Python's lock, which costs more to get back than to ask this
        waits.restype = ctypes.c_size_t
    except (OSError, AttributeError):
        return lambda: flush(stdout)
    return lambda: flush(stdout) if waits(stdout) else None
