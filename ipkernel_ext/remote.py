"""``RemoteController``: a client of a cluster, which addresses all of its engines, and knows who else is there.

What it shares with its views, which is most of what a user calls, is in ``views``.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ipkernel_ext import following, targets
from ipkernel_ext.advice import advise
from ipkernel_ext.asynchronous import Connecting
from ipkernel_ext.brief import brief
from ipkernel_ext.conditions import natural, results_of, seconds
from ipkernel_ext.core import messages as m
from ipkernel_ext.errors import NotConnected
from ipkernel_ext.interruption import guarded
from ipkernel_ext.link import Link, trouble
from ipkernel_ext.net.client_channel import Channel, ClientChannel, Roster
from ipkernel_ext.net.tunnel import Tunnel
from ipkernel_ext.pieces import LateOutput
from ipkernel_ext.results import AsyncResult, waiting_time
from ipkernel_ext.running import RunningCluster
from ipkernel_ext.targets import Chosen, Spec
from ipkernel_ext.units import count
from ipkernel_ext.views import Engines
from ipkernel_ext.waiting import SILENT

if TYPE_CHECKING:
    from ipkernel_ext.config.connection import Address
    from ipkernel_ext.embedding import DashboardFrame


@brief
class RemoteController(Engines):
    """A client of a running cluster.

    Parameters
    ----------
    url : str, optional
        A connection file, or address of a controller; the keys for ``tcp://HOST:PORT`` come from the connection file.
        ``ssh://USER@HOST`` is the cluster of that user's default profile there, ``ssh://USER@HOST/NAME`` that of
        another one; HOST is what ssh knows.
    profile : str
        IPython profile whose cluster to connect to.
    connection_file : path, optional
        The file to connect by, instead of the profile's.
    timeout : float
        Seconds to wait for the controller, here and while it is away later.
    channel : Channel, optional
        A connection that is there already, as ``testing`` makes one.

    Raises
    ------
    NotConnected
        No cluster runs there; the message names the file it looked for and what starts one.
    AuthenticationError
        The controller does not take the keys in the connection file.
    """

    _tunnel: Tunnel | None = None

    def __init__(
        self,
        url: str | None = None,
        *,
        profile: str | None = None,
        connection_file: str | Path | None = None,
        timeout: float = 10.0,
        channel: Channel | None = None,
    ) -> None:
        found = None
        if channel is None:
            _check_place(url, profile, connection_file)
            found = {"url": None if url is None else str(url), "profile": profile, "connection_file": None}
            if connection_file is not None:
                found["connection_file"] = str(Path(connection_file).expanduser().absolute())
            if isinstance(url, str) and url.startswith("ssh://"):
                self._tunnel = Tunnel(url, timeout)
            locate = _locator(url, profile, connection_file) if self._tunnel is None else self._tunnel.locate
            channel = ClientChannel(locate, locate().access)
        super().__init__(Link(channel, timeout), "all", True)
        self._link.client = self
        self._cluster = RunningCluster(self, found)
        self._late = LateOutput()
        channel.on_stray = self._late.add
        channel.on_module = self._link.synced.answer
        try:
            self._link.roster()
        except BaseException:
            self.close()
            raise

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Connecting:
        """The same for coroutines: ``async with RemoteController.connect() as rc:``, or ``rc = await …``.

        Parameters
        ----------
        args, kwargs
            As of ``RemoteController``.
        """
        return Connecting(lambda: cls(*args, **kwargs))

    @property
    def cluster(self) -> RunningCluster:
        """The cluster as a whole: scaled, stopped, its logs."""
        return self._cluster

    @property
    def timeout(self) -> float:
        """Seconds for which calls wait for a controller that is away, before they raise ``NotConnected``."""
        return self._link.timeout

    @timeout.setter
    def timeout(self, wait: float) -> None:
        self._link.timeout = seconds(wait)

    @property
    def max_result(self) -> int:
        """Bytes that a call's value may have; 0: any number. By default half of what was available at the beginning.

        An engine does not send a larger one, and the call raises ``ResultTooLarge``. The value stays on the
        engine: under its own name if it has one, else as ``_refused``.
        """
        return self._link.max_result

    @max_result.setter
    def max_result(self, size: int) -> None:
        self._link.max_result = natural("max_result", size)

    @property
    def ended(self) -> str | None:
        """Why this client is of no more use: it was closed, or its cluster has ended; None while it is."""
        return self._link.channel.ended

    @property
    def ids(self) -> list[int]:
        """Ids of all engines, in order."""
        return self._link.roster().ids

    def _along(self) -> bool:
        return False

    def _own(self, roster: Roster) -> Chosen:
        return self._chosen(self.targets, roster.ids)

    def _any(self, spec: Spec | None) -> bool:
        spec = self.targets if spec is None else spec
        return isinstance(spec, str) and spec == "all"

    def wait_for_engines(self, n: int, timeout: float | None = None, say: Callable[[str], None] | None = None) -> None:
        """Wait until there are at least ``n`` engines.

        Parameters
        ----------
        timeout : float, optional
            Seconds. Without it, and without ``say``, what is missing is said after some seconds of waiting.
        say
            Told why engines are not here yet, whenever that changes, such as what a queue says of their job.

        Raises
        ------
        TimeoutError
            They did not come; the message says why, as far as known.
        """
        n, timeout = natural("a number of engines", n), waiting_time(timeout)
        given_up: list[str] = []

        def enough(roster: Roster) -> bool:
            if roster.trouble or roster.ended is not None:
                given_up.append(roster.trouble or str(roster.ended))
            return bool(given_up) or roster.here >= n

        told = ""

        def news(roster: Roster) -> bool:
            return enough(roster) or (say is not None and roster.waits != told)

        def state(after: str) -> str:
            there = self._link.channel.roster.here
            return f"{there} of {count(n, 'engine')} {'is' if n == 1 else 'are'} there{after}: {trouble(self._link)}"

        if timeout is None and say is None and not self._link.channel.wait_roster(enough, SILENT):
            advise(state(f" after {SILENT:g} s, and it goes on waiting"))
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            came = self._link.channel.wait_roster(news, left)
            waits = self._link.channel.roster.waits
            if say is None or not came or waits == told:
                break
            told = waits
            if waits:
                say(waits)
        if self._link.channel.roster.here < n and (given_up or not came):
            raise TimeoutError(state("" if timeout is None or given_up else f" after {timeout:g} s"))

    @property
    def clients(self) -> list[dict[str, Any]]:
        """Who is connected.

        Each a dict: ``id``, ``host``, ``pid``, ``since`` (as ``time.time()``), ``me``, ``connected``, and how many of
        its tasks are ``queued`` and ``running``; ``tasks`` counts also those whose result it has not confirmed.
        """
        return [client for client in self._link.status()["clients"] if client["connected"]]

    def status(self) -> dict[str, Any]:
        """What the controller says of itself, the engines, the clients and the queue, at this moment."""
        body = self._link.status()
        return {
            "controller": {**body["controller"], "address": self._link.channel.roster.address},
            "engines": self.engines,
            "clients": body["clients"],
            "queue": {
                **{id: {"queued": q, "running": r, "done": d} for id, q, r, d in body["queue"]},
                "unassigned": body["unassigned"],
            },
        }

    def follow(self, on: bool = True, *, show: Callable[[m.Followed], object] = following.write) -> None:
        """Show what the other clients of this cluster run and print, with who and where; ``follow(False)`` ends it.

        After a loss of the connection what was missed is shown too, as far as the controller remembers it: the latest
        thousand events, in its memory alone and only while anybody follows. A controller that was restarted remembers
        what was since.

        Parameters
        ----------
        show
            Gets each event, in a thread of this client; by default it is printed.
        """
        channel = self._link.channel
        channel.on_followed = functools.partial(_follow_in_thread, channel, show) if on else _unheard
        self._link.ask(lambda request: m.Follow(request, on))

    def barrier(self, results: AsyncResult | Iterable[AsyncResult], timeout: float | None = None) -> None:  # seconds
        """Wait until all of these are done, however they ended.

        Raises
        ------
        TimeoutError
            Some are not; they go on.
        """
        timeout = waiting_time(timeout)
        until = None if timeout is None else time.monotonic() + timeout
        for result in results_of(results, "barrier"):
            left = None if until is None else max(0.0, until - time.monotonic())
            if not guarded(lambda: result, lambda result: result.wait(left)):  # noqa: B023
                raise TimeoutError(f"not done after {timeout:g} s: {result}")

    def dashboard(self, height: int = 800) -> DashboardFrame:
        """A live page of the cluster, embedded in a notebook; elsewhere its repr says where to open it.

        It is served on this host by a process of its own, to who has the token in its address, and ends when this
        client leaves. ``cluster.dashboard_url`` is the address alone.

        Parameters
        ----------
        height : int
            Of the frame, in pixels.

        Raises
        ------
        ImportError
            What it needs is not installed; says what to install.
        """
        return self.cluster.dashboard(natural("height", height))

    def late_output(self) -> list[m.Stream | m.Display]:
        """What threads and processes have written that outlived their call of this client, since it was last asked for.

        The latest million characters are kept.
        """
        return self._late.take()

    def shutdown(self) -> None:
        """End the whole cluster."""
        self._link.roster()
        self._link.channel.tell(m.ShutDown())
        if not self._link.channel.wait_roster(lambda roster: roster.ended is not None, self._link.timeout):
            raise NotConnected("the controller did not confirm that it ends")
        if self.cluster.launched is not None:
            self.cluster.launched.wait()

    def give_up(self, reason: str) -> None:
        """The cluster has ended without a word: whoever waits for its results is told so."""
        self._link.channel.give_up(reason)

    def close(self) -> None:
        """Leave. The cluster and what was sent go on, except on the client that ``launch`` gave: there it ends.

        In a fork of the process that made it this does nothing.
        """
        if self._link.channel.forked:
            return
        try:
            self.cluster.close_dashboard()
            if self._link.dask is not None:
                self._link.dask.close(engines=False)
            self._link.channel.close()
        finally:
            if self._tunnel is not None:
                self._tunnel.close()
            if self.cluster.launched is not None:
                self.cluster.launched.stop()

    def __enter__(self) -> RemoteController:
        if self.ended is not None:
            raise NotConnected(self.ended)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.ended is not None:
            return f"<RemoteController: {self.ended}>"
        ids = self._link.channel.roster.ids
        return f"<RemoteController: {count(len(ids), 'engine')} ({targets.summary(ids) or 'none'})>"


def _check_place(url: Any, profile: Any, connection_file: Any) -> None:
    if not isinstance(profile, str | None):
        raise TypeError(f"profile is a string, not {profile!r}")
    for name, given in (("url", url), ("connection_file", connection_file)):
        if not isinstance(given, str | Path | None):
            raise TypeError(f"{name} is a string or a path, not {given!r}")


def _locator(url: str | None, profile: str | None, connection_file: str | Path | None) -> Callable[[], Address]:
    from ipkernel_ext.config import connection

    url = None if url is None else str(url)
    scheme, separator, _ = (url or "").partition("://")
    if url is not None and not separator:
        return functools.partial(connection.locate, "client", profile, url)
    if separator and scheme not in ("tcp", "ipc"):
        raise ValueError(
            f"{url!r} cannot be connected to: write tcp://HOST:PORT or ssh://HOST, or name a connection file"
        )
    return functools.partial(connection.locate, "client", profile, connection_file, url)


def _follow_in_thread(channel: Channel, show: Callable[[m.Followed], object], event: m.Followed) -> None:
    channel.call_back(show, event)


def _unheard(event: m.Followed) -> None:
    """It was on its way when the client ceased to follow."""
