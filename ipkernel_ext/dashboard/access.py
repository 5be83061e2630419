"""Who is let in to the dashboard: who has its token, by a name that is ours, from a page that is ours.

The token keeps out other users of the machine. The name that a request asks for (Host) keeps out pages of other
sites whose own name was made to lead to this machine; where it comes from (Origin) keeps out requests that such
pages send here. What changes something needs the token in a header, which no other page can make a browser send.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

WITHOUT_TOKEN = "the token is missing or wrong: use the address as `ipcluster dashboard` printed it"


@dataclass(frozen=True)
class Door:
    """What a request has to show.

    Parameters
    ----------
    token
        The secret.
    names
        Hosts by which requests may ask for this server, apart from those of loopback.
    """

    token: str
    names: frozenset[str] = frozenset()

    def refusal(self, method: str, headers: Mapping[str, str], token: str | None) -> str | None:
        """Why a request is refused; None: it is let in.

        Parameters
        ----------
        headers
            By their names in lower case.
        token
            That of the address, if it has one.
        """
        host = headers.get("host", "")
        if name_of(host) not in LOOPBACK | self.names:
            return f"this server is not {host or 'without a name'}; --allow-host=NAME lets a name in"
        origin = headers.get("origin")
        if origin is not None and (origin == "null" or urlsplit(origin).netloc.lower() != host.lower()):
            return f"requests from {origin} are refused"
        kind, _, shown = headers.get("authorization", "").partition(" ")
        given = shown.strip() if kind.lower() == "bearer" else None
        if given is None and method in ("GET", "HEAD"):
            given = token
        if given is None or not hmac.compare_digest(given.encode(), self.token.encode()):
            return WITHOUT_TOKEN
        return None


def name_of(host: str) -> str:
    """The name in a Host header, without the port; "" where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def names(listens: str, allowed: Iterable[str], own: str) -> frozenset[str]:
    """Names that a server has which listens at an address; one that listens at all of them has the host's own.

    Raises
    ------
    ValueError
        What is allowed is no name.
    """
    for name in allowed:
        if not name or name.lower() != name_of(name):
            raise ValueError(f"{name!r} is no name of a host; it has neither scheme nor port")
    mine = {own.lower()} if listens in ("", "0.0.0.0", "::") else {listens.lower()}
    return frozenset(mine | {name.lower() for name in allowed})
