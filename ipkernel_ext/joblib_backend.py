"""The engines as a backend of joblib, and so of scikit-learn.

A batch of joblib's calls is one balanced task. Large arguments that batches have in common (the data
that a grid search fits) go to each engine once, not with each batch. What a call on an engine
parallelizes itself runs there one after the other: all cores have an engine already.
"""

from __future__ import annotations

import copy
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from joblib.parallel import (
    AutoBatchingMixin,
    ParallelBackendBase,
    SequentialBackend,
    register_parallel_backend,
)

from ipkernel_ext import modules
from ipkernel_ext.execution import batches, portions
from ipkernel_ext.results import AsyncResult

if TYPE_CHECKING:
    from ipkernel_ext.views import Engines

NAME = "ipkernel_ext"

LARGE = 2**20
"""Bytes from which on an argument is sent to each engine once."""

_HOLDABLE = frozenset({"numpy", "pandas", "scipy"})


def register(engines: Engines, name: str) -> None:
    """Register these engines as a backend."""
    register_parallel_backend(name, lambda **options: EnginesBackend(engines, **options))


class EnginesBackend(AutoBatchingMixin, ParallelBackendBase):
    """A backend of joblib over engines."""

    default_n_jobs = -1
    supports_retrieve_callback = True

    def __init__(self, engines: Engines, **options: Any) -> None:
        super().__init__(**options)
        self._engines = engines
        self._shared = SharedArguments(engines)
        self._jobs: set[_Job] = set()
        self._among: list[int] | None = None
        self._prepared: dict[str, set[str]] = {}  # by an engine's boot
        self._under_way: dict[str, AsyncResult] = {}
        self.parallel: Any = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many engines work at once."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 has no meaning; -1 is all engines")
        there = max(1, len(self._engines))
        if n_jobs is None:
            return 1
        return max(1, there + 1 + n_jobs) if n_jobs < 0 else min(n_jobs, there)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """A call of ``Parallel`` begins."""
        self.parallel = parallel
        jobs = self.effective_n_jobs(n_jobs)
        ids = self._engines.ids
        self._among = ids[:jobs] if jobs < len(ids) else None
        self._prepare(["joblib"])
        return jobs

    def _prepare(self, needed: Sequence[str]) -> None:
        """Have engines import what is not known to be there, before the batches that need it."""
        for id, boot in self._engines._link.boots(self._engines.ids).items():
            missing = set(needed) - self._prepared.setdefault(boot, set())
            if missing:
                self._prepared[boot] |= missing
                self._under_way[boot] = self._engines._quietly(
                    batches.prepare, sorted(missing), targets=id, block=False
                )

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Send a batch."""
        self._prepare([module for f, _, _ in func.items for module in _modules(f)])
        job = _Job(self._send, func, self._shared.stand_in(func))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        if callback is not None:
            job.add_done_callback(callback)
        job.start()
        return job

    def _send(self, batch: Any) -> AsyncResult:
        result: AsyncResult = self._engines.submit(batches.run, batch, targets=self._among)
        return result

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """A batch's values."""
        return out.result()

    def get_nested_backend(self) -> tuple[Any, None]:
        """What calls on engines use: one after the other."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what is under way; engines and their variables stay."""
        for job in list(self._jobs):
            job.abort()

    def terminate(self) -> None:
        """The call has ended."""
        self._shared.drop()
        self.reset_batch_stats()


def _modules(f: Any) -> set[str]:
    """Installed modules that a call needs; scikit-learn has its functions in wrappers."""
    names = {
        type(f).__module__,
        getattr(f, "__module__", None),
        getattr(getattr(f, "function", None), "__module__", None),
    }
    return {name for name in names if name and name not in ("builtins", "__main__") and not modules.is_own(name)}


class _Job(Future[Any]):
    """A batch under way. Where its engine does not hold what it needs it is sent again with all of it."""

    def __init__(self, send: Callable[[Any], AsyncResult], whole: Any, brief: Any) -> None:
        super().__init__()
        self._send = send
        self._whole = whole
        self._brief = brief
        self._result: AsyncResult | None = None
        self.set_running_or_notify_cancel()

    def __hash__(self) -> int:
        return id(self)

    def start(self) -> None:
        """Send it."""
        self._follow(self._brief)

    def abort(self) -> None:
        """Cancel it."""
        if self._result is not None:
            self._result.cancel()

    def _follow(self, batch: Any) -> None:
        self._result = self._send(batch)
        self._result.add_done_callback(self._done)

    def _done(self, result: AsyncResult) -> None:
        try:
            value = result.get()
        except batches.NotHeld:
            self._follow(self._whole)
        except BaseException as error:
            self.set_exception(error)
        else:
            self.set_result(value)


class SharedArguments:
    """Large arguments that engines hold, while one call of ``Parallel`` runs."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._held: dict[int, tuple[Any, str]] = {}  # by the argument's id, which is its own while it is in here
        self._under_way: list[AsyncResult] = []
        self._lock = threading.Lock()

    def stand_in(self, batch: Any) -> Any:
        """The batch, with stand-ins for large arguments, which are on their way to the engines before it."""
        brief = copy.copy(batch)
        brief.items = [
            (f, self._all(args), dict(zip(kwargs, self._all(kwargs.values()), strict=True)))
            for f, args, kwargs in batch.items
        ]
        return brief

    def _all(self, arguments: Any) -> Sequence[Any]:
        return tuple(self._one(argument) for argument in arguments)

    def _one(self, argument: Any) -> Any:
        if type(argument).__module__.partition(".")[0] not in _HOLDABLE or not hasattr(argument, "copy"):
            return argument
        with self._lock:
            known = self._held.get(id(argument))
            if known is None:
                if portions.describe(argument).nbytes < LARGE:
                    return argument
                known = self._held[id(argument)] = argument, secrets.token_hex(8)
                ids = list(self._engines.ids)
                self._under_way.append(
                    self._engines._quietly(batches.hold, known[1], argument, targets=ids, block=False)
                )
        return batches.StandIn(known[1])

    def drop(self) -> None:
        """Engines need not hold them any more."""
        with self._lock:
            held, self._held = self._held, {}
            self._under_way.clear()
        if held:
            tokens = [token for _, token in held.values()]
            self._engines._quietly(batches.drop, tokens, targets=list(self._engines.ids), block=False)
