"""Starting and ending clusters: ``launch()`` for a script, ``Cluster`` for the magics and ``ipcluster``.

A cluster is run by an agent (``nursery``), a process of its own that is told what to do on its
standard input and, when owned, ends everything at the end of that input: however its owner ends,
nothing is left behind.
"""

from __future__ import annotations

import difflib
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
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ipkernel_ext import launchers
from ipkernel_ext.config import connection, files, gpus, profiles, settings, templates
from ipkernel_ext.config.cores import thread_limits
from ipkernel_ext.config.place import Place, is_running
from ipkernel_ext.config.resolved import PLACES, ControllerSettings, Settings
from ipkernel_ext.errors import AlreadyRunning, EngineStartError, NotConnected
from ipkernel_ext.launchers.hosts import hosts_of
from ipkernel_ext.nursery import open_files, register
from ipkernel_ext.nursery.children import open_log, tail
from ipkernel_ext.nursery.launching import order_of
from ipkernel_ext.nursery.orders import GAVE_UP, EngineSetup, LaunchOrders, Orders
from ipkernel_ext.nursery.orders import write as write_orders
from ipkernel_ext.remote import RemoteController
from ipkernel_ext.units import count


def private_settings(profile: str | None, options: Mapping[str, Any], engines: str = "local") -> Settings:
    """Of a private cluster: the profile's files, and on top of them options by their names.

    Where the profile's own cluster listens for other hosts is not where a private one does.
    """
    config = files.load(profile, *templates.OURS)
    for name in ("ip", "port", "location"):
        config.ParallelController.pop(name, None)
    config.merge(settings.classes_of(options, engines))
    return settings.settings_of(config)


START = 60.0  # seconds a controller has to listen
LISTENS = 5.0  # seconds it has at least, however short the time that engines are given
STOP = 20.0  # seconds a cluster has to end
PATH = 64 * 1024  # bytes, at most, of PYTHONPATH; what an engine sees is in its orders


