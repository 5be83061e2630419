"""``python -m benchmarks.hosts``: an array to engines on other hosts, beside trees of bare TCP connections.

Hosts are network namespaces around a bridge, each with its own cable, whose bandwidth is limited both ways; only
root can make them. A client and its controller are on one, four engines on each of the others. The floor moves
the array to each host once and does nothing else: by a tree in which the client's host sends to two and each passes on
what comes as it comes; by a chain; and by the client's host alone. ``--quick`` only tries it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.data import in_turns, sized
from tests.cluster.hosts import Host, address, network, why_not

FAR = Path(__file__).resolve().with_name("far.py")
HOSTS = 4
ENGINES = 4  # on each
SIZE = 64 * 2**20
ROUNDS = 3
RATE = 200  # Mbit/s of each cable, each way
PORT = 5300
WANTED = 1.3
"""Times the tree's time that a push may take."""

TREES: dict[str, dict[int, list[int]]] = {
    "tree": {0: [1, 2], 1: [3], 2: [4]},
    "chain": {0: [1], 1: [2], 2: [3], 3: [4]},
    "star": {0: [1, 2, 3, 4]},
}
"""To whom each host passes an array on; 0 is the client's."""

WAYS = {
    "tree": "to each host once, by a tree",
    "chain": "to each host once, by a chain",
    "star": "to each host once, by the client's host alone",
    "ours": "ipkernel_ext, push",
    "direct": "ipyparallel, push of a direct view",
    "broadcast": "ipyparallel, push of a broadcast view",
}


class Inside:
    """``far.py`` on a host. It ends when its standard input does.

    Parameters
    ----------
    python : str
        That runs it.
    """

    def __init__(self, host: Host, python: str, *arguments: str) -> None:
        command = host.inside([python, "-P", str(FAR), *arguments])
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.line()  # it is ready

    def line(self) -> str:
        """The next that it prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a program on a host has ended with {self._process.wait()}")
        return line.strip()

    def ask(self, question: str = "") -> str:
        """Tell it a line; what it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        return self.line()

    def time(self) -> float:
        """Seconds of one more push."""
        return float(self.ask())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@contextlib.contextmanager
def started(hosts: Sequence[Host], python: str, system: str, size: int, *ways: str) -> Iterator[Inside]:
    """A cluster of this system: a client on the first host, engines on the others."""
    with contextlib.ExitStack() as stack:
        client = Inside(hosts[0], python, system, address(0), str(size), str((len(hosts) - 1) * ENGINES), *ways)
        stack.callback(client.close)
        joins = client.ask("file")
        for host in hosts[1:]:
            engines = Inside(host, python, f"{system}-engines", str(ENGINES))
            stack.callback(engines.close)
            engines.ask(joins)
        client.ask("wait")
        yield client


@contextlib.contextmanager
def relays(hosts: Sequence[Host], size: int) -> Iterator[dict[str, Any]]:
    """What measures each of the trees."""
    with contextlib.ExitStack() as stack:
        found = {}
        for place, (name, tree) in enumerate(TREES.items()):
            port = str(PORT + place)
            for number in reversed(range(len(hosts))):
                children = [address(child) for child in tree.get(number, ()) if child < len(hosts)]
                role = "source" if number == 0 else "relay"
                inside = Inside(hosts[number], sys.executable, role, port, str(size), *children)
                stack.callback(inside.close)
            found[name] = inside.time
        yield found


def measure(
    rounds: int, size: int, count: int, rate: int, peers: environment.Environment | None
) -> Mapping[str, Sequence[float]]:
    """Seconds by way, one for each round."""
    figures: dict[str, list[float]] = {}
    with network(count + 1, rate) as hosts:
        with relays(hosts, size) as contestants:
            figures |= tell(in_turns(contestants, rounds))
        with started(hosts, sys.executable, "ours", size) as client:
            figures |= tell(in_turns({"ours": client.time}, rounds))
        if peers is not None and "ipyparallel" in peers.versions:
            for way in ("direct", "broadcast"):
                try:
                    with started(hosts, peers.python, "ipyparallel", size, way) as client:
                        figures |= tell(in_turns({way: client.time}, rounds))
                except RuntimeError as error:
                    print(f"{WAYS[way]}: {error}", file=sys.stderr)
    return figures


def tell(figures: Mapping[str, Sequence[float]]) -> Mapping[str, Sequence[float]]:
    """Say what was measured just now, for whoever watches; the figures."""
    for name, seconds in figures.items():
        print(f"{WAYS[name]}: {', '.join(f'{each:.2f}' for each in seconds)} s", file=sys.stderr, flush=True)
    return figures


def table(figures: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Medians, and how many times the tree's each is."""
    tree = statistics.median(figures["tree"])
    yield f"{'':<48} {'median':>8} {'best':>8}      {'of the tree':>11}"
    for name, text in WAYS.items():
        if name in figures:
            middle = statistics.median(figures[name])
            line = f"{text:<48} {middle:>8.2f} {min(figures[name]):>8.2f} s    {middle / tree:>11.2f}"
            yield line + (f"  wanted {WANTED:g}" if name == "ours" else "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.hosts", description=__doc__)
    parser.add_argument("--rate", type=int, default=RATE, help=f"Mbit/s of each cable (default: {RATE})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often each is measured (default: {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="two hosts, a small array, one round: whether it runs")
    options = parser.parse_args(arguments)
    if why := why_not():
        sys.exit(f"{parser.prog}: {why}")
    rounds, size, count = (1, 2**20, 2) if options.quick else (options.rounds, SIZE, HOSTS)
    peers = None if options.quick else environment.prepare()
    figures = measure(rounds, size, count, options.rate, peers)
    print(f"{sized(size)} to {count} hosts with {ENGINES} engines each, cables of {options.rate} Mbit/s")
    print("\n".join(table(figures)), flush=True)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    main()
