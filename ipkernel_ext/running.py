"""The cluster of a client, as a whole."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipkernel_ext.core import messages as m
from ipkernel_ext.embedding import DashboardFrame, DashboardProcess
from ipkernel_ext.errors import NoEngines, NotConnected
from ipkernel_ext.units import count

if TYPE_CHECKING:
    from ipkernel_ext.launcher import Cluster
    from ipkernel_ext.remote import RemoteController


class RunningCluster:
    """The cluster of a client, as a whole: ``rc.cluster``.

    Attributes
    ----------
    launched : Cluster or None
        The private cluster that ``launch`` made for this client.
    """

    def __init__(self, rc: RemoteController, found: dict[str, Any] | None) -> None:
        self._rc = rc
        self._found = found  # how the client did; None where no other process can
        self._dashboard: DashboardProcess | None = None
        self._lock = threading.Lock()
        self.launched: Cluster | None = None

    @property
    def dashboard_url(self) -> str:
        """Address of this client's dashboard, with its token; the first call starts it.

        Raises
        ------
        ImportError
            What it needs is not installed; says what to install.
        """
        if self._found is None:
            raise NotConnected("a cluster within this process has no dashboard: no other process can connect to it")
        with self._lock:
            if self._rc.ended is not None:
                raise NotConnected(self._rc.ended)
            if self._dashboard is None or not self._dashboard.runs():
                self._dashboard = DashboardProcess(self._found)
            return self._dashboard.url

    def dashboard(self, height: int) -> DashboardFrame:
        """The dashboard, embedded."""
        return DashboardFrame(self.dashboard_url, height)

    def close_dashboard(self) -> None:
        """End this client's dashboard, if there is one."""
        with self._lock:
            if self._dashboard is not None:
                self._dashboard.close()
                self._dashboard = None

    def scale(self, n: int, timeout: float = 60.0) -> None:  # seconds
        """Have ``n`` engines: more are started, or those with the highest ids are ended.

        Raises
        ------
        NoEngines
            Nobody is there who could start engines; they were started by hand.
        TimeoutError
            They did not come, or did not end; the message says why, as far as known.
        """
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"a number of engines is an integer, not {n!r}")
        if n < 0:
            raise ValueError(f"a cluster has 0 or more engines, not {n}")
        link, before = self._rc._link, self._rc.ids
        answer = link.ask(lambda request: m.Scale(request, n))
        if not answer["agents"]:
            raise NoEngines(answer["fixed"] or "these engines were started by hand; `ipengine` starts one more")
        self._rc.wait_for_engines(n, timeout)
        if not link.channel.wait_roster(lambda roster: len(roster.ids) <= n, timeout):
            still = f"{count(len(self._rc), 'engine')} {'is' if len(self._rc) == 1 else 'are'} still there"
            raise TimeoutError(f"{still} after {timeout:g} s")
        link.forget_boots(set(before) - set(self._rc.ids))

    @property
    def waits(self) -> str:
        """Why engines that are expected are not here yet, such as what a queue says of their job; "" if unknown."""
        return self._rc._link.channel.roster.waits

    def stop(self) -> None:
        """End the whole cluster."""
        self._rc.shutdown()

    def logs(self, engine: int) -> str:
        """The log of an engine that runs on this host.

        Raises
        ------
        NoSuchEngine
            It does not exist.
        FileNotFoundError
            The log is on another host, or the engine was started by hand and writes to its terminal.
        """
        (record,) = self._rc[engine].known
        if not record.log:
            raise FileNotFoundError(f"engine {engine} was started by hand; it writes to its terminal")
        if record.host != socket.gethostname():
            raise FileNotFoundError(f"the log of engine {engine} is {record.log} on {record.host}")
        return Path(record.log).read_text(errors="replace")

    def __repr__(self) -> str:
        return f"<RunningCluster: {count(len(self._rc), 'engine')}>"
