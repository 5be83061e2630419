"""Every error this package raises of its own, as one tree.

User exceptions keep their own type and are never in this tree; what *is* in it says what
the user can do next.

::

    ParallelError
    ├── CompositeError           several engines failed: an ExceptionGroup, one member per engine
    ├── NotConnected             no controller where the connection file points (ConnectionError)
    │   └── AuthenticationError  the controller refused this key
    ├── NotAllowed               this client's key is for less than that (PermissionError)
    ├── VersionMismatch          two sides speak different protocols or Pythons
    ├── AlreadyRunning           a second controller on the same profile
    ├── EngineStartError         engines did not come up; carries the end of their log
    ├── NoEngines                nobody to run it
    ├── NoAnswer                 an engine is stopped, or C code keeps Python's lock (TimeoutError)
    ├── NoSuchEngine             an engine id that does not exist (IndexError)
    ├── NameNotFound             a variable the engine does not have (NameError, KeyError)
    ├── NothingToDebug           nothing has failed on the engine since it began, or was reset (LookupError)
    ├── PayloadError             an object that cannot be pickled or rebuilt, by path inside it
    ├── EngineLost               the engine died; says how, and whether the task had begun
    ├── TaskCancelled            (concurrent.futures.CancelledError)
    ├── TaskInterrupted          KeyboardInterrupt in engine code
    ├── TaskTimeout              (TimeoutError)
    ├── DependencyFailed         a task it was to come after did not end well; it was not run
    ├── ResultExpired            the result was dropped before anybody fetched it
    ├── ResultTooLarge           the result is larger than its client takes
    ├── CheckpointError          a file that is no checkpoint, is truncated, or from another version
    ├── RemoteExit               SystemExit in engine code
    ├── RemoteError              an engine's exception that cannot be rebuilt here
    ├── ForkedClientError        a RemoteController used in a fork of the process that made it
    └── ProtocolError            bytes that are not ours on one of our sockets
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence


class ParallelError(Exception):
    """Root of all errors that are this package's own."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class NotConnected(ParallelError, ConnectionError):
    """No controller answers where the connection file says it should."""


class AuthenticationError(NotConnected):
    """The controller refused the key in the connection file."""


class NotAllowed(ParallelError, PermissionError):
    """This client came by an invitation that is for less than that."""


class VersionMismatch(ParallelError):
    """The two sides cannot work together; the message names both versions."""


class AlreadyRunning(ParallelError):
    """Another controller holds this profile.

    Attributes
    ----------
    pid : int
        Process id of the one that runs.
    """

    def __init__(self, message: str, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid


class EngineStartError(ParallelError):
    """Engines did not come up; the message carries the end of their log."""


class NoEngines(ParallelError):
    """There is no engine to run this on."""


class NoSuchEngine(ParallelError, IndexError):
    """An engine id that does not exist; the message lists those that do."""


class NoAnswer(ParallelError, TimeoutError):
    """An engine did not answer, though its control thread does while user code runs.

    Its process is stopped, or C code keeps Python's lock, or it is away.
    """


class NameNotFound(ParallelError, NameError, KeyError):
    """A variable that is not in an engine's namespace; names close ones."""


class NothingToDebug(ParallelError, LookupError):
    """Nothing has failed on the engine that could be debugged."""


class PayloadError(ParallelError):
    """An object that cannot be pickled, or rebuilt on the other side.

    The message gives the path inside the object, such as ``args[0]['lock']``.
    """


class EngineLost(ParallelError):
    """The engine died before the result was known.

    Attributes
    ----------
    engine_id : int
    exit_code, signal : int or None
        How the process ended, where its supervisor could see it.
    started : bool or None
        Whether user code had begun; None where nobody can know.
    restarted : bool
        True when a new engine already has this id, with an empty namespace.
    oom : bool
        True when the kernel killed it for want of memory, where that is known.
    last_lines : str
        What it wrote to its log in the end, at most 4,000 characters; of a crash, where user code was.
    task : str
        Id of the task that has no result.
    """

    def __init__(
        self,
        message: str,
        engine_id: int = -1,
        exit_code: int | None = None,
        signal: int | None = None,
        started: bool | None = None,
        restarted: bool = False,
        oom: bool = False,
        last_lines: str = "",
        task: str = "",
    ) -> None:
        super().__init__(message)
        self.oom = oom
        self.last_lines = last_lines
        self.task = task
        self.engine_id = engine_id
        self.exit_code = exit_code
        self.signal = signal
        self.started = started
        self.restarted = restarted


class TaskCancelled(ParallelError, concurrent.futures.CancelledError):
    """The task was cancelled; its message says whether it had begun."""


class TaskInterrupted(ParallelError):
    """Engine code was interrupted (KeyboardInterrupt there)."""


class TaskTimeout(ParallelError, TimeoutError):
    """A task ran longer than the time it was given."""


class DependencyFailed(ParallelError):
    """The task was not run, because one that it was to come after failed; names it and its error."""


class ResultExpired(ParallelError):
    """The result was dropped before it was fetched."""


class ResultTooLarge(ParallelError):
    """The result is larger than its client takes (``RemoteController.max_result``); says where the value is."""


class CheckpointError(ParallelError):
    """A checkpoint that cannot be restored from; the message says what is wrong with the file."""


class RemoteExit(ParallelError):
    """Engine code raised SystemExit; the engine lives on with its namespace."""


class RemoteError(ParallelError):
    """An engine's exception whose class cannot be rebuilt here.

    Attributes
    ----------
    type_name : str
        The exception's class on the engine.
    traceback_text : str
        Its traceback there.
    """

    def __init__(self, message: str, type_name: str = "", traceback_text: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
        self.traceback_text = traceback_text


class ForkedClientError(ParallelError):
    """A RemoteController belongs to the process that made it; make a new one after a fork."""


class ProtocolError(ParallelError):
    """Bytes on a socket that are not this protocol's."""


class CompositeError(ParallelError, ExceptionGroup[Exception]):
    """Several engines failed; one member per failed engine, in engine order.

    ``except* ValueError`` picks out members by type. Equal members are merged in display only.
    """

    def __new__(cls, message: str, exceptions: Sequence[Exception]) -> CompositeError:
        return super().__new__(cls, message, exceptions)

    def derive(self, excs: Sequence[Exception]) -> CompositeError:  # type: ignore[override]
        """A group of the same kind over some of the members (protocol of ``except*``, PEP 654)."""
        return CompositeError(self.message, excs)

    def __str__(self) -> str:
        return ExceptionGroup.__str__(self)
