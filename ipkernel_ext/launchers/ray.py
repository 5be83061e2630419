"""Ray: engines on the nodes of a Ray cluster, each as a child of an actor's worker process.

An actor claims what its engine may use, so Ray decides where each runs, and which have to wait for room.

Ray's own rule for a token: a cluster that was started where a token is asks for it, but who connects shows one
only with ``RAY_AUTH_MODE=token`` in the environment. So that is set here where there is a token; a cluster that
asks for none takes no notice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipkernel_ext.launchers import guest
from ipkernel_ext.launchers.launcher import Launcher, LaunchError, LaunchOrder

REACH = 5.0  # seconds in which the address has to accept a connection; Ray itself tries for more than a minute
ANSWER = 15.0  # seconds that actors have
FIRST = 5.0  # seconds in which most of what is wrong with an actor shows
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


class Outpost:
    """What the actors are."""

    def begin(self, name: str, orders: dict[str, Any], connection: str, numbers: str) -> None:
        """See ``guest``."""
        guest.begin(name, orders, connection, numbers)

    def runs(self, name: str) -> bool:
        """See ``guest``."""
        return guest.runs(name)

    def end(self, name: str) -> None:
        """See ``guest``."""
        guest.end(name)


@dataclass
class Actor:
    """One of them, seen from here."""

    handle: Any
    begun: Any  # what ``begin`` comes to
    over: bool = False


class Ray:
    """See ``guest.Host``."""

    def __init__(self, address: str, cpus: float, gpus: float) -> None:
        self._address = address
        self._claims = {"num_cpus": cpus, "num_gpus": gpus}
        self._ray: Any = None
        self._actors: dict[str, list[Actor]] = {}

    @property
    def _connected(self) -> Any:
        if self._ray is None:
            _reach(self._address)
            if has_token(os.environ):
                os.environ.setdefault(MODE, "token")  # Ray reads it when it is imported
            try:
                import ray
            except ImportError:
                raise LaunchError('Ray is not installed here: pip install "ipkernel_ext[ray]"') from None
            handler = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(self._address, log_to_driver=False, configure_logging=False)
            except Exception as error:  # whatever kind
                raise LaunchError(
                    f"the Ray cluster at {self._address} does not let us in: {error}. Where it asks for a token, "
                    f"that has to be in {TOKEN}, {TOKEN_PATH} or ~/.ray/auth_token here"
                ) from None
            finally:
                signal.signal(signal.SIGTERM, handler)  # Ray takes it
            self._ray = ray
        return self._ray

    def places(self, count: int) -> int:
        """One for each engine."""
        return count

    def begin(self, name: str, orders: dict[str, Any], connection: str, groups: Sequence[str]) -> None:
        """Actors, which Ray creates as there is room."""
        ray = self._connected
        kind = ray.remote(Outpost).options(scheduling_strategy="SPREAD", **self._claims)
        actors = self._actors[name] = []
        for numbers in groups:
            handle = kind.remote()
            actors.append(Actor(handle, handle.begin.remote(name, orders, connection, numbers)))
        first, _ = ray.wait([actor.begun for actor in actors], timeout=FIRST)
        try:
            ray.get(first)
        except Exception as error:  # whatever the worker raised
            self.end(name)
            said = str(error).strip().splitlines()[-1]
            raise LaunchError(f"the Ray cluster at {self._address} starts no engines: {said}") from None

    def _created(self, name: str) -> set[Any]:
        """What has come, of what ``begin`` comes to; of the others the actor waits for room."""
        begun = [actor.begun for actor in self._actors[name]]
        return set(self._connected.wait(begun, num_returns=len(begun), timeout=0)[0])

    def states(self, name: str) -> list[str]:
        """By asking those that were created. What they had claimed is free again when their engines have ended."""
        created = self._created(name)
        asked = {
            index: actor.handle.runs.remote(name)
            for index, actor in enumerate(self._actors[name])
            if actor.begun in created and not actor.over
        }
        found = []
        for index, actor in enumerate(self._actors[name]):
            if index in asked and not self._is_true(asked[index]):
                actor.over = True
                self._ray.kill(actor.handle)
            found.append("ended" if actor.over else "running" if index in asked else "pending")
        return found

    def _is_true(self, asked: Any) -> bool:
        with contextlib.suppress(Exception):  # an actor that died
            return bool(self._ray.get(asked, timeout=ANSWER))
        return False

    def end(self, name: str) -> None:
        """Each outpost, and then its actor; those that wait for room are called off."""
        created = self._created(name)
        actors = [actor for actor in self._actors.pop(name) if not actor.over]
        ends = [actor.handle.end.remote(name) for actor in actors if actor.begun in created]
        if ends:
            self._ray.wait(ends, num_returns=len(ends), timeout=ANSWER)
        for actor in actors:
            self._ray.kill(actor.handle)

    def close(self) -> None:
        """The driver leaves."""
        if self._ray is not None:
            self._ray.shutdown()


def has_token(environment: Mapping[str, str]) -> bool:
    """Whether there is a token where Ray looks for one."""
    return (
        bool(environment.get(TOKEN) or environment.get(TOKEN_PATH)) or Path("~/.ray/auth_token").expanduser().exists()
    )


def _reach(address: str) -> None:
    """Refuse an address at which nobody listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except (OSError, ValueError) as error:
        raise LaunchError(f"no Ray cluster answers at {address}: {error}") from None


def launcher(settings: Mapping[str, Any], order: LaunchOrder) -> Launcher:
    """As the profile wants it."""
    if not settings["address"]:
        raise ValueError("which Ray cluster? --address HOST:6379, or c.ParallelGuest.address in the profile")
    return guest.Guests(Ray(settings["address"], settings["cpus"], settings["gpus"]), order)
