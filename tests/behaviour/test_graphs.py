"""Pipelines: calls that come after others, one by one and as a graph."""

import networkx as nx
import pytest

from ipkernel_ext.errors import DependencyFailed, NoEngines


def graph_of(*edges, **functions):
    graph = nx.DiGraph()
    for name, function in functions.items():
        graph.add_node(name, function=function)
    graph.add_edges_from(edges)
    return graph


def test_a_diamond(rc):
    graph = graph_of(
        ("load", "mean"),
        ("load", "spread"),
        ("mean", "report"),
        ("spread", "report"),
        load=lambda: [1, 2, 3, 6],
        mean=lambda x: sum(x) / len(x),
        spread=lambda x: max(x) - min(x),
        report="{}±{}".format,
    )
    assert rc.run_graph(graph) == {"load": [1, 2, 3, 6], "mean": 3.0, "spread": 5, "report": "3.0±5"}


def test_arguments_of_nodes_and_edges(rc):
    def told(*args, **kwargs):
        return args, kwargs

    graph = nx.DiGraph()
    graph.add_node("a", function=abs, args=(-1,))
    graph.add_node("b", function=abs, args=[-2])
    graph.add_node("c", function=int, args=("11",), kwargs={"base": 2})
    graph.add_node("d", function=told, args=(4,), kwargs={"more": 5})
    graph.add_edge("b", "d")
    graph.add_edge("a", "d", passes=False)
    graph.add_edge("c", "d", passes="third")
    assert rc.run_graph(graph)["d"] == ((2, 4), {"third": 3, "more": 5})


def test_nodes_that_are_functions_and_a_graph_without_edges(rc):
    graph = nx.DiGraph()
    graph.add_nodes_from([int, float])
    assert rc.run_graph(graph) == {int: 0, float: 0.0}
    assert rc.run_graph(nx.DiGraph()) == {}


def test_where_nodes_run(rc):
    def engine():
        import __main__

        return __main__.me

    for view in rc:
        view["me"] = view.ids[0]
    graph = nx.DiGraph()
    for name, on in [("a", 2), ("b", [1, 3]), ("c", "0:1")]:
        graph.add_node(name, function=engine, on=on)
    nx.add_path(graph, "abc", passes=False)
    ran = rc.run_graph(graph)
    assert (ran["a"], ran["b"] in (1, 3), ran["c"]) == (2, True, 0)
    assert rc[1].run_graph(graph_of(x=engine)) == {"x": 1}
    with pytest.raises(NoEngines, match="none of the targets"):
        rc[1].run_graph(graph)


def test_a_large_one_in_order(rc):
    graph = nx.DiGraph()
    graph.add_node(0, function=int)
    for i in range(1, 60):
        graph.add_node(i, function=lambda *values: 1 + max(values))
        for before in {i // 2, i - 1}:
            graph.add_edge(before, i)
    assert rc.run_graph(graph) == {i: i for i in range(60)}


def broken(*_):
    raise ArithmeticError("no luck")


def test_the_first_failure_names_its_node_and_those_that_are_not_run(rc):
    graph = graph_of(
        ("load", "fit"), ("fit", "score"), ("score", "plot"), load=int, fit=broken, score=abs, plot=abs, alone=int
    )
    with pytest.raises(ArithmeticError, match="no luck") as caught:
        rc.run_graph(graph)
    assert "at node 'fit' of the graph; because of it 2 nodes are not run: 'score', 'plot'" in caught.value.__notes__


def test_with_failures_as_values_the_chain_is_named(rc):
    graph = graph_of(
        ("load", "fit"), ("fit", "score"), ("score", "plot"), load=int, fit=broken, score=abs, plot=abs, alone=int
    )
    ran = rc.run_graph(graph, return_exceptions=True)
    assert (ran["load"], ran["alone"]) == (0, 0)
    assert type(ran["fit"]) is ArithmeticError
    assert type(ran["score"]) is DependencyFailed
    assert str(ran["plot"]) == "not run, because 'fit' failed ('fit' → 'score' → 'plot'): ArithmeticError: no luck"


@pytest.mark.fault("a graph of calls has a cycle")
def test_a_cycle_is_named(rc):
    graph = graph_of(("a", "b"), ("b", "c"), ("c", "b"), a=int, b=abs, c=abs)
    before = rc.queue_status()
    with pytest.raises(ValueError, match=r"has a cycle.*: ('b' → 'c' → 'b'|'c' → 'b' → 'c')"):
        rc.run_graph(graph)
    with pytest.raises(ValueError, match="'a' → 'a'"):
        rc.run_graph(graph_of(("a", "a"), a=int))
    assert rc.queue_status() == before, "nothing was sent"


def test_what_is_no_graph_of_calls(rc):
    for graph, words in [
        (nx.Graph([(1, 2)]), "a directed graph"),
        (nx.MultiDiGraph([(1, 2)]), "a directed graph"),
        ([1, 2], "takes a networkx.DiGraph, not a list"),
        (graph_of(("a", "b"), a=int), r"node 'b' carries no function: graph.add_node\('b', function=…\)"),
        (nx.DiGraph([(int, float, {"passes": 3})]), "passes is True, False or the name of an argument, not 3"),
        (nx.DiGraph([(int, float, {"passes": "on"})]), "has an argument 'on', which submit takes for itself"),
    ]:
        with pytest.raises(TypeError, match=words):
            rc.run_graph(graph)


class Bar:
    n = 0

    def update(self, more):
        self.n += more


def test_progress(rc):
    bar = Bar()
    rc.run_graph(graph_of(("a", "b"), a=int, b=abs), progress=bar)
    assert bar.n == 2


def test_a_pipeline_by_after_and_on(rc):
    """Load on two engines, and compute and report on a third when both are done."""

    def load(engine):
        import __main__

        __main__.part = list(range(10 * engine, 10 * engine + 3))
        return engine

    loaded = [rc.submit(load, engine, on=engine) for engine in (0, 1)]
    rc.barrier(loaded, 20)
    rc[2].push({"parts": [view["part"] for view in rc[:2]]})
    total = rc.submit(lambda: sum(map(sum, parts)), on=2, after=loaded)  # noqa: F821
    report = rc.submit(lambda: f"sum of {len(parts)} parts", on=2, after=total)  # noqa: F821
    assert (total.get(20), report.get(20)) == (36, "sum of 2 parts")


def test_a_pipeline_whose_first_step_fails_names_the_chain(rc):
    first = rc.submit(broken)
    second = rc.submit(abs, 1, after=first)
    third = rc.submit(abs, 2, after=second)
    other = rc.submit(abs, 3)
    with pytest.raises(DependencyFailed) as caught:
        third.get(20)
    for link in (*second.task_ids, *first.task_ids, "ArithmeticError: no luck"):
        assert link in str(caught.value)
    assert other.get(20) == 3