class Cluster:
    """A cluster, whose controller is on this machine.

    Parameters
    ----------
    n : int, optional
        Engines; by default what the profile says, which is one per core.
    engines : str, optional
        Where they run, one of ``PLACES``; by default what the profile says, which is here.
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
        engines: str | None = None,
        profile: str | None = None,
        owned: bool = True,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        own_path: bool = True,
        settings: Settings | None = None,
    ) -> None:
        if n is not None and (isinstance(n, bool) or not hasattr(n, "__index__")):
            raise TypeError(f"n is a number of engines, an integer, not {n!r}")
        if n is not None and n < 0:
            raise ValueError(f"a cluster has 0 or more engines, not {n}")
        self.settings = settings or Settings()
        self.where = self.settings.cluster.engines if engines is None else engines
        if self.where not in PLACES:
            near = difflib.get_close_matches(self.where, PLACES, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PLACES)}"
            raise ValueError(f"engines={self.where!r} is not known: {hint}")
        self.n = self._number() if n is None else n
        self.place = Place.private() if profile is None else Place.of_profile(profile)
        self._owned = owned
        self._cwd = _directory(cwd)
        _check_environment({} if env is None else env)
        self._env = dict(os.environ if env is None else {**os.environ, **env})
        self._pythonpath = self._env.get("PYTHONPATH")
        self._path = list(sys.path) if own_path else None
        if own_path:
            home = str(Path(__file__).parent.parent)
            self._env["PYTHONPATH"] = os.pathsep.join([home, *(path or os.getcwd() for path in sys.path)])[:PATH]
        self._agent: subprocess.Popen[bytes] | None = None
        self._process = os.getpid()  # a fork of it has a copy of this object, but not the cluster

    def start(self, timeout: float = START) -> None:  # seconds
        """Start the controller and the engines; returns when the controller listens.

        Raises
        ------
        AlreadyRunning
            The profile's cluster runs already.
        EngineStartError
            It does not start; carries the end of the log.
        """
        orders = self._orders()
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
            self._agent = _start_agent(self.place, orders, self._cwd, self._env, timeout)
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
            "numbers": list(range(self.n)) if self.where == "local" else [],
            "owned": self._owned,
            "adopt": False,
            "start_method": given.cluster.start_method,
            "restart": given.cluster.restart == "on-failure",
            "restart_limit": given.cluster.restart_limit,
            "controller": asdict(self._controller_settings()),
            "launch": None if self.where == "local" else self._launch_orders(),
            "grace": given.controller.engine_grace,
            "setup": self._setup(),
        }

    def _setup(self) -> EngineSetup:
        preload = self.settings.cluster.preload
        return {
            "path": self._path,
            "pythonpath": self._pythonpath,
            "cwd": self._cwd,
            "open_files": open_files.allowed(),
            "preload": [name for name in preload if name != "numpy" or importlib.util.find_spec(name)],
            "threads": thread_limits(self.n, self._env),
            "gpus": gpus.visible(self._env) if self.settings.cluster.share_gpus else None,
            "settings": {
                name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self.settings.engine).items()
            },
            "connection": str(self.place.connection("engine")),
            "away": False,
            "outpost": False,
            "begun": str(self.place.engines),
            "owned": self._owned,
        }

    def _number(self) -> int:
        """How many engines the profile wants."""
        given = self.settings
        if self.where == "ssh" and not given.cluster.n:
            return sum(host.engines for host in hosts_of(given.ssh.hosts))
        return given.cluster.number

    def _controller_settings(self) -> ControllerSettings:
        """Where engines may be on other hosts, and no way for them is given, it listens at all addresses."""
        given = self.settings.controller
        on_port = self.where not in ("local", "mpi", "ssh") or (self.where == "ssh" and not self.settings.ssh.tunnel)
        return replace(given, ip="*") if on_port and not given.tcp else given

    def _launch_orders(self) -> LaunchOrders:
        """For what has engines started elsewhere; what cannot be is found now, before anything is started.

        Raises
        ------
        ValueError
            An option that cannot be.
        """
        place, given = self.place, self.settings
        setup: EngineSetup = {**self._setup(), "away": True, "outpost": True, "owned": True, "threads": {}}
        setup["preload"] = list(given.cluster.preload)
        outpost: Orders = {
            "directory": "",
            "profile": None,
            "logs": "",
            "numbers": [],
            "owned": False,
            "adopt": False,
            "start_method": given.cluster.start_method,
            "restart": given.cluster.restart == "on-failure",
            "restart_limit": given.cluster.restart_limit,
            "controller": None,
            "launch": None,
            "grace": given.controller.engine_grace,
            "setup": setup,
        }
        settings = given.of_place(self.where)
        orders: LaunchOrders = {
            "where": self.where,
            "settings": settings,
            "numbers": list(range(self.n)),
            "outpost": dict(outpost),
            "directory": str(place.directory),
            "logs": str(place.logs),
            "profile": place.profile,
            "socket": str(place.socket),
            "connection": str(place.connection("engine")),
            "owned": self._owned,
        }
        launchers.make(self.where, settings, order_of(orders))
        return orders

    def connect(self) -> RemoteController:
        """A client of this cluster."""
        return RemoteController(connection_file=self.place.connection("client"))

    def wait_ready(self, rc: RemoteController, timeout: float, say: Callable[[str], None] | None = None) -> int:
        """Wait until all engines are there; how many are.

        Parameters
        ----------
        timeout : float
            Seconds.
        say
            Told why engines are not there yet, as soon as that is known; those that a queue has put off may come
            after the time then. Without it they are to be there in time.

        Raises
        ------
        EngineStartError
            They are not; carries why, as far as known.
        """
        try:
            rc.wait_for_engines(self.n, timeout, say)
        except TimeoutError as error:
            if say is None or not rc.cluster.waits:
                raise EngineStartError(self._late(rc, error, timeout)) from None
        return len(rc)

    def _late(self, rc: RemoteController, error: TimeoutError, timeout: float) -> str:
        """What is known of engines that did not come in time; of those of this machine, what the logs end with."""
        if self.where != "local":
            return str(error)
        missing = next((number for number in range(self.n) if number not in rc.ids), 0)
        said = [tail(str(self.place.logs / name), 5) for name in ("zygote.log", f"engine-{missing}.log")]
        lines = "".join(f"\n{text}" for text in said if text)
        known = rc._link.channel.roster.trouble
        are = f"{len(rc)} of {count(self.n, 'engine')} {'is' if self.n == 1 else 'are'} there"
        late = f"{are} after {timeout:g} s, the others still start:"
        return f"{error if known else late}{lines or ' they have not said anything yet'}"

    def tell_end(self, rc: RemoteController) -> None:
        """Let a client know when the agent ends, however it does: nobody starts a private controller again."""
        agent = self._agent
        assert agent is not None
        give_up = weakref.WeakMethod(rc.give_up)

        def watch() -> None:
            code = agent.wait()
            told = give_up()
            if told is not None:
                told("its controller does not stay up" if code == GAVE_UP else "its agent has ended")

        threading.Thread(target=watch, name="ipkernel_ext launcher", daemon=True).start()

    def poll(self) -> bool:
        """Whether it still runs."""
        return self._agent is not None and self._agent.poll() is None

    def stop(self) -> None:
        """End everything; returns when all is gone. Stopping it twice does no harm, nor does a fork of its process."""
        if os.getpid() != self._process:
            return
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


def _check_environment(env: Mapping[str, str]) -> None:
    """Refuse what no environment can have.

    Raises
    ------
    TypeError
        Names the variable.
    """
    if not isinstance(env, Mapping):
        raise TypeError(f"env is a dict of environment variables, not {env!r}")
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"env takes strings, not {value!r} for {name!r}")


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
    """A private, supervised cluster, and a client of it; closing the client ends it.

    Parameters
    ----------
    n : int, optional
        Engines; one per core by default.
    engines : str
        Where they run: "local" is this machine; "mpi", "ssh", "slurm", "pbs", "lsf", "sge", "htcondor", "dask", "ray".
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
        ``restart="never"``, and of the class for the place of the engines, such as ``queue="main"``.

    Raises
    ------
    EngineStartError
        Engines did not come up; nothing is left behind.
    """
    if (problem := profiles.missing(profile)) is not None:
        raise ValueError(problem)
    if start_method is not None:
        config["start_method"] = start_method
    given = private_settings(profile, config, engines)
    cluster = Cluster(n, engines=engines, cwd=cwd, env=env, settings=given)
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
