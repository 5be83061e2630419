"""Graphs of calls, such as NetworkX makes: each node is a call, each edge says who comes after whom.

A node is sent when all before it have ended, with their values as arguments. Any graph does that has
``nodes``, ``pred`` and ``is_directed`` as NetworkX' have; NetworkX itself is not needed here.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Hashable, Iterable
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, NamedTuple

from ipkernel_ext.errors import DependencyFailed
from ipkernel_ext.results import AsyncResult
from ipkernel_ext.targets import Spec
from ipkernel_ext.units import a, count

if TYPE_CHECKING:
    from ipkernel_ext.views import Engines


_OPTIONS = frozenset({"targets", "on", "after", "retries", "block"})


class Node(NamedTuple):
    """A call of a graph."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    on: Spec | None
    retries: int
    before: dict[Hashable, bool | str]  # what comes before it: whether, or under which name, its value is passed


def nodes_of(graph: Any) -> dict[Hashable, Node]:
    """The calls of a graph, checked.

    Raises
    ------
    TypeError
        It is no directed graph, or a node carries no function.
    ValueError
        It has a cycle; names it.
    """
    if not all(hasattr(graph, name) for name in ("nodes", "is_directed", "is_multigraph")):
        raise TypeError(f"run_graph takes a networkx.DiGraph, not {a(type(graph).__name__)}")
    if not graph.is_directed() or graph.is_multigraph():
        raise TypeError(
            f"run_graph takes a directed graph with single edges, as networkx.DiGraph, not {a(type(graph).__name__)}"
        )
    found = {name: _node(name, dict(data), dict(graph.pred[name])) for name, data in graph.nodes(data=True)}
    _sorted(found)
    return found


def _node(name: Hashable, data: dict[str, Any], before: dict[Hashable, Any]) -> Node:
    function = data.get("function", name)
    if not callable(function):
        raise TypeError(f"node {name!r} carries no function: graph.add_node({name!r}, function=…) gives it one")
    passes = {}
    for other, edge in before.items():
        how = passes[other] = edge.get("passes", True)
        if not isinstance(how, bool | str):
            raise TypeError(f"edge {other!r} → {name!r}: passes is True, False or the name of an argument, not {how!r}")
    args, kwargs = tuple(data.get("args", ())), dict(data.get("kwargs", {}))
    for argument in (*kwargs, *passes.values()):
        if argument in _OPTIONS:
            raise TypeError(
                f"node {name!r} has an argument {argument!r}, which submit takes for itself: "
                "bind it by functools.partial"
            )
    return Node(function, args, kwargs, data.get("on"), data.get("retries", 0), passes)


def _sorted(nodes: dict[Hashable, Node]) -> TopologicalSorter[Hashable]:
    sorter = TopologicalSorter({name: node.before for name, node in nodes.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " → ".join(repr(name) for name in error.args[1])
        raise ValueError(f"the graph has a cycle, so nothing of it can be first: {cycle}") from None
    return sorter


class Run:
    """One run of a graph.

    Parameters
    ----------
    submit
        Sends a call, balanced.
    show
        Called with how many nodes have ended.
    """

    def __init__(
        self, submit: Callable[..., AsyncResult], graph: Any, return_exceptions: bool, show: Callable[[int], None]
    ) -> None:
        self._submit = submit
        self._nodes = nodes_of(graph)
        self._return_exceptions = return_exceptions
        self._show = show
        self._values: dict[Hashable, Any] = {}
        self._failed: dict[Hashable, tuple[list[Hashable], BaseException]] = {}  # the chain, and what began it
        self._under_way: dict[Hashable, AsyncResult] = {}
        self._ended: queue.SimpleQueue[Hashable] = queue.SimpleQueue()

    def run(self) -> dict[Hashable, Any]:
        """Run it; the values by node."""
        sorter = _sorted(self._nodes)
        try:
            while sorter.is_active():
                for name in sorter.get_ready():
                    if not self._begin(name):
                        sorter.done(name)
                if self._under_way:
                    name = self._ended.get()
                    self._end(name)
                    sorter.done(name)
                self._show(len(self._values))
        except BaseException:
            for result in self._under_way.values():
                result.cancel()
            raise
        return {name: self._values[name] for name in self._nodes}

    def _begin(self, name: Hashable) -> bool:
        """Send a node. False if it is not run, because one before it failed."""
        node = self._nodes[name]
        for other in node.before:
            if other in self._failed:
                chain, error = self._failed[other]
                self._failed[name] = [*chain, name], error
                self._values[name] = _not_run(*self._failed[name])
                return False
        passed = [self._values[other] for other, how in node.before.items() if how is True]
        named = {how: self._values[other] for other, how in node.before.items() if isinstance(how, str)}
        result = self._submit(
            node.function, *passed, *node.args, on=node.on, retries=node.retries, **{**named, **node.kwargs}
        )
        self._under_way[name] = result
        result.add_done_callback(lambda _: self._ended.put(name))
        return True

    def _end(self, name: Hashable) -> None:
        result = self._under_way.pop(name)
        try:
            self._values[name] = result.get()
        except Exception as error:
            later = list(self._after(name))
            error.add_note(f"at node {name!r} of the graph{_not_run_later(later)}")
            if not self._return_exceptions:
                raise
            self._failed[name] = [name], error
            self._values[name] = error

    def _after(self, name: Hashable) -> Iterable[Hashable]:
        """All that come after a node, in order of the graph."""
        reached = {name}
        for other in TopologicalSorter({name: node.before for name, node in self._nodes.items()}).static_order():
            if not reached.isdisjoint(self._nodes[other].before):
                reached.add(other)
                yield other


def _not_run(chain: list[Hashable], error: BaseException) -> DependencyFailed:
    way = " → ".join(map(repr, chain))
    reason = str(error).partition("\n")[0]
    return DependencyFailed(f"not run, because {chain[0]!r} failed ({way}): {type(error).__name__}: {reason}")


def _not_run_later(names: list[Hashable]) -> str:
    if not names:
        return ""
    listed = ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"; because of it {count(len(names), 'node')} {'is' if len(names) == 1 else 'are'} not run: {listed}"


def run(
    engines: Engines, graph: Any, return_exceptions: bool, targets: Spec | None, show: Callable[[int], None]
) -> dict[Hashable, Any]:
    """Run a graph on engines."""

    def submit(f: Callable[..., Any], *args: Any, **kwargs: Any) -> AsyncResult:
        result: AsyncResult = engines.submit(f, *args, targets=targets, **kwargs)
        return result

    return Run(submit, graph, return_exceptions, show).run()
