"""Coroutines: the same names, and the event loop goes on meanwhile."""

import asyncio
import builtins
import itertools

import networkx as nx
import pytest

from ipkernel_ext import RemoteController
from ipkernel_ext.errors import NotConnected, ResultTooLarge, TaskCancelled


def run(cluster, main):
    """Run a coroutine with a client of the cluster."""

    async def connected():
        path = cluster.cluster.launched.place.connection("client")
        async with RemoteController.connect(connection_file=path) as rc:
            return await main(rc)

    return asyncio.run(connected())


def test_calls_are_coroutines(cluster):
    async def main(rc):
        await rc.execute("import os; a = os.getpid()")
        await rc.push({"b": 2})
        assert await rc["b"] == [2, 2]
        assert await rc[0]["b"] == 2
        assert (await rc[1].execute("a")).value == (await rc["a"])[1]
        assert await rc.map(abs, range(-10, 0)) == list(range(10, 0, -1))
        assert await rc.apply(lambda x: x + 1, 1, targets=0) == 2
        assert await rc.submit(abs, -3) == 3
        assert await asyncio.gather(*[rc[n].submit(abs, -n) for n in rc.ids]) == [0, 1]
        assert await (await rc.submit(abs, -3, block=False)) == 3
        assert (await rc.status())["controller"]["pid"]
        assert [engine.rss > 0 for engine in (await rc.status())["engines"]] == [True, True]
        assert len([client for client in await rc.clients if client["me"]]) == 1
        assert await rc.why() == "nothing waits"
        assert await rc.gather("b", block=False)
        assert (len(rc), rc.ids) == (2, [0, 1])
        await rc.wait_for_engines(2)
        assert len(rc.history) == 4
        return repr(rc)

    assert run(cluster, main) == "<async RemoteController: 2 engines (0-1)>"


def test_a_handle_of_a_remote_value(cluster):
    async def main(rc):
        await rc.scatter("A", list(range(10)))
        A = await rc.remote_value("A")
        assert (A.name, A.ids) == ("A", [0, 1])
        assert (await A[7], await A[4:6]) == (7, [4, 5])
        assert (await A.gather(), await A.reduce(sum)) == (list(range(10)), 45)
        assert [piece.length for piece in await A.describe()] == [5, 5]
        assert await rc.apply(len, A) == [5, 5]
        return repr(A)

    assert run(cluster, main).startswith("<async RemoteValue A: list of 10 items")


def test_what_else_there_is(cluster, tmp_path):
    async def main(rc):
        await rc.push({"x": 1})
        await rc.checkpoint(tmp_path / "x.ckpt")
        await rc.reset()
        assert (await rc[0].restore(tmp_path / "x.ckpt", redistribute=True)).names == {0: ["x"]}
        (tmp_path / "sent.py").write_text("y = 5")
        assert (await rc.sync_modules(tmp_path / "sent.py")).sent == ["sent"]
        assert (await rc.execute("import sent; sent.y")).values == [5, 5]
        graph = nx.DiGraph([(int, str)])
        assert await rc.run_graph(graph) == {int: 0, str: "0"}
        assert await rc.register_joblib_backend("of a coroutine") is None

    run(cluster, main)


def test_the_loop_goes_on_and_calls_run_side_by_side(cluster, tmp_path):
    go = tmp_path / "go"
    begun = [tmp_path / "0", tmp_path / "1"]

    async def main(rc):
        async def let_go():
            while not all(path.exists() for path in begun):
                await asyncio.sleep(0)
            go.touch()

        code = "import os\nopen({!r}, 'w').close()\nwhile not os.path.exists({!r}): pass"
        calls = [rc[id].execute(code.format(str(path), str(go))) for id, path in enumerate(begun)]
        await asyncio.gather(*calls, let_go())

    run(cluster, main)


def test_a_lazy_map_is_an_asynchronous_generator(cluster):
    async def main(rc):
        taken = []
        async for value in rc.imap(abs, itertools.count(0, -1)):
            taken.append(value)
            if len(taken) == 100:
                break
        with rc.executor() as executor:
            assert executor.submit(abs, -1).result(20) == 1
        return taken

    assert run(cluster, main) == list(range(100))


def test_cancelling_a_coroutine_cancels_its_tasks(cluster):
    async def main(rc):
        running = asyncio.create_task(rc[0].execute("while True: pass"))
        while not (await rc.queue_status())[0]["running"]:
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await rc[0].execute("1")).value == 1
        with pytest.raises(TaskCancelled):
            rc.get_result(1).get()

    run(cluster, main)


def test_results_of_ordinary_calls_can_be_awaited(cluster):
    async def main():
        first, second = cluster.execute("5", block=False), cluster[0].apply(abs, -1, block=False)
        return [result.value for result in await first], await second

    assert asyncio.run(main()) == ([5, 5], 1)


def test_no_cluster_is_said_when_awaited():
    with pytest.raises(NotConnected, match="ipcluster start"):
        asyncio.run(RemoteController.connect()._connect())


def test_sync_imports_of_two_coroutines_at_once(cluster):
    async def main(rc):
        first, second = asyncio.Event(), asyncio.Event()

        async def one():
            async with rc.sync_imports():
                import colorsys

                first.set()
                await second.wait()
                from math import sqrt as root
            return colorsys, root

        async def two():
            await first.wait()
            async with rc[1].sync_imports():
                import string as text

                second.set()
            return text

        before = builtins.__import__
        await asyncio.gather(one(), two())
        assert builtins.__import__ is before
        assert [r.value for r in await rc.execute("root(4), colorsys.__name__")] == [(2.0, "colorsys")] * 2
        assert (await rc[1].execute("text.__name__")).value == "string"
        assert await rc.keys() == [["colorsys", "root"], ["colorsys", "root", "text"]]

    run(cluster, main)


def test_what_can_be_set_is_set_where_it_counts(cluster):
    async def main(rc):
        rc.max_result = 1000
        rc.timeout = 5.0
        with pytest.raises(ResultTooLarge):
            await rc[0].apply(bytes, 2000)
        assert (rc.max_result, rc.timeout) == (1000, 5.0)
        rc.block = True
        with pytest.raises(AttributeError, match="did you mean targets"):
            rc.tragets = 0

    run(cluster, main)


def test_a_variable_is_not_looked_for_without_waiting(cluster):
    async def main(rc):
        await rc.push({"a": 1})
        with pytest.raises(TypeError, match=r"'a' in \(await rc.keys\(\)\)\[0\]"):
            assert "a" in rc
        return "a" in (await rc.keys())[0]

    assert run(cluster, main)


def test_decorated_functions_are_awaited(cluster):
    async def main(rc):
        @rc.parallelize
        def square(x):
            return x * x

        @rc[0].remote
        def named(x, *, targets):
            "Its own keyword."
            return x, targets

        assert (named.__name__, named.__doc__) == ("named", "Its own keyword.")
        assert await asyncio.gather(square(range(4)), named(1, targets="mine")) == [[0, 1, 4, 9], (1, "mine")]
        rc.block = False
        assert await square([3]) == [9]
        with pytest.raises(TypeError):
            rc.remote(5)

    run(cluster, main)


def test_a_profile_is_entered_or_awaited(cluster):
    async def main(rc):
        async with rc.profile(0.005) as entered:
            await rc[0].execute("import time\nuntil = time.time() + 0.1\nwhile time.time() < until: pass")
        awaited = await rc[0].profile()
        await asyncio.to_thread(awaited.stop)
        return list(entered.engines), list(awaited.engines), "under way" in repr(entered)

    assert run(cluster, main) == ([0, 1], [0], False)
