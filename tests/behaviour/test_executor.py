"""The engines as a standard executor."""

import asyncio
import concurrent.futures
import os
import threading

import pytest


def test_an_executor_is_a_standard_one(rc):
    with rc.executor() as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        future = executor.submit(pow, 2, 8)
        assert type(future.result()) is int
        assert list(executor.map(pow, range(10), range(10))) == [x**x for x in range(10)]
        assert list(executor.map(abs, range(-5, 5), chunksize=3)) == [abs(x) for x in range(-5, 5)]
        futures = [executor.submit(abs, -i) for i in range(50)]
        assert sorted(f.result() for f in concurrent.futures.as_completed(futures)) == list(range(50))
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, -1)
    assert rc[0].apply(abs, -1) == 1


def test_all_keywords_are_the_functions(rc):
    with rc.executor() as executor:
        options = {"targets": 1, "on": 2, "retries": 3, "block": 4, "self": 5, "fn": 6}
        assert executor.submit(dict, **options).result() == options


def test_errors_are_the_functions_own(rc):
    with rc.executor() as executor:
        future = executor.submit(divmod, 1, 0)
        with pytest.raises(ZeroDivisionError):
            future.result()
        assert isinstance(future.exception(), ZeroDivisionError)
        assert "on engine" in "".join(future.exception().__notes__)
        unpicklable = executor.submit(abs, threading.Lock())
        assert unpicklable.exception() is not None
        with pytest.raises(ZeroDivisionError):
            list(executor.map(divmod, [1, 1], [1, 0], chunksize=2))


def one_byte(path):
    """The next byte that somebody writes to a pipe."""
    with open(path, "rb", buffering=0) as pipe:
        return pipe.read(1)


@pytest.mark.parametrize("rc", ["forked"], indirect=True)
def test_who_waits_for_so_long_only_gets_what_there_is(rc, tmp_path):
    os.mkfifo(gate := tmp_path / "gate")
    with rc.executor() as executor:
        quick, long = executor.submit(abs, -1), executor.submit(one_byte, gate)
        results = executor.map(one_byte, [gate], timeout=0.1)
        quick.result()
        assert concurrent.futures.wait([quick, long], timeout=0.1) == ({quick}, {long})
        with pytest.raises(TimeoutError):
            list(results)
        with open(gate, "r+b", buffering=0) as pipe:
            pipe.write(b"..")
            assert long.result() == b"."
            executor.shutdown()


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_are_at_least_one(rc, workers):
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        rc.executor(workers)


def test_chunks_are_at_least_one(rc):
    with rc.executor() as executor, pytest.raises(ValueError, match="chunksize"):
        executor.map(abs, [1], chunksize=0)


def test_it_uses_no_more_engines_than_it_may(rc):
    with rc.executor(max_workers=2) as two, rc.executor(targets=[3]) as one:
        for executor, allowed in ((two, {0, 1}), (one, {3})):
            futures = [executor.submit(divmod, 1, 0) for _ in range(20)]
            assert {future.exception().engine_id for future in futures} <= allowed


def test_a_future_can_be_awaited(rc):
    async def main(executor):
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(executor, abs, -7)

    with rc.executor() as executor:
        assert asyncio.run(main(executor)) == 7
