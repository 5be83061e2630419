"""Starting and ending clusters: ``launch()`` for a script, ``Cluster`` for the magics and ``ipcluster``.

A cluster is run by an agent (``nursery``), a process of its own that is told what to do on its
standard input and, when owned, ends everything at the end of that input: however its owner ends,
nothing is left behind.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ipkernel_ext.config import connection, files, profiles, settings, templates
from ipkernel_ext.config.cores import thread_limits
from ipkernel_ext.config.place import Place, is_running
from ipkernel_ext.config.resolved import Settings
from ipkernel_ext.errors import AlreadyRunning, EngineStartError, NotConnected
from ipkernel_ext.nursery import open_files, register
from ipkernel_ext.nursery.children import open_log, tail
from ipkernel_ext.nursery.orders import Orders
from ipkernel_ext.nursery.orders import write as write_orders
from ipkernel_ext.remote import RemoteController
from ipkernel_ext.units import count


def private_settings(profile: str | None, options: Mapping[str, Any]) -> Settings:
    """Of a private cluster: the profile's files, and on top of them options by their names.

    Where the profile's own cluster listens for other hosts is not where a private one does.
    """
    config = files.load(profile, *templates.OURS)
    for name in ("ip", "port"):
        config.ParallelController.pop(name, None)
    config.merge(settings.classes_of(options))
    return settings.settings_of(config)


START = 60.0  # seconds a controller has to listen
LISTENS = 5.0  # seconds it has at least, however short the time that engines are given
STOP = 15.0  # seconds a cluster has to end
PATH = 64 * 1024  # bytes, at most, of PYTHONPATH; what an engine sees is in its orders


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
    own_path : bool
        Whether engines begin with this process's ``sys.path``.
    settings : Settings
        What the user configured.
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
        settings: Settings | None = None,
    ) -> None:
        if n is not None and n < 0:
            raise ValueError(f"a cluster has 0 or more engines, not {n}")
        self.settings = settings or Settings()
        self.n = self.settings.cluster.engines if n is None else n
        self.place = Place.private() if profile is None else Place.of_profile(profile)
        self._owned = owned
        self._cwd = _directory(cwd)
        self._env = dict(os.environ if env is None else {**os.environ, **env})
        self._pythonpath = self._env.get("PYTHONPATH")
        self._path = list(sys.path) if own_path else None
        if own_path:
            home = str(Path(__file__).parent.parent)
            self._env["PYTHONPATH"] = os.pathsep.join([home, *(path or os.getcwd() for path in sys.path)])[:PATH]
        self._agent: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = START) -> None:  # seconds
        """Start the controller and the engines; returns when the controller listens.

        Raises
        ------
        AlreadyRunning
            The profile's cluster runs already.
        EngineStartError
            It does not start; carries the end of the log.
        """
        adopt(self.place)
        running = find(self.place)
        if running is not None:
            raise AlreadyRunning(
                f"a cluster of profile {self.place.profile!r} runs already (pid {running.pid}); "
                f"`ipcluster stop{profiles.option(self.place.profile)}` ends it",
                running.pid,
            )
        self.place.make()
        self.place.clear_logs()
        try:
            self._agent = _start_agent(self.place, self._orders(), self._cwd, self._env, timeout)
        except EngineStartError:
            if self.place.profile is None and self.place.controller_pid() is None:
                self.place.sweep()
            raise

    def _orders(self) -> Orders:
        place, given = self.place, self.settings
        return {
            "directory": str(place.directory),
            "profile": place.profile,
            "logs": str(place.logs),
            "engines": self.n,
            "owned": self._owned,
            "adopt": False,
            "start_method": given.cluster.start_method,
            "restart": given.cluster.restart == "on-failure",
            "restart_limit": given.cluster.restart_limit,
            "controller": asdict(given.controller),
            "setup": {
                "path": self._path,
                "pythonpath": self._pythonpath,
                "cwd": self._cwd,
                "open_files": open_files.allowed(),
                "preload": [
                    name for name in given.cluster.preload if name != "numpy" or importlib.util.find_spec(name)
                ],
                "threads": thread_limits(self.n, self._env),
                "settings": asdict(given.engine),
                "connection": str(place.connection("engine")),
                "begun": str(place.engines),
                "owned": self._owned,
            },
        }

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
            missing = next((number for number in range(self.n) if number not in rc.ids), 0)
            said = [tail(str(self.place.logs / name), 5) for name in ("zygote.log", f"engine-{missing}.log")]
            lines = "".join(f"\n{text}" for text in said if text)
            known = rc._link.channel.roster.trouble
            late = f"{len(rc)} of {count(self.n, 'engine')} are there after {timeout:g} s, the others still start:"
            raise EngineStartError(f"{error if known else late}{lines or ' they have not said anything yet'}") from None

    def tell_end(self, rc: RemoteController) -> None:
        """Let a client know when the agent ends, however it does: nobody starts a private controller again."""
        agent = self._agent
        assert agent is not None
        give_up = weakref.WeakMethod(rc.give_up)

        def watch() -> None:
            agent.wait()
            told = give_up()
            if told is not None:
                told("its agent has ended")

        threading.Thread(target=watch, name="ipkernel_ext launcher", daemon=True).start()

    def poll(self) -> bool:
        """Whether it still runs."""
        return self._agent is not None and self._agent.poll() is None

    def stop(self) -> None:
        """End everything; returns when all is gone. Stopping it twice does no harm."""
        agent, self._agent = self._agent, None
        if agent is not None:
            _end(agent)

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        if self._agent is not None:
            self._agent.wait(STOP)
            self.stop()


def _start_agent(
    place: Place, orders: Orders, cwd: str, env: Mapping[str, str], timeout: float = START
) -> subprocess.Popen[bytes]:
    """Start an agent; returns when its controller listens.

    Raises
    ------
    AlreadyRunning
        Another agent is at work there.
    EngineStartError
        It does not start; carries the end of the log. Nothing is left.
    """
    problems = place.logs / "agent.err"
    problems.unlink(missing_ok=True)
    with open(open_log(str(problems)), "wb") as stderr:
        agent = subprocess.Popen(
            [sys.executable, "-m", "ipkernel_ext.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
    assert agent.stdin is not None and agent.stdout is not None
    _lives[agent.pid] = os.dup(agent.stdin.fileno())
    with agent.stdin:
        agent.stdin.write(write_orders(orders))
    with agent.stdout:
        came, _, _ = select.select([agent.stdout], [], [], timeout)
        line = agent.stdout.readline() if came else b""
    said = problems.read_text()[-2000:] if problems.exists() else ""
    otherwise = said or ("the agent ended without a word" if came else f"nothing came of it within {timeout:g} s")
    answer = json.loads(line) if line.strip() else {"error": otherwise}
    if "error" in answer:
        _end(agent)
    if "pid" in answer:
        raise AlreadyRunning(
            f"{answer['error']}; `ipcluster stop{profiles.option(place.profile)}` ends it", int(answer["pid"])
        )
    if "error" in answer:
        raise EngineStartError(f"the cluster does not start: {answer['error']}")
    if not orders["owned"]:
        _let_go(agent)
        agent.returncode = 0  # it goes on without us
    return agent


_lives: dict[int, int] = {}
"""By the pid of each agent that this process owns: the descriptor whose end it takes for this process's end."""


