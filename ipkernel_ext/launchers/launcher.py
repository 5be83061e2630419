"""What a launcher is: something that has engines started by somebody else, and knows what became of them.

A launcher runs in a process of its own (``nursery.launching``), which tells the controller what it
says; so it may take its time. It knows nothing of the controller but the files that lead there.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class LaunchError(Exception):
    """Engines could not be started; the message has the words of whoever refused."""


@dataclass(frozen=True)
class LaunchOrder:
    """What any launcher is told."""

    directory: str  # of the cluster, for files of this launcher
    logs: str
    socket: str  # of the controller
    connection: str  # the engines' connection file
    profile: str | None
    python: str  # that starts the cluster
    outpost: dict[str, Any]  # orders of an agent elsewhere, as far as they are known here


class State(NamedTuple):
    """How it goes."""

    expected: int  # engines that run or are still to come
    pending: int = 0  # of these, those whose start somebody else puts off
    waits: str = ""  # why, in their words
    ended: str = ""  # what ended since the last time that nobody ordered, and why


class Launcher(Protocol):
    """Has engines started.

    Attributes
    ----------
    fixed : str
        Why the number of engines cannot be changed later; "" where it can.
    pause : float
        Seconds after which it is to be asked again for its state.
    """

    fixed: str
    pause: float

    def start(self, numbers: Sequence[int]) -> None:
        """Have engines started that ask for these ids; may be called again for more.

        Raises
        ------
        LaunchError
            It was refused.
        """

    def state(self) -> State:
        """How it goes now."""

    def keep(self, ids: Sequence[int], pending: int) -> None:
        """Of the engines that run only those with these ids stay, and of those that are pending so many."""

    def stop(self) -> None:
        """End everything that it has started; returns when it is gone, as far as can be seen from here."""


def run(command: Sequence[str], timeout: float, text: str | None = None) -> str:
    """What a command says.

    Raises
    ------
    LaunchError
        It failed; in its own words.
    """
    shown = shlex.join(command[:1])
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout)
    except FileNotFoundError:
        raise LaunchError(f"there is no command {shown} here") from None
    except OSError as error:
        raise LaunchError(f"{shown} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise LaunchError(f"{shown} does not answer within {timeout:g} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"it ended with {done.returncode}").splitlines()
        words = "\n".join(line.removeprefix(f"{shown}: ") for line in said[-5:])
        raise LaunchError(f"{shown}: {words}")
    return done.stdout


def ranges(numbers: Sequence[int]) -> str:
    """``0-3,7`` for these numbers."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
