"""What a core asks its shell to do. A core returns these in a list, to be done in that order."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from ipkernel_ext.core.messages import Followed, Hint, InputWanted, Inspection, Result, TaskId
from ipkernel_ext.core.wire import Frame

Peer = Hashable
"""One connection, as the shell names it."""


class Send(Struct, frozen=True, gc=False):
    """Send a message on a connection."""

    peer: Peer
    message: Any
    frames: Sequence[Frame] = ()


class Drop(Struct, frozen=True, gc=False):
    """Close or forget a connection."""

    peer: Peer


class Journal(Struct, frozen=True, gc=False):
    """Write down where a task goes, before the Send that follows; hint None: it is over."""

    task: TaskId
    hint: Hint | None


class Enlist(Struct, frozen=True, gc=False):
    """Write down that an engine id belongs to a boot; boot None: it is free."""

    engine: int
    boot: str | None


class Expire(Struct, frozen=True, gc=False):
    """Write down up to which number a client's tasks were dropped; None: it need not be known any more."""

    client: str
    number: int | None


class Mailbox(NamedTuple):
    """The store in the place of a client: a peer that is sent Result, Stream and Display only."""

    client: str


class Deliver(Struct, frozen=True, gc=False):
    """Send what the store has of a task, as that of another task."""

    peer: Peer
    task: TaskId
    alias: TaskId


class Discard(Struct, frozen=True, gc=False):
    """The store need not have this any more; number None: what is incomplete of that client."""

    client: str
    number: int | None


class Watch(Struct, frozen=True, gc=False):
    """Tell the core when this local process ends."""

    boot: str
    pid: int


class Stop(Struct, frozen=True, gc=False):
    """The shell's loop ends after what was sent has left."""

    reason: str


class Log(Struct, frozen=True, gc=False):
    """One line for the log."""

    level: int
    text: str


class Resolve(Struct, frozen=True, gc=False):
    """A task of this client ended."""

    result: Result
    frames: Sequence[Frame]


class Show(Struct, frozen=True, gc=False):
    """A Stream or Display for the task's result object."""

    message: Any


class Answered(Struct, frozen=True, gc=False):
    """A question was answered, or (error) will not be."""

    request: int
    body: dict[str, Any] | None
    error: Exception | None = None


class RosterChanged(Struct, frozen=True, gc=False):
    """Engines came or went, or the connection did."""


class AskUser(Struct, frozen=True, gc=False):
    """A task of this client asks for a line."""

    wanted: InputWanted


class Overheard(Struct, frozen=True, gc=False):
    """What another client has run, or what came of it."""

    event: Followed


class Typed(Struct, frozen=True, gc=False):
    """The line that the running task asked for; None: there is none, and why."""

    text: str | None
    why: str


class Begin(Struct, frozen=True, gc=False):
    """Write down that user code of this attempt begins."""

    task: TaskId
    attempt: int


class Claimable(Struct, frozen=True, gc=False):
    """A task may be claimable that was not before, without a message on the task connection: look."""


class RaiseInterrupt(Struct, frozen=True, gc=False):
    """Interrupt the main thread if it runs this task."""

    task: TaskId
    attempt: int


class TellUsage(Struct, frozen=True, gc=False):
    """Measure this process, and send what the core makes of it (``EngineCore.measured``)."""


class LookInside(Struct, frozen=True, gc=False):
    """Find out what is asked for, and send it (``Looked``) without keeping anything waiting for it."""

    number: int
    inspection: Inspection


class Reconnect(Struct, frozen=True, gc=False):
    """Drop the connections and begin again with a hello."""


Effect = (
    Send
    | Drop
    | Journal
    | Enlist
    | Expire
    | Deliver
    | Discard
    | Watch
    | Stop
    | Log
    | Resolve
    | Show
    | Answered
    | RosterChanged
    | AskUser
    | Overheard
    | Typed
    | Begin
    | Claimable
    | RaiseInterrupt
    | TellUsage
    | LookInside
    | Reconnect
)
