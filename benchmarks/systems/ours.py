"""This package."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from benchmarks.systems.base import System
from ipkernel_ext import launch
from ipkernel_ext.display import Screen


class Ours(System):
    """``launch()`` as it comes."""

    def start(self, n: int) -> None:
        self.n = n
        self._rc = launch(n=n, timeout=300)
        self._first = self._rc[self._rc.ids[0]]

    def stop(self) -> None:
        self._rc.close()

    def pids(self) -> list[int]:
        import os

        return list(self._rc.apply(os.getpid))

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._rc.submit(f, *arguments).result()

    def call_first(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._first.apply(f, *arguments)

    def submit_all(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        futures = [self._rc.submit(f, item) for item in items]
        return [future.result() for future in futures]

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return list(self._rc.map(f, items))

    def execute(self, code: str) -> None:
        self._rc.execute(code)

    def print_lines(self, count: int) -> int:
        result = self._rc.execute(f"for i in range({count}): print('line', i)", block=False)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            Screen().follow(result)
        expected = "".join(f"line {i}\n" for i in range(count))
        assert all(text == expected for text in result.stdout), "something is lost, or not in order"
        return count * self.n
