"""Starting and ending clusters: ``launch()`` for a script, ``Cluster`` for the magics and ``ipcluster``.

A cluster is run by an agent (``nursery``), a process of its own that is told what to do on its
standard input and, when owned, ends everything at the end of that input: however its owner ends,
nothing is left behind.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ipkernel_ext.config import connection, profiles, settings
from ipkernel_ext.config.place import Place, is_running
from ipkernel_ext.errors import AlreadyRunning, EngineStartError, NotConnected
from ipkernel_ext.remote import RemoteController

STOP = 15.0  # seconds a cluster has to end


class Cluster:
    """A cluster on this machine.

    Parameters
    ----------
    n : int, optional
        Engines; by default what the profile says, which is one per core.
    profile : str, optional
        The profile it belongs to; None for a private cluster that only its connection file leads to.
    owned : bool
        Whether it ends with this process.
    config : dict
        Options of ``ParallelCluster`` and ``ParallelController``, by name.
    """

    def __init__(
        self,
        n: int | None = None,
        *,
        profile: str | None = None,
        owned: bool = True,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        own_path: bool = True,
        options: Sequence[str] = (),
        cluster: settings.ClusterSettings | None = None,
    ) -> None:
        if n is not None and n < 0:
            raise ValueError(f"a cluster has 0 or more engines, not {n}")
        self.settings = cluster or settings.ClusterSettings()
        self.n = self.settings.engines if n is None else n
        self.place = Place.private() if profile is None else Place.of_profile(profile)
        self._owned = owned
        self._cwd = cwd
        self._env = dict(os.environ if env is None else {**os.environ, **env})
        if own_path:
            self._env["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._options = list(options)
        self._agent: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the controller and the engines; returns when the controller listens.

        Raises
        ------
        AlreadyRunning
            The profile's cluster runs already.
        EngineStartError
            It does not start; carries the end of the log.
        """
        running = find(self.place)
        if running is not None:
            raise AlreadyRunning(
                f"a cluster of profile {self.place.profile!r} runs already (pid {running.pid}); "
                "`ipcluster stop` ends it",
                running.pid,
            )
        orders = {
            "directory": str(self.place.directory),
            "profile": self.place.profile,
            "engines": self.n,
            "owned": self._owned,
            "restart": self.settings.restart == "on-failure",
            "restart_limit": self.settings.restart_limit,
            "options": self._options,
        }
        self.place.make()
        with (self.place.logs / "agent.err").open("wb") as problems:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "ipkernel_ext.nursery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=problems,
                cwd=self._cwd,
                env=self._env,
                start_new_session=True,
            )
        assert self._agent.stdin is not None and self._agent.stdout is not None
        self._agent.stdin.write(msgspec.json.encode(orders) + b"\n")
        self._agent.stdin.flush()
        line = self._agent.stdout.readline()
        self._agent.stdout.close()
        answer = json.loads(line) if line.strip() else {"error": self._problem()}
        if "error" in answer:
            self.stop()
            raise EngineStartError(f"the cluster does not start: {answer['error']}")
        if not self._owned:
            self._agent.stdin.close()
            self._agent.returncode = 0  # it goes on without us

    def connect(self) -> RemoteController:
        """A client of this cluster."""
        return RemoteController(connection_file=self.place.connection("client"))

    def wait_ready(self, rc: RemoteController, timeout: float) -> None:  # seconds
        """Wait until all engines are there.

        Raises
        ------
        EngineStartError
            They are not; carries why, as far as known.
        """
        try:
            rc.wait_for_engines(self.n, timeout)
        except TimeoutError as error:
            raise EngineStartError(f"{error}; logs are in {self.place.logs}") from None

    def poll(self) -> bool:
        """Whether it still runs."""
        return self._agent is not None and self._agent.poll() is None

    def stop(self) -> None:
        """End everything; returns when all is gone. Stopping it twice does no harm."""
        agent, self._agent = self._agent, None
        if agent is None:
            return
        if agent.stdin is not None and not agent.stdin.closed:
            agent.stdin.close()
        if agent.poll() is None:
            agent.send_signal(signal.SIGTERM)
        try:
            agent.wait(STOP)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        if self._agent is not None:
            self._agent.wait(STOP)
            self.stop()

    def _problem(self) -> str:
        try:
            return (self.place.logs / "agent.err").read_text()[-2000:] or "the agent ended without a word"
        except OSError:
            return "the agent ended without a word"


def find(place: Place) -> connection.Connection | None:
    """The cluster that runs at this place, or None. What a dead one left is no cluster."""
    try:
        found = connection.read(place.connection("client"))
    except NotConnected:
        return None
    return found if is_running(found.pid) else None


def stop_profile(profile: str | None) -> bool:
    """End the profile's cluster; returns when all is gone. False if none ran.

    Raises
    ------
    EngineStartError
        It does not end; names the process.
    """
    place = Place.of_profile(profile)
    running = find(place)
    if running is None:
        return False
    agent = place.agent_pid()
    pid = agent or running.pid
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + STOP
    descriptor = os.pidfd_open(pid) if is_running(pid) else None
    if descriptor is not None:
        try:
            ended, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
        finally:
            os.close(descriptor)
        if not ended:
            raise EngineStartError(f"the cluster does not end; its process {pid} still runs")
    return True


def launch(
    n: int | None = None,
    *,
    engines: str = "local",
    profile: str | None = None,
    start_method: str | None = None,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    **config: Any,
) -> RemoteController:
    """A private, supervised cluster on this machine, and a client of it; closing the client ends it.

    Parameters
    ----------
    n : int, optional
        Engines; one per core by default.
    engines : str
        Where they run; "local" is this machine.
    profile : str, optional
        Whose configuration to use.
    start_method : str, optional
        "spawn", which is also the default: each engine is a process of its own.
    cwd, env
        Working directory of the engines, and additions to their environment.
    timeout : float
        Seconds in which all engines must be ready.
    config
        Options of ``ParallelCluster``, such as ``restart="never"``.

    Raises
    ------
    EngineStartError
        Engines did not come up; nothing is left behind.
    """
    if engines != "local":
        raise ValueError(f"engines={engines!r} is not known; there is 'local'")
    if start_method not in (None, "spawn"):
        raise ValueError(f"start_method={start_method!r} is not known; there is 'spawn'")
    configured = profiles.load(profile, "ipcluster_config.py")
    for name, value in config.items():
        configured.ParallelCluster[name] = value
    cluster = Cluster(n, cwd=cwd, env=env, cluster=settings.cluster_settings(configured))
    cluster.start()
    try:
        rc = cluster.connect()
    except BaseException:
        cluster.stop()
        raise
    rc.cluster = cluster
    try:
        cluster.wait_ready(rc, timeout)
    except BaseException:
        rc.close()
        raise
    return rc
