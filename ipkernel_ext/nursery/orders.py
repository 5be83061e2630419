"""What the processes of a nursery are told when they start, as JSON; typed for whoever writes and reads it.

Plain dicts and the standard library's ``json``, because the agent reads its orders before it imports
anything that takes time: the zygote and the controller start meanwhile.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any, TypedDict

from ipkernel_ext.nursery import open_files

GAVE_UP = 3
"""Exit code of an agent whose controller does not stay up."""


class EngineSetup(TypedDict):
    """What all engines of a host have in common."""

    path: list[str] | None  # sys.path; None: as it comes
    pythonpath: str | None  # PYTHONPATH as user code is to see it
    cwd: str
    open_files: int  # that an engine may have
    preload: list[str]  # modules that the zygote imports before it forks
    threads: dict[str, str]  # environment variables that limit threads
    gpus: list[str] | None  # that are divided among the engines; None: they are not
    settings: dict[str, Any]  # of EngineSettings
    connection: str  # the engines' connection file
    away: bool  # it may lead to another host
    outpost: bool  # the controller is on another host, whatever it leads to
    begun: str  # directory of begun files
    owned: bool  # engines end with their agent


class EngineOrders(TypedDict):
    """What one engine is."""

    boot: str
    number: int  # the engine id it asks for
    agent: str
    replaces: str | None  # boot of the engine whose id it takes over
    log: str  # file of its log
    gpus: list[str]  # that it sees; none: all that there are


class ControllerOrders(TypedDict):
    """What the controller is."""

    directory: str
    profile: str | None
    settings: dict[str, Any]  # of ControllerSettings
    owned: bool


class LaunchOrders(TypedDict):
    """What the process that has engines started elsewhere is to do."""

    where: str
    settings: dict[str, Any]  # of that place
    numbers: list[int]  # the engine ids that they ask for
    outpost: dict[str, Any]  # orders of an agent there, as far as they are known here
    directory: str  # runtime directory of the cluster
    logs: str
    profile: str | None
    socket: str  # of the controller
    connection: str  # the engines' connection file
    owned: bool  # it ends with the agent that starts it


class Orders(TypedDict):
    """What an agent is to do."""

    directory: str
    profile: str | None
    logs: str
    numbers: list[int]  # the engine ids that its engines ask for
    owned: bool  # the end of standard input means that the owner is gone
    adopt: bool  # take over what an agent that was killed has left
    start_method: str  # fork, spawn
    restart: bool
    restart_limit: int
    controller: dict[str, Any] | None  # of ControllerSettings; None: it is elsewhere, and this agent an outpost
    launch: LaunchOrders | None  # what is to start engines elsewhere
    grace: float  # seconds for which an outpost looks for a controller
    setup: EngineSetup


def write(value: Any) -> bytes:
    """One line."""
    return json.dumps(value).encode() + b"\n"


def first_line(descriptor: int = 0) -> Any:
    """The first line that comes there, and no byte more: what follows is the owner's silence."""
    line = bytearray()
    while (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
        line += byte
    return json.loads(line)


def set_up(setup: EngineSetup) -> None:
    """Give this process the module search path, the working directory and the limits that its engines are to have.

    An engine that crashes writes no core file, which takes as long as it is large, while its end is waited for;
    user code may allow it.
    """
    open_files.allow(setup["open_files"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if setup["path"] is not None:
        sys.path[:] = setup["path"]
        os.environ.pop("PYTHONPATH", None)
        if setup["pythonpath"] is not None:
            os.environ["PYTHONPATH"] = setup["pythonpath"]
    try:
        os.chdir(setup["cwd"])
    except OSError:
        os.chdir("/")  # somebody has removed it
