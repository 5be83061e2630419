"""A contestant as its judge sees it: a process that is asked for one figure after the other, each within a time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.systems import ENVIRONMENT, LAUNCHERS

ROOT = Path(__file__).resolve().parent.parent
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Missing(Exception):
    """There is no figure; says why."""


class Contestant:
    """A system in a process of its own, with all processes that it starts.

    Parameters
    ----------
    python : str
        Interpreter that has what the system needs.
    """

    def __init__(self, name: str, python: str) -> None:
        self.name = name
        self.failed = ""  # why it gives no more figures
        self._mark = uuid.uuid4().hex
        self._home = tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close()
        environment = os.environ | THREADS | ENVIRONMENT.get(name, {})
        environment |= {processes.MARK: self._mark, "IPYTHONDIR": self._home.name, "PYTHONPATH": str(ROOT)}
        environment["PATH"] = f"{Path(python).parent}:{environment['PATH']}"
        self._process = subprocess.Popen(
            [*LAUNCHERS.get(name, ()), python, "-m", "benchmarks.child", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            cwd=ROOT,
        )

    def ask(self, what: str, *arguments: Any, limit: float) -> float:
        """One figure.

        Parameters
        ----------
        limit : float
            Seconds in which it must come.

        Raises
        ------
        Missing
            It does not come, or there is none. After the first that does not come there are no others.
        """
        if self.failed:
            raise Missing(self.failed)
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([what, *arguments]).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            self.failed = "its client ended"
            raise Missing(self.failed) from None
        if not select.select([self._process.stdout], [], [], limit)[0]:
            self.failed = f"no answer within {limit:.0f} s"
            raise Missing(self.failed)
        line = self._process.stdout.readline()
        if not line:
            self.failed = "its client ended"
            raise Missing(self.failed)
        answer = json.loads(line)
        if "missing" in answer:
            raise Missing(answer["missing"])
        if "error" in answer:
            if what == "start":
                self.failed = answer["error"]
            raise Missing(answer["error"])
        return float(answer["figure"])

    def log(self) -> Sequence[str]:
        """The last that it said."""
        self._log.flush()
        self._log.seek(0)
        return self._log.read().splitlines()[-20:]

    def close(self) -> None:
        """End it and all that it started."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        processes.end(self._mark)
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
        self._home.cleanup()
