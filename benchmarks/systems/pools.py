"""Pools of processes. Their workers are anonymous: nothing can be addressed to one of them, or run on all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

from benchmarks.systems.base import System


class Pool(System):
    """``multiprocessing.Pool``; ``apply_async`` for single tasks."""

    def start(self, n: int) -> None:
        import multiprocessing

        self.n = n
        self._pool = multiprocessing.get_context("fork").Pool(n)

    def stop(self) -> None:
        self._pool.terminate()
        self._pool.join()

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.apply(f, arguments)

    def submit_all(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        results = [self._pool.apply_async(f, (item,)) for item in items]
        return [result.get() for result in results]

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return self._pool.map(f, items)


class _Executor(System):
    """Whatever is a ``concurrent.futures.Executor``."""

    def start(self, n: int) -> None:
        self.n = n
        self._executor = self._make(n)

    def _make(self, n: int) -> Executor:
        raise NotImplementedError

    def stop(self) -> None:
        self._executor.shutdown()

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._executor.submit(f, *arguments).result()

    def submit_all(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        futures = [self._executor.submit(f, item) for item in items]
        return [future.result() for future in futures]

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return list(self._executor.map(f, items))


class Futures(_Executor):
    """``concurrent.futures.ProcessPoolExecutor``."""

    def _make(self, n: int) -> Executor:
        import multiprocessing

        return ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("fork"))


class Loky(_Executor):
    """loky's reusable executor."""

    def _make(self, n: int) -> Executor:
        import loky

        return loky.get_reusable_executor(max_workers=n, timeout=600)


class MPI(_Executor):
    """mpi4py.futures, which sleeps between two looks at what has come."""

    def _make(self, n: int) -> Executor:
        from mpi4py.futures import MPIPoolExecutor

        return MPIPoolExecutor(max_workers=n)


class BusyMPI(MPI):
    """The same without sleep: quick answers, for as many busy cores."""


class Joblib(System):
    """joblib over loky, its workers kept."""

    def start(self, n: int) -> None:
        import joblib

        self.n = n
        self._delayed = joblib.delayed
        self._chunked = joblib.Parallel(n_jobs=n)
        self._single = joblib.Parallel(n_jobs=n, batch_size=1)
        self._single.__enter__()

    def stop(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        self._single.__exit__(None, None, None)
        get_reusable_executor().shutdown(wait=True)

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._single([self._delayed(f)(*arguments)])[0]

    def submit_all(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return list(self._single(self._delayed(f)(item) for item in items))

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return list(self._chunked(self._delayed(f)(item) for item in items))
