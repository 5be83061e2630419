"""Hosts as a user names them, ``a:4`` and ``me@b:8``, and which engine is to be on which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Host(NamedTuple):
    """One host."""

    name: str  # for ssh, with its user if one is given
    engines: int  # that it is to have


def hosts_of(given: Sequence[str]) -> list[Host]:
    """Hosts by what the user wrote.

    Raises
    ------
    ValueError
        Something that is no host; names it.
    """
    hosts: dict[str, Host] = {}
    for text in given:
        name, colon, number = text.strip().rpartition(":")
        if not colon:
            name, number = number, "1"
        if not name or name.startswith("-") or not number.isdecimal() or not int(number) or len(name.split()) != 1:
            raise ValueError(f"{text!r} is no host with a number of engines: write HOST:N, as in a:4,b:8")
        if name in hosts:
            raise ValueError(f"the host {name} is there twice; write it once, with all its engines")
        hosts[name] = Host(name, int(number))
    return list(hosts.values())


def shares(hosts: Sequence[Host], have: Sequence[int], more: int) -> list[int]:
    """How many of ``more`` engines each host gets: first what it lacks, in order, then by turns, by their shares.

    Parameters
    ----------
    have
        How many each has already.
    """
    given = [0] * len(hosts)
    for i, host in enumerate(hosts):
        given[i] = min(max(0, host.engines - have[i]), more - sum(given))
    while sum(given) < more:
        full = [(have[i] + given[i]) / host.engines for i, host in enumerate(hosts)]
        given[full.index(min(full))] += 1
    return given
