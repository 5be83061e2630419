"""The keys of a cluster: one CURVE pair for the controller and one for each role that connects to it.

They are made at a cluster's first start, kept through a crash of the controller, and deleted at its
clean end. Secrets are in files that only this user can read and nowhere else: a representation of a
key, which is what logs and tracebacks show, has the public part only.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import zmq

from ipkernel_ext.config import private
from ipkernel_ext.errors import NotConnected

ROLES = ("client", "engine")
"""Who connects to a controller."""


class Pair(msgspec.Struct, frozen=True):
    """A CURVE key pair, in Z85."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"<key {self.public}>"


class Keys(msgspec.Struct, frozen=True):
    """What one side needs to connect: its own pair, and how it knows the controller."""

    server: str  # the controller's public key
    own: Pair

    def __repr__(self) -> str:
        return f"<keys {self.own.public} to {self.server}>"


class ClusterKeys(msgspec.Struct, frozen=True):
    """All keys of a cluster, which the controller alone keeps, and the port it was reached at."""

    server: Pair
    client: Pair
    engine: Pair
    port: int = 0
    run: Pair | None = None  # of clients that are invited, by what they may do
    read: Pair | None = None

    def of(self, role: str) -> Keys:
        """What goes into the connection file of a role, or of an invitation.

        Raises
        ------
        NotConnected
            These keys are of a version that made none for that.
        """
        pair: Pair | None = getattr(self, role)
        if pair is None:
            raise NotConnected(f"this cluster has no keys for {role!r} yet; `ipcluster rotate-keys` makes them")
        return Keys(self.server.public, pair)

    def roles(self) -> dict[str, str]:
        """Role by public key: who may connect."""
        pairs = {"client": self.client, "engine": self.engine, "run": self.run, "read": self.read}
        return {pair.public: role for role, pair in pairs.items() if pair is not None}


def make() -> ClusterKeys:
    """Keys that nobody has yet."""
    return ClusterKeys(_pair(), _pair(), _pair(), run=_pair(), read=_pair())


def _pair() -> Pair:
    return Pair(*(key.decode() for key in zmq.curve_keypair()))


def load(path: Path) -> ClusterKeys | None:
    """The keys of the controller's earlier life; None if it had none.

    Raises
    ------
    NotConnected
        The file is not this user's own, or damaged.
    """
    try:
        return msgspec.json.decode(private.read(path, "key file"), type=ClusterKeys)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise NotConnected(f"the key file {path} is damaged: {error}; remove it and start again") from None


def mounted(path: Path) -> ClusterKeys:
    """Keys that were made beforehand, from a file that this process was given, such as a secret of Kubernetes.

    That may be a link, and belong to somebody else whose group this process is in.

    Raises
    ------
    NotConnected
        There is no such file, everybody can read it, or it is damaged.
    """
    try:
        content = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise NotConnected(f"the key file {path} cannot be read: {error.strerror}") from None
    if mode & 0o007:
        raise NotConnected(f"the key file {path} can be read by everybody; `chmod o= {path}` first")
    try:
        return msgspec.json.decode(content, type=ClusterKeys)
    except msgspec.DecodeError as error:
        raise NotConnected(f"the key file {path} is damaged: {error}") from None


def save(path: Path, keys: ClusterKeys) -> None:
    """Keep them for the controller's next life."""
    private.write(path, msgspec.json.encode(keys))
