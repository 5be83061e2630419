"""``AsyncRemoteController``: the names of ``RemoteController``, as coroutines.

A thin layer: a call is sent from a thread of asyncio's, because pickling takes time, and awaited as
the ``AsyncResult`` it is. Cancelling the coroutine cancels the call's own tasks. What a call means is
not known here.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ipkernel_ext.core.messages import EngineRecord
from ipkernel_ext.results import AsyncResult

if TYPE_CHECKING:
    from ipkernel_ext.imports import SyncImports
    from ipkernel_ext.profiling import Profile
    from ipkernel_ext.remote import RemoteController
    from ipkernel_ext.remote_values import RemoteValue
    from ipkernel_ext.views import Engines

SENT = frozenset({"execute", "run", "apply", "reset", "keys", "push", "pull", "scatter", "gather", "map", "submit"})
"""Calls that take ``block=``: they are sent, and what they give is awaited."""

SETTINGS = frozenset({"targets", "timeout", "max_result"})

AT_ONCE = SETTINGS | {
    "activate",
    "cancel",
    "cluster",
    "ended",
    "executor",
    "get_result",
    "history",
    "ids",
    "known",
}
"""What neither waits nor asks anybody: it is as it is in ``RemoteController``."""


_END = object()


class AsyncEngines:
    """Some engines of a cluster; every call of ``Engines`` is a coroutine here.

    Calls never block the event loop. What is awaited is the value, of ``submit`` too: ``await rc.submit(f, x)``, and of
    many ``await asyncio.gather(*[rc.submit(f, x) for x in xs])``. With ``block=False`` a call gives its
    ``AsyncResult``, which can be awaited later. ``await rc["a"]`` fetches a variable, ``rc[0]`` is a view.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    @property
    def ids(self) -> list[int]:
        """Ids of these engines, in order, as last heard."""
        return self._engines.ids

    @property
    def engines(self) -> list[EngineRecord]:
        """What was last heard of these engines, in order; ``(await rc.status())["engines"]`` asks them."""
        return self._engines.known

    def __len__(self) -> int:
        return len(self._engines)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str) and ":" not in key:
            return self.pull(key)
        return AsyncEngines(self._engines[key])

    def __contains__(self, name: object) -> bool:
        raise TypeError(
            f"the engines must be asked, and awaited: write `{name!r} in (await rc.keys())[0]`, 0 for the first engine"
        )

    def parallelize(self, f: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """A function of sequences, whose calls are awaited; see ``RemoteController.parallelize``."""

        @functools.wraps(self._engines.parallelize(f))
        async def parallelized(*iterables: Iterable[Any]) -> Any:
            return await self.map(f, *iterables)

        return parallelized

    def remote(self, f: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """A function whose calls run on the targets, and are awaited."""

        @functools.wraps(self._engines.remote(f))
        async def remote(*args: Any, **kwargs: Any) -> Any:
            return await (await asyncio.to_thread(self._applied, f, args, kwargs))

        return remote

    def _applied(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncResult:
        engines = self._engines
        result: AsyncResult = engines._apply(f, args, kwargs, engines._choose(None), False)
        return result

    def profile(self, interval: float = 0.01, *, targets: Any = None) -> AsyncProfile:  # seconds
        """``async with rc.profile() as p:``, or ``p = await rc.profile()``; see ``RemoteController.profile``."""
        return AsyncProfile(functools.partial(self._engines.profile, interval, targets=targets))

    async def remote_value(self, name: str, *, targets: Any = None) -> AsyncRemoteValue:
        """A handle of the targets' variable; ``await A[3]``, ``await A.gather()``; see ``RemoteController``."""
        return AsyncRemoteValue(await asyncio.to_thread(self._engines.remote_value, name, targets=targets))

    def sync_imports(self, *, targets: Any = None) -> AsyncImports:
        """``async with rc.sync_imports(): import numpy as np``; see ``RemoteController.sync_imports``."""
        return AsyncImports(self._engines.sync_imports(targets=targets))

    async def imap(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        """The values of a map one by one, for ``async for``; see ``RemoteController.imap``."""
        values = self._engines.imap(*args, **kwargs)
        try:
            while (value := await asyncio.to_thread(next, values, _END)) is not _END:
                yield value
        finally:
            await asyncio.to_thread(values.close)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._engines, name)
        if name.startswith("_") or name in AT_ONCE:
            return attribute
        if name in SENT:
            return _sent(attribute)
        return _in_a_thread(attribute) if callable(attribute) else attribute

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            setattr(self._engines, name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._engines)})

    def __repr__(self) -> str:
        return f"<async {repr(self._engines)[1:]}"


class AsyncRemoteValue:
    """A variable of the engines; each call of ``RemoteValue`` is a coroutine here, and so is each item."""

    def __init__(self, value: RemoteValue) -> None:
        self._value = value
        self.name, self.ids = value.name, value.ids

    async def __getitem__(self, key: Any) -> Any:
        return await asyncio.to_thread(self._value.__getitem__, key)

    def describe(self) -> Awaitable[Any]:
        """What the engines' pieces are; see ``RemoteValue``."""
        return asyncio.to_thread(self._value.describe)

    def gather(self) -> Awaitable[Any]:
        """All pieces here, joined."""
        return asyncio.to_thread(self._value.gather)

    def reduce(self, *args: Any) -> Awaitable[Any]:
        """The items combined by a function of two; see ``RemoteValue``."""
        return asyncio.to_thread(self._value.reduce, *args)

    def __reduce__(self) -> Any:
        return self._value.__reduce__()

    def __repr__(self) -> str:
        return f"<async {repr(self._value)[1:]}"


class AsyncImports:
    """Has engines import what an ``async with`` block imports here."""

    def __init__(self, imports: SyncImports) -> None:
        self._imports = imports

    def __aenter__(self) -> Awaitable[None]:
        self._imports.begin(sys._getframe(1))
        return asyncio.sleep(0)

    async def __aexit__(self, *raised: Any) -> None:
        await asyncio.to_thread(self._imports.__exit__, *raised)


class AsyncProfile:
    """What ``profile`` gives: to be awaited, or entered with ``async with``; either gives a ``Profile``."""

    def __init__(self, begin: Callable[[], Profile]) -> None:
        self._begin = begin
        self._begun: Profile | None = None

    async def __aenter__(self) -> Profile:
        self._begun = await asyncio.to_thread(self._begin)
        return self._begun

    async def __aexit__(self, *_: Any) -> None:
        if self._begun is not None:
            await asyncio.to_thread(self._begun.stop)

    def __await__(self) -> Generator[Any, None, Profile]:
        return self.__aenter__().__await__()


class AsyncRemoteController(AsyncEngines):
    """A client of a running cluster, for coroutines; made by ``RemoteController.connect``."""

    def __init__(self, rc: RemoteController) -> None:
        super().__init__(rc)
        self._rc = rc

    @property
    def clients(self) -> Awaitable[list[dict[str, Any]]]:
        """Who is connected, to be awaited; see ``RemoteController.clients``."""
        return asyncio.to_thread(lambda: self._rc.clients)

    async def close(self) -> None:
        """Leave; see ``RemoteController.close``."""
        await asyncio.to_thread(self._rc.close)

    async def __aenter__(self) -> AsyncRemoteController:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Connecting:
    """What ``RemoteController.connect`` gives: to be awaited, or entered with ``async with``."""

    def __init__(self, make: Callable[[], RemoteController]) -> None:
        self._make = make
        self._made: AsyncRemoteController | None = None

    async def _connect(self) -> AsyncRemoteController:
        self._made = AsyncRemoteController(await asyncio.to_thread(self._make))
        return self._made

    def __await__(self) -> Generator[Any, None, AsyncRemoteController]:
        return self._connect().__await__()

    async def __aenter__(self) -> AsyncRemoteController:
        return await self._connect()

    async def __aexit__(self, *_: Any) -> None:
        if self._made is not None:
            await self._made.close()


def _sent(call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(call)
    async def sent(*args: Any, block: bool = True, **kwargs: Any) -> Any:
        result: AsyncResult = await asyncio.to_thread(call, *args, block=False, **kwargs)
        return await result if block else result

    return sent


def _in_a_thread(call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(call)
    async def called(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(call, *args, **kwargs)

    return called
