"""What the holders of keys for clients may say: the owner everything, others less.

Whoever may run code can do on the engines what their user can; what is kept from them is the cluster
itself. Who may only read is shown what goes on, and changes nothing: not even by the name that it
takes, because it could take another client's and say in its place what it has and has not.
"""

from __future__ import annotations

from typing import Any

from ipkernel_ext.core import messages as m

OWNER, RUN, READ = "owner", "run", "read"

ACCESS = (RUN, READ)
"""What others than the owner may be given."""

READER = "~"
"""How the names of clients begin that may only read, and of no other client that comes with a key."""

_OWNERS = (m.EndEngines, m.Scale, m.ShutDown, m.ClearQueue)
_READERS = (m.Ask, m.Why, m.Recent, m.Follow, m.Goodbye)


def may(access: str, message: Any) -> bool:
    """Whether a client of this access may say this."""
    if access == OWNER:
        return True
    if access == RUN:
        return not isinstance(message, _OWNERS)
    return isinstance(message, _READERS) or (
        isinstance(message, m.Inspect) and isinstance(message.inspection, m.Peek | m.Stacks)
    )


def may_be_called(access: str, name: str) -> bool:
    """Whether a client of this access may have this name."""
    return (access == READ) == name.startswith(READER)


def refusal(access: str, message: Any) -> str:
    """What to say to one that may not."""
    kinds: dict[type, str] = {
        m.Submit: "run or move anything",
        m.EndEngines: "end or restart engines",
        m.ShutDown: "end the cluster",
        m.Scale: "start or end engines",
        m.ClearQueue: "clear queues",
    }
    what = kinds.get(type(message), "do that")
    return f"this client's key is for {access!r}: it may not {what}; the owner of the cluster may"
