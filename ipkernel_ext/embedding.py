"""The dashboard of a client that embeds it: a process beside it, which ends when the client leaves or dies."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

from ipkernel_ext.errors import ParallelError
from ipkernel_ext.extras import needed

END = 5.0  # seconds that the process has to end


class DashboardFrame:
    """The page in a notebook; elsewhere its address.

    Attributes
    ----------
    url
        The address, with the token.
    """

    def __init__(self, url: str, height: int) -> None:
        self.url = url
        self._height = height

    def _repr_html_(self) -> str:
        style = "border: 0; width: 100%"
        return f'<iframe src="{self.url}" title="Dashboard" height="{self._height}" style="{style}"></iframe>'

    def __repr__(self) -> str:
        return f"<dashboard at {self.url}>"


class DashboardProcess:
    """A dashboard in a process of its own.

    Parameters
    ----------
    found
        How the client found its cluster: ``profile``, ``connection_file`` and ``url``.

    Raises
    ------
    ImportError
        starlette or uvicorn is not installed; says what to install.
    ParallelError
        It does not start.
    """

    def __init__(self, found: dict[str, Any]) -> None:
        for module in ("starlette", "uvicorn"):
            needed(module, "dashboard")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ipkernel_ext.dashboard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        _owned[self._process.pid] = self._process
        self._process.stdin.write(json.dumps(found).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line.strip() else {"error": "its process ended without a word"}
        if "error" in answer:
            self.close()
            raise ParallelError(f"the dashboard does not start: {answer['error']}")
        self.url: str = answer["url"]

    def runs(self) -> bool:
        """Whether it is still there."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it. Closing it twice does no harm."""
        _let_go(self._process)
        _owned.pop(self._process.pid, None)
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_owned: dict[int, subprocess.Popen[bytes]] = {}


def _let_go(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()


def _own_nothing() -> None:
    """A fork of this process does not keep dashboards alive when this one is gone."""
    for process in _owned.values():
        _let_go(process)
    _owned.clear()


os.register_at_fork(after_in_child=_own_nothing)
