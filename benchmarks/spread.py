"""``python -m benchmarks.spread``: how long a large object takes to many hosts, by a model of the network.

Who gets it from whom, in what pieces, and how many of them are under way is what the couriers do; the network
is modelled. Each host, and the controller's, has a cable that carries so many bytes a second each way: pieces
leave one after the other, in the order in which they were asked for, as far as they are there. Each message is
under way for the latency besides. ``benchmarks.hosts`` shows on real connections what the model leaves out.
"""

from __future__ import annotations

import argparse
import heapq
from collections import deque
from collections.abc import Iterator, Sequence

from ipkernel_ext.net.courier import AHEAD
from ipkernel_ext.net.couriers import PIECE, parents

SIZE = 64 * 2**20  # bytes
HOSTS = (1, 4, 16, 64, 256, 1024)
RATE = 10.0  # Gbit/s of each cable, each way
LATENCY = 50.0  # microseconds


class Node:
    """A host, or the controller's."""

    def __init__(self, has: int) -> None:
        self.has = has  # pieces that are here; they come in order
        self.asked = 0  # pieces that it has asked for
        self.source: Node | None = None
        self.wanted: deque[tuple[Node, int]] = deque()  # pieces that others wait for
        self.sends = False


class Network:
    """The model.

    Parameters
    ----------
    sources
        From which of the others each host gets the object; None: from the controller.
    pieces : int
        Of which it consists.
    piece : float
        Seconds that one is on a cable.
    latency : float
        Seconds.
    """

    def __init__(self, sources: Sequence[int | None], pieces: int, piece: float, latency: float) -> None:
        self._pieces = pieces
        self._piece = piece
        self._latency = latency
        self._now = 0.0
        self._events: list[tuple[float, int, str, Node, tuple[Node, int] | None]] = []
        self._count = 0
        controller = Node(pieces)
        self._hosts = [Node(0) for _ in sources]
        for host, source in zip(self._hosts, sources, strict=True):
            host.source = controller if source is None else self._hosts[source]

    def run(self) -> float:
        """Seconds until every host has everything."""
        for host in self._hosts:
            for _ in range(AHEAD):
                self._ask(host)
        while self._events:
            self._now, _, what, node, wanted = heapq.heappop(self._events)
            if what == "asked" and wanted is not None:
                node.wanted.append(wanted)
            elif what == "sent":
                node.sends = False
            elif what == "came":
                node.has += 1
                self._ask(node)
            self._send(node)
        if any(host.has != self._pieces for host in self._hosts):
            raise RuntimeError("the model is wrong: not everything has come")
        return self._now

    def _ask(self, host: Node) -> None:
        if host.asked < self._pieces and host.source is not None:
            self._later(self._latency, "asked", host.source, (host, host.asked))
            host.asked += 1

    def _send(self, node: Node) -> None:
        """The next piece that somebody waits for leaves, if there is one."""
        here = None if node.sends else next((wanted for wanted in node.wanted if wanted[1] < node.has), None)
        if here is not None:
            node.wanted.remove(here)
            node.sends = True
            self._later(self._piece, "sent", node)
            self._later(self._piece + self._latency, "came", here[0])

    def _later(self, seconds: float, what: str, node: Node, wanted: tuple[Node, int] | None = None) -> None:
        self._count += 1
        heapq.heappush(self._events, (self._now + seconds, self._count, what, node, wanted))


def seconds(sources: Sequence[int | None], size: int, rate: float, latency: float) -> float:
    """Seconds that an object takes to all hosts.

    Parameters
    ----------
    size : int
        Bytes.
    rate : float
        Bytes/s of each cable, each way.
    latency : float
        Seconds.
    """
    return Network(sources, -(-size // PIECE), PIECE / rate, latency).run()


def table(hosts: Sequence[int], size: int, rate: float, latency: float) -> Iterator[str]:
    """How long it takes, beside the controller alone, each also in times that one copy takes."""
    one = size / rate
    yield f"{'hosts':>6} {'passed on':>12} {'':>7} {'by the controller alone':>26}"
    for count in hosts:
        ours = seconds(parents(count), size, rate, latency)
        alone = seconds([None] * count, size, rate, latency)
        yield f"{count:>6} {ours:>10.3f} s {ours / one:>6.2f}× {alone:>16.3f} s {alone / one:>6.1f}×"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.spread", description=__doc__)
    parser.add_argument("--rate", type=float, default=RATE, help=f"Gbit/s of each cable (default: {RATE:g})")
    parser.add_argument("--latency", type=float, default=LATENCY, help=f"microseconds (default: {LATENCY:g})")
    options = parser.parse_args(arguments)
    print(f"64 MB to hosts with cables of {options.rate:g} Gbit/s and a latency of {options.latency:g} µs")
    print("\n".join(table(HOSTS, SIZE, options.rate * 1e9 / 8, options.latency * 1e-6)))


if __name__ == "__main__":
    main()
