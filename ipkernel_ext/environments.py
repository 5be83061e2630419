"""Where the engines' Python and packages differ from those that this client has imported; told once for each host."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ipkernel_ext.core.messages import EngineRecord
from ipkernel_ext.execution import environment
from ipkernel_ext.results import AsyncResult
from ipkernel_ext.targets import summary
from ipkernel_ext.units import count

if TYPE_CHECKING:
    from ipkernel_ext.views import Engines

Versions = Mapping[str, str]


class Newcomers:
    """Asks one engine of each other host when it is first seen; engines of this host have this client's packages.

    Parameters
    ----------
    call
        Calls a function with arguments on an engine, and does not wait.
    """

    def __init__(self, call: Callable[[Callable[..., Any], tuple[Any, ...], int], AsyncResult]) -> None:
        self._call = call
        self._mine: Versions = {}
        self._hosts = {socket.gethostname(), ""}
        self.asked: list[tuple[EngineRecord, AsyncResult]] = []

    def look(self, engines: Iterable[EngineRecord]) -> None:
        """These are here now."""
        for engine in engines:
            if engine.host in self._hosts or engine.state != "ready" or engine.pid == os.getpid():
                continue
            self._hosts.add(engine.host)
            self._mine = self._mine or environment.imported()
            names = [name for name in self._mine if name != environment.PYTHON]
            self.asked.append((engine, self._call(environment.versions, (names,), engine.id)))

    def news(self) -> list[str]:
        """What was found to differ since this was asked last."""
        if not self.asked:
            return []
        answered = [(engine, result) for engine, result in self.asked if result.done()]
        self.asked = [(engine, result) for engine, result in self.asked if not result.done()]
        return [
            told(self._mine, {engine.id: (engine.host, theirs)}) + _MORE
            for engine, result in answered
            if result.successful() and differences(self._mine, theirs := result.get()[0])
        ]


_MORE = "\n`%engines --env` compares all engines again"


def compared(engines: Engines) -> str:
    """Ask all engines, and tell the differences."""
    mine = environment.imported()
    ids = list(engines.ids)
    theirs = engines._quietly(environment.versions, [name for name in mine if name != environment.PYTHON], targets=ids)
    hosts = {engine.id: engine.host for engine in engines.known}
    return told(mine, {id: (hosts.get(id, ""), found) for id, found in zip(ids, theirs, strict=True)})


def told(mine: Versions, theirs: Mapping[int, tuple[str, Versions]]) -> str:
    """The differences in words, one paragraph for each host, or for each kind of environment on it.

    Parameters
    ----------
    theirs
        By engine id its host, and its versions.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for id, (host, found) in theirs.items():
        groups.setdefault((host, tuple(differences(mine, found))), []).append(id)
    packages = f"Python {mine.get(environment.PYTHON, '')} and {count(len(mine) - 1, 'package')} that are imported here"
    texts = []
    for (host, lines), ids in groups.items():
        who = f"{'engine' if len(ids) == 1 else 'engines'} {summary(ids)} of host {host}"
        if lines:
            texts.append("\n  ".join([f"{who}: not as here are", *lines]))
        else:
            texts.append(f"{who}: as here are {packages}")
    return "\n".join(texts)


def differences(mine: Versions, theirs: Versions) -> list[str]:
    """A line for each package of another version."""
    return [
        f"{name} {theirs.get(name) or 'not installed'} there, {version} here"
        for name, version in mine.items()
        if theirs.get(name) != version
    ]