def _let_go(agent: subprocess.Popen[bytes]) -> None:
    life = _lives.pop(agent.pid, None)
    if life is not None:
        os.close(life)


def _own_nothing() -> None:
    """A fork of this process does not keep clusters alive when this one is gone."""
    for life in _lives.values():
        os.close(life)
    _lives.clear()


os.register_at_fork(after_in_child=_own_nothing)


def _end(agent: subprocess.Popen[bytes]) -> None:
    """End an agent, and so all that it has started."""
    _let_go(agent)
    if agent.poll() is None:
        agent.send_signal(signal.SIGTERM)
    try:
        agent.wait(STOP)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()


def _directory(cwd: str | Path | None) -> str:
    """Where engines are to begin.

    Raises
    ------
    ValueError
        It is no directory.
    """
    try:
        path = os.path.abspath(cwd if cwd is not None else os.getcwd())
    except FileNotFoundError:
        raise ValueError("the working directory has been removed; change to another one first") from None
    if not os.path.isdir(path):
        raise ValueError(f"engines cannot begin in {path}: that is no directory")
    return path


def find(place: Place) -> connection.Connection | None:
    """The cluster that runs at this place, or None. What a dead one left is no cluster."""
    try:
        found = connection.read(place.connection("client"))
    except NotConnected:
        return None
    return found if process_of(place) is not None else None


def adopt(place: Place) -> bool:
    """Give a cluster whose agent was killed a new one, if any process of it still runs.

    A cluster that nobody owns goes on without its agent; engines that die meanwhile come back now.

    Raises
    ------
    EngineStartError
        The new agent does not start, or the cluster's controller does not.
    """
    left = register.read(place.register)
    if left is None or left.agent.runs() or not left.living():
        return False
    cwd = left.orders["setup"]["cwd"]
    try:
        _start_agent(place, {**left.orders, "adopt": True}, cwd if os.path.isdir(cwd) else "/", os.environ)
    except AlreadyRunning:
        return False  # another command was faster
    except EngineStartError:
        if place.register.exists():
            raise
        return False  # it was stopped meanwhile
    return True


def stop_profile(profile: str | None) -> bool:
    """End the profile's cluster; returns when all is gone. False if none ran.

    Raises
    ------
    EngineStartError
        It does not end; names the process.
    """
    place = Place.of_profile(profile)
    adopt(place)
    pid = process_of(place)
    if pid is None:
        return False
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
    left = register.read(place.register)
    if left is not None and left.living():
        pids = ", ".join(str(process.pid) for process in left.living())
        raise EngineStartError(f"the cluster does not end; of its processes there still run {pids}")
    return True


def process_of(place: Place) -> int | None:
    """The process whose end is the cluster's: its agent, or a controller started by hand. None: none runs."""
    return place.agent_pid() or place.controller_pid()


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
        "fork": engines are forked from a warm process, in milliseconds; "spawn": each is a process of its own.
    cwd, env
        Working directory of the engines, and additions to their environment.
    timeout : float
        Seconds in which all engines must be ready.
    config
        Options of ``ParallelCluster``, ``ParallelController`` and ``ParallelEngine`` by their names, such as
        ``restart="never"``.

    Raises
    ------
    EngineStartError
        Engines did not come up; nothing is left behind.
    """
    if engines != "local":
        raise ValueError(f"engines={engines!r} is not known; there is 'local'")
    if (problem := profiles.missing(profile)) is not None:
        raise ValueError(problem)
    if start_method is not None:
        config["start_method"] = start_method
    cluster = Cluster(n, cwd=cwd, env=env, settings=private_settings(profile, config))
    cluster.start(max(timeout, LISTENS))
    try:
        rc = cluster.connect()
    except BaseException:
        cluster.stop()
        raise
    rc.cluster.launched = cluster
    cluster.tell_end(rc)
    try:
        cluster.wait_ready(rc, timeout)
    except BaseException:
        rc.close()
        raise
    return rc
