"""Every option, with its default and its help: traitlets at the door, frozen dataclasses behind it.

The classes are named so that config files can be shared with other packages: what is not ours is
left alone, but a misspelt option of one of ours, or the misspelt name of such a class, is an error
that names the nearest right one.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from traitlets import Bool, Container, Enum, Float, Integer, List, TraitError, TraitType, Unicode
from traitlets.config import Config, Configurable

from ipkernel_ext.config import elsewhere
from ipkernel_ext.config.elsewhere import ParallelBatch, ParallelGuest, ParallelKubernetes, ParallelMPI, ParallelSSH
from ipkernel_ext.config.resolved import (
    PLACES,
    BatchSettings,
    ClusterSettings,
    ControllerSettings,
    EngineSettings,
    GuestSettings,
    KubernetesSettings,
    MPISettings,
    Settings,
    SSHSettings,
)


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
    location = Unicode(
        "",
        help="Name or address by which other hosts reach this one, for the connection files, where that is none of its "
        "own: behind NAT, or the right one of several networks.",
    ).tag(config=True)
    recovery_window = Float(
        10.0, min=0, help="Seconds in which a restarted controller waits for the engines of its earlier life."
    ).tag(config=True)
    engine_grace = Float(
        60.0,
        min=0,
        help="Seconds an engine may be silent before it counts as lost. Engines that ssh or a batch system started "
        "end themselves when they have found no controller for so long.",
    ).tag(config=True)
    result_ttl = Float(
        86400.0, min=0, help="Seconds for which results of a client that is away, or has left, are kept."
    ).tag(config=True)
    result_store = Integer(
        2**30, min=0, help="Bytes of such results on disk; beyond that the oldest are dropped. 0 keeps none there."
    ).tag(config=True)
    shared_memory = Unicode(
        "/dev/shm",
        help="Directory, in memory, through which large objects travel between the processes of this host. Empty: they "
        "travel through the socket, as they do where this is full or missing.",
    ).tag(config=True)
    share_above = Integer(
        2**18, min=8192, help="Bytes of the smallest array, or other large part of an object, that travels so."
    ).tag(config=True)
    share_pool = Integer(
        2**30,
        min=0,
        help="Bytes of such memory that a client keeps for half a minute after their use, because memory that is "
        "written again is written several times as fast; an engine keeps half of that.",
    ).tag(config=True)
    pass_on = Bool(
        True,
        help="Whether hosts of engines get large objects from each other. For that one engine of a host listens at a "
        "port, any free one, which needs the key of engines; else each host gets them from the controller.",
    ).tag(config=True)


class ParallelEngine(Configurable):
    """Engines."""

    max_output = Integer(64 * 2**20, min=0, help="Characters of output kept of one task.").tag(config=True)
    exec_files = List(
        Unicode(),
        help="Files that each engine runs as it starts, also as a successor; what they print goes to its log.",
    ).tag(config=True)
    tags = List(
        Unicode(),
        help="Tags of the engines, for targets such as `tag:big`; one that sees a GPU has the tag `gpu` too.",
    ).tag(config=True)
    exec_lines = List(Unicode(), help="Code, magics too, that each engine runs then, after the files.").tag(config=True)
    input_timeout = Float(
        3600.0, min=0, help="Seconds for which the debugger waits for a command, before it ends and the engine goes on."
    ).tag(config=True)


class ParallelCluster(Configurable):
    """A cluster, and where its engines are."""

    n = Integer(0, min=0, help="Engines to start; 0 is one per core, or what the hosts are to have.").tag(config=True)
    engines = Enum(PLACES, "local", help="Where engines run.").tag(config=True)
    restart = Enum(
        ["on-failure", "never"], "on-failure", help="Whether an engine that died gets a successor with the same id."
    ).tag(config=True)
    restart_limit = Integer(3, min=0, help="Restarts within 10 seconds, after which they are given up.").tag(
        config=True
    )
    start_method = Enum(
        ["fork", "spawn"], "fork", help="Engines are forked from a warm process, or each is started on its own."
    ).tag(config=True)
    preload = List(
        Unicode(), ["numpy"], help="Modules imported once, before engines are forked; NumPy only where it is installed."
    ).tag(config=True)
    share_gpus = Bool(
        True,
        help="Whether the GPUs of a host are divided among its engines, by CUDA_VISIBLE_DEVICES: each gets its own, or "
        "several share one.",
    ).tag(config=True)
    start_timeout = Float(60.0, min=0, help="Seconds in which the engines must be ready.").tag(config=True)


class ParallelMagics(Configurable):
    """The magics."""

    autostart = Bool(True, help="Whether the first magic starts a cluster when none runs.").tag(config=True)
    n = Integer(0, min=0, help="Engines of a cluster that a magic starts; 0 is what ParallelCluster.n says.").tag(
        config=True
    )
    profile = Unicode("", help="Profile whose cluster the magics use; empty is the session's own.").tag(config=True)
    targets = Unicode("all", help="Engines that the magics address.").tag(config=True)
    block = Bool(True, help="Whether %px waits for its code to end.").tag(config=True)
    max_result = Integer(
        0,
        min=0,
        help="Bytes that a value from the engines may have; a larger one stays there, and the call fails. 0 is half of "
        "the memory that is available when the session connects.",
    ).tag(config=True)


STARTING: tuple[type[Configurable], ...] = (ParallelController, ParallelEngine, ParallelCluster, *elsewhere.CLASSES)
"""What whoever starts a cluster has a use for."""

CLASSES: tuple[type[Configurable], ...] = (*STARTING, ParallelMagics)

T = TypeVar("T", bound=Configurable)


class OptionError(ValueError):
    """An option that does not exist, or cannot have the value it was given.

    Attributes
    ----------
    option : str
        As config files spell it after ``c.``: class and option, or a misspelt class alone.
    """

    def __init__(self, message: str, option: str) -> None:
        super().__init__(message)
        self.option = option


def check(config: Config) -> None:
    """Refuse what is meant for our classes and is not right: names that do not exist, values that are not allowed.

    Classes of other packages are left alone.

    Raises
    ------
    OptionError
        Names the nearest right class or option, or what the option takes.
    """
    ours = {kind.__name__: kind for kind in CLASSES}
    for name in config:
        if name not in ours and (near := near_class(name)) is not None:
            raise OptionError(f"there is no class {name!r}: did you mean {near}?", name)
    for name, kind in ours.items():
        for option, value in config.get(name, {}).items():
            _check_option(kind, option, value)


def near_class(name: str) -> str | None:
    """The class of ours that this was surely meant to be, so near that no other package would name its own so."""
    lower = {kind.__name__.lower(): kind.__name__ for kind in CLASSES}
    near = difflib.get_close_matches(name.lower(), lower, 1, cutoff=0.85)
    return lower[near[0]] if near else None


def _check_option(kind: type[Configurable], name: str, value: Any) -> None:
    known = kind.class_traits(config=True)
    option = f"{kind.__name__}.{name}"
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(known))}"
        raise OptionError(f"{kind.__name__} has no option {name!r}: {hint}", option)
    alone = Config()
    alone[kind.__name__][name] = copy.deepcopy(value)  # reading a lazy value changes it
    try:
        kind(config=alone)
    except TraitError:
        shown = str(value) if isinstance(value, str) else value
        raise OptionError(f"{option} cannot be {shown!r}; it takes {allowed(known[name])}", option) from None


def allowed(trait: TraitType[Any, Any]) -> str:
    """What an option takes, in words."""
    if isinstance(trait, Enum):
        return " or ".join(repr(value) for value in trait.values or ())
    if isinstance(trait, Container) and trait._trait is not None:
        return f"{trait.info()}, each item {allowed(trait._trait)}"
    bounds = [
        f"{words} {bound}"
        for words, bound in (("at least", getattr(trait, "min", None)), ("at most", getattr(trait, "max", None)))
        if bound is not None and math.isfinite(bound)
    ]
    return ", ".join([trait.info(), *bounds])


def controller_settings(config: Config) -> ControllerSettings:
    """From what the user configured."""
    made = _make(ParallelController, config)
    return ControllerSettings(
        made.ip,
        made.port,
        made.recovery_window,
        made.engine_grace,
        made.result_ttl,
        made.result_store,
        made.shared_memory,
        made.share_above,
        made.share_pool,
        made.location,
        made.pass_on,
    )


def engine_settings(config: Config) -> EngineSettings:
    """From what the user configured."""
    given = _make(ParallelEngine, config)
    return EngineSettings(
        given.max_output, tuple(given.exec_files), tuple(given.exec_lines), given.input_timeout, tuple(given.tags)
    )


def cluster_settings(config: Config) -> ClusterSettings:
    """From what the user configured."""
    made = _make(ParallelCluster, config)
    return ClusterSettings(
        made.n,
        made.restart,
        made.restart_limit,
        made.start_method,
        tuple(made.preload),
        made.start_timeout,
        made.engines,
        made.share_gpus,
    )


def _elsewhere(config: Config) -> tuple[SSHSettings, MPISettings, BatchSettings, GuestSettings, KubernetesSettings]:
    return (
        SSHSettings(**_values(_make(ParallelSSH, config))),
        MPISettings(**_values(_make(ParallelMPI, config))),
        BatchSettings(**_values(_make(ParallelBatch, config))),
        GuestSettings(**_values(_make(ParallelGuest, config))),
        KubernetesSettings(**_values(_make(ParallelKubernetes, config))),
    )


def _values(made: Configurable) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value := getattr(made, name), list) else value
        for name in made.class_own_traits(config=True)
    }


def settings_of(config: Config) -> Settings:
    """From what the user configured.

    Raises
    ------
    ValueError
        An option that does not exist, or a value that it does not take.
    """
    return Settings(cluster_settings(config), controller_settings(config), engine_settings(config), *_elsewhere(config))


def _make(kind: type[T], config: Config) -> T:
    check(config)
    try:
        return kind(config=config)
    except TraitError as error:  # names class, option and value
        raise ValueError(str(error)) from None


def classes_of(options: Mapping[str, Any], where: str = "local") -> Config:
    """Options of a cluster whose engines are there, by their bare names, as a configuration.

    Raises
    ------
    ValueError
        A name that none of them has; names the nearest right one.
    """
    kinds: tuple[type[Configurable], ...] = (ParallelCluster, ParallelController, ParallelEngine)
    kinds = (*elsewhere.classes_for(where), *kinds)
    homes = {name: kind for kind in kinds for name in kind.class_own_traits(config=True)}
    config = Config()
    for name, value in options.items():
        if name not in homes:
            near = difflib.get_close_matches(name, homes, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(homes))}"
            raise ValueError(f"a cluster has no option {name!r}: {hint}")
        config[homes[name].__name__][name] = value
    return config
