"""Every option, with its default and its help: traitlets at the door, frozen dataclasses behind it.

The classes are named so that config files can be shared with other packages: what is not ours is
left alone, but a misspelt option of one of ours is an error that names the nearest right one.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TypeVar

from traitlets import Bool, Enum, Float, Integer, TraitError, Unicode
from traitlets.config import Config, Configurable

from ipkernel_ext.config.cores import cores


class ParallelController(Configurable):
    """The controller."""

    ip = Unicode(
        "",
        help="Address at which engines and clients of other hosts reach it, with keys; `*` is every address of this "
        "host. With neither this nor a port it listens on a unix socket only.",
    ).tag(config=True)
    port = Integer(
        0, min=0, max=65535, help="TCP port for other hosts; 0 is any free one. Without an address: of 127.0.0.1."
    ).tag(config=True)
    recovery_window = Float(
        10.0, min=0, help="Seconds in which a restarted controller waits for the engines of its earlier life."
    ).tag(config=True)
    engine_grace = Float(60.0, min=0, help="Seconds an engine may be silent before it counts as lost.").tag(config=True)
    result_ttl = Float(86400.0, min=0, help="Seconds for which results of a client that is away are kept.").tag(
        config=True
    )


class ParallelEngine(Configurable):
    """Engines."""

    max_output = Integer(64 * 2**20, min=0, help="Characters of output kept of one task.").tag(config=True)


class ParallelCluster(Configurable):
    """A cluster on this machine."""

    n = Integer(0, min=0, help="Engines to start; 0 is one per core.").tag(config=True)
    restart = Enum(
        ["on-failure", "never"], "on-failure", help="Whether an engine that died gets a successor with the same id."
    ).tag(config=True)
    restart_limit = Integer(3, min=0, help="Restarts within 10 seconds, after which they are given up.").tag(
        config=True
    )
    start_timeout = Float(60.0, min=0, help="Seconds in which the engines must be ready.").tag(config=True)


class ParallelMagics(Configurable):
    """The magics."""

    autostart = Bool(True, help="Whether the first magic starts a cluster when none runs.").tag(config=True)
    n = Integer(0, min=0, help="Engines of a cluster that a magic starts; 0 is one per core.").tag(config=True)
    profile = Unicode("default", help="Profile whose cluster the magics use.").tag(config=True)
    targets = Unicode("all", help="Engines that the magics address.").tag(config=True)


CLASSES: tuple[type[Configurable], ...] = (ParallelController, ParallelEngine, ParallelCluster, ParallelMagics)

T = TypeVar("T", bound=Configurable)


@dataclass(frozen=True)
class ControllerSettings:
    """See ``ParallelController``."""

    ip: str = ""
    port: int = 0
    recovery_window: float = 10.0  # seconds
    engine_grace: float = 60.0  # seconds
    result_ttl: float = 86400.0  # seconds

    @property
    def tcp(self) -> bool:
        """Whether to listen for other hosts at all."""
        return bool(self.ip or self.port)


@dataclass(frozen=True)
class EngineSettings:
    """See ``ParallelEngine``."""

    max_output: int = 64 * 2**20  # characters


@dataclass(frozen=True)
class ClusterSettings:
    """See ``ParallelCluster``."""

    n: int = 0
    restart: str = "on-failure"
    restart_limit: int = 3
    start_timeout: float = 60.0  # seconds

    @property
    def engines(self) -> int:
        """How many engines to start."""
        return self.n or cores()


def check(config: Config) -> None:
    """Refuse options of our classes that do not exist.

    Raises
    ------
    ValueError
        Names the nearest right one.
    """
    for kind in CLASSES:
        known = kind.class_trait_names(config=True)
        for name in config.get(kind.__name__, {}):
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(known))}"
                raise ValueError(f"{kind.__name__} has no option {name!r}: {hint}")


def controller_settings(config: Config) -> ControllerSettings:
    """From what the user configured."""
    made = _make(ParallelController, config)
    return ControllerSettings(made.ip, made.port, made.recovery_window, made.engine_grace, made.result_ttl)


def engine_settings(config: Config) -> EngineSettings:
    """From what the user configured."""
    return EngineSettings(_make(ParallelEngine, config).max_output)


def cluster_settings(config: Config) -> ClusterSettings:
    """From what the user configured."""
    made = _make(ParallelCluster, config)
    return ClusterSettings(made.n, made.restart, made.restart_limit, made.start_timeout)


def _make(kind: type[T], config: Config) -> T:
    check(config)
    try:
        return kind(config=config)
    except TraitError as error:  # names class, option and value
        raise ValueError(str(error)) from None
