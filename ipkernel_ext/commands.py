"""``ipcontroller``, ``ipengine`` and ``ipcluster``: settings in, an object, run it.

Nothing is decided here but what to say to a person at a terminal.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from traitlets.config import Config, Configurable
from traitlets.config.loader import DeferredConfigString

from ipkernel_ext import __version__
from ipkernel_ext.config import connection, profiles, settings
from ipkernel_ext.config.place import Place
from ipkernel_ext.errors import NotConnected, ParallelError
from ipkernel_ext.nursery.owner import take_owner


def ipcontroller(arguments: Sequence[str] | None = None) -> None:
    """Start a controller."""
    parser = _parser("ipcontroller", "Start a controller; engines and clients of this user find it by profile.")
    parser.add_argument(
        "--ip", help="also listen, with keys, at this address of this host; '*' is all of them (default: none)"
    )
    parser.add_argument("--port", type=int, help="at this TCP port (default: any free one); alone: of 127.0.0.1")
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    parser.add_argument("--owned", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    _main(parser, arguments, _controller, [settings.ParallelController])


def ipengine(arguments: Sequence[str] | None = None) -> None:
    """Start an engine."""
    parser = _parser(
        "ipengine", "Start an engine and join the profile's controller; waits for it where there is none yet."
    )
    parser.add_argument("-n", type=int, default=1, help="how many engines (default: 1)")
    parser.add_argument("--file", metavar="FILE", help="the connection file to join by, instead of the profile's")
    parser.add_argument(
        "--url", help="address of the controller, instead of that in the connection file; tcp:// needs the file's keys"
    )
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    parser.add_argument("--owned", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--boot", default="", help=argparse.SUPPRESS)
    parser.add_argument("--agent", help=argparse.SUPPRESS)
    parser.add_argument("--replaces", help=argparse.SUPPRESS)
    _main(parser, arguments, _engine, [settings.ParallelEngine])


def ipcluster(arguments: Sequence[str] | None = None) -> None:
    """Start, stop and look at clusters."""
    parser = _parser("ipcluster", "Start, stop and look at clusters on this machine.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    start = actions.add_parser("start", help="a controller and engines; Ctrl-C ends all", parents=[_common()])
    start.add_argument("-n", type=int, help="engines (default: one per core)")
    start.add_argument("--engines", default="local", choices=["local"], help="where engines run")
    start.add_argument(
        "--daemonize", action="store_true", help="return when the engines are ready; the cluster goes on"
    )
    stop = actions.add_parser("stop", help="end the profile's cluster", parents=[_common()])
    listed = actions.add_parser("list", help="the clusters that run", parents=[_common()])
    listed.add_argument("--json", action="store_true", help="as JSON")
    status = actions.add_parser("status", help="engines and queues of the profile's cluster", parents=[_common()])
    for action, do in ((start, _start), (stop, _stop), (listed, _list), (status, _status)):
        action.set_defaults(do=do)
    _main(parser, arguments, None, [settings.ParallelCluster, settings.ParallelController, settings.ParallelEngine])


# ---------------------------------------------------------------- what they share


def _parser(name: str, text: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        name,
        description=text,
        parents=[_common()],
        epilog="Any option of the config files can be given as --Class.option=value; --help-all lists them.",
    )


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--profile", default=argparse.SUPPRESS, help="the IPython profile (default: default)")
    common.add_argument("--help-all", action="store_true", default=argparse.SUPPRESS, help="also list all options")
    common.add_argument("--version", action="version", version=__version__)
    return common


def _main(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    do: Callable[[argparse.Namespace, Config], int] | None,
    classes: Sequence[type[Configurable]],
) -> None:
    options, rest = parser.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    if hasattr(options, "help_all"):
        parser.print_help()
        for kind in classes:
            print("\n" + kind.class_get_help())
        sys.exit(0)
    do = do or getattr(options, "do", None)
    if do is None:
        parser.print_help()
        sys.exit(2)
    profile = getattr(options, "profile", None)
    options.profile = profile
    options.rest = [argument for argument in rest if argument.startswith("--") and "." in argument]
    strange = [argument for argument in rest if argument not in options.rest]
    if strange:
        parser.error(f"unrecognized arguments: {' '.join(strange)}")
    try:
        config = profiles.load(profile, f"{parser.prog.split()[0]}_config.py")
        config.merge(_from_command_line(options.rest))
        settings.check(config)
        code = do(options, config)
    except ParallelError as error:
        code = _complain(parser.prog, error)
    except ValueError as error:
        code = _complain(parser.prog, error)
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _complain(program: str, error: Exception) -> int:
    print(f"{program}: {error}", file=sys.stderr)
    return 1


def _from_command_line(arguments: Sequence[str]) -> Config:
    """Options given as ``--Class.option=value``.

    Raises
    ------
    ValueError
        A class that is not ours; names those that are.
    """
    ours = [kind.__name__ for kind in settings.CLASSES]
    config = Config()
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        kind, _, option = name.partition(".")
        if kind not in ours:
            raise ValueError(f"{argument!r} is not an option of ours; the classes are {', '.join(ours)}")
        if not value:
            raise ValueError(f"{argument!r} needs a value: --{name}=VALUE")
        config[kind][option] = DeferredConfigString(value)
    return config


def _place(options: argparse.Namespace) -> Place:
    if getattr(options, "directory", None):
        return Place(Path(options.directory), None)
    return Place.of_profile(options.profile)


def _profile_option(place: Place) -> str:
    return "" if place.profile in (None, "default") else f" --profile={place.profile}"


def _log(name: str) -> logging.Logger:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    return logging.getLogger(f"ipkernel_ext.{name}")


# ---------------------------------------------------------------- ipcontroller


def _controller(options: argparse.Namespace, config: Config) -> int:
    from ipkernel_ext.nursery import controller

    place = _place(options)

    def listening(url: str, tcp: Sequence[str]) -> None:
        if options.ready_fd is not None:
            os.write(options.ready_fd, b"!")
            os.close(options.ready_fd)
            return
        profile = "" if place.profile in (None, "default") else f'profile="{place.profile}"'
        print(f"controller listens at {url} (pid {os.getpid()})")
        print(f"  engines join with:  ipengine{_profile_option(place)}")
        print(f"  clients connect by: %load_ext ipkernel_ext in IPython, or RemoteController({profile}) in a script")
        if tcp:
            print(f"for other hosts it listens at {' and '.join(tcp)}")
            print(f"  engines there: copy {place.connection('engine')}, then: ipengine --file=engine.json")
            print(
                f"  clients there: copy {place.connection('client')}, "
                'then: RemoteController(connection_file="client.json")'
            )
        print("Ctrl-C ends it.", flush=True)

    for name in ("ip", "port"):
        if getattr(options, name) is not None:
            config.ParallelController[name] = getattr(options, name)
    owner = take_owner() if options.owned else None
    controller.serve(place, settings.controller_settings(config), _log("controller"), owner, listening)
    return 0


# ---------------------------------------------------------------- ipengine


def _engine(options: argparse.Namespace, config: Config) -> int:
    from ipkernel_ext.nursery import engine

    given = settings.engine_settings(config)
    if options.n != 1:
        return _several_engines(options)
    owner = take_owner() if options.owned else None
    place = _place(options)
    file = options.file or (place.connection("engine") if options.directory else None)
    log = _log("engine")
    log.setLevel(logging.WARNING)

    def locate() -> connection.Address:
        return connection.locate("engine", options.profile, file, options.url)

    if options.url:
        locate()  # what it needs will not come by waiting
    if not options.file and not options.url:
        place.make()
    record = engine.record_of(options.boot, agent=options.agent, replaces=options.replaces)
    engine.serve(engine.build(given), record, locate, place.engines, log, owner)
    return 0


def _several_engines(options: argparse.Namespace) -> int:
    """``ipengine -n 4``: as many processes, which end with this one."""
    if options.n < 1:
        raise ValueError(f"-n must be at least 1, not {options.n}")
    command = [sys.executable, "-m", "ipkernel_ext.commands", "ipengine", "--owned", *options.rest]
    for name in ("profile", "file", "url"):
        if getattr(options, name):
            command += [f"--{name}", getattr(options, name)]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    engines = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(options.n)]
    try:
        codes = [engine.wait() for engine in engines]
    finally:
        for engine in engines:
            assert engine.stdin is not None
            engine.stdin.close()
        for engine in engines:
            engine.wait()
    return int(any(codes))


# ---------------------------------------------------------------- ipcluster


def _start(options: argparse.Namespace, config: Config) -> int:
    from ipkernel_ext.launcher import Cluster

    given = settings.cluster_settings(config)
    profile = options.profile or "default"
    cluster = Cluster(
        options.n, profile=profile, owned=not options.daemonize, own_path=False, options=options.rest, cluster=given
    )
    begun = time.monotonic()
    cluster.start()
    try:
        with cluster.connect() as rc:
            cluster.wait_ready(rc, given.start_timeout)
        took = time.monotonic() - begun
        print(f"{cluster.n} engines of profile {profile!r} are ready after {took:.1f} s", flush=True)
        if options.daemonize:
            return 0
        print("Ctrl-C ends them.", flush=True)
        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: stopped.set())
        while cluster.poll() and not stopped.wait(0.5):
            pass
        return 0
    except BaseException:
        if options.daemonize:
            _stop(options, config)
        raise
    finally:
        if not options.daemonize:
            cluster.stop()


def _stop(options: argparse.Namespace, config: Config) -> int:
    from ipkernel_ext.launcher import stop_profile

    profile = options.profile or "default"
    if not stop_profile(profile):
        raise NotConnected(f"no cluster of profile {profile!r} runs")
    print(f"the cluster of profile {profile!r} has ended")
    return 0


def _list(options: argparse.Namespace, config: Config) -> int:
    from ipkernel_ext.launcher import find
    from ipkernel_ext.remote import RemoteController

    rows: list[dict[str, Any]] = []
    for profile in profiles.profiles():
        running = find(Place.of_profile(profile))
        if running is not None:
            with RemoteController(profile=profile) as rc:
                rows.append({"profile": profile, "engines": len(rc), "pid": running.pid, "host": running.host})
    if options.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print("no cluster runs; `ipcluster start` starts one")
    for row in [] if options.json else rows:
        print(f"{row['profile']:<20} {row['engines']:>4} engines  controller pid {row['pid']} on {row['host']}")
    return 0


def _status(options: argparse.Namespace, config: Config) -> int:
    from ipkernel_ext.remote import RemoteController

    with RemoteController(profile=options.profile) as rc:
        status = rc.status()
    controller = status["controller"]
    connected = sum(client["connected"] for client in status["clients"])
    print(f"controller pid {controller['pid']} on {controller['host']}, {connected} clients")
    for engine in status["engines"]:
        queue = status["queue"].get(engine.id, {"queued": 0, "running": 0, "done": 0})
        print(
            f"  [{engine.id}] pid {engine.pid} on {engine.host}, {engine.state}: "
            f"{queue['running']} running, {queue['queued']} queued, {queue['done']} done"
        )
    print(f"{status['queue']['unassigned']} tasks wait for an engine")
    return 0


_PROGRAMS = {"ipcontroller": ipcontroller, "ipengine": ipengine, "ipcluster": ipcluster}

if __name__ == "__main__":
    _PROGRAMS[sys.argv[1]](sys.argv[2:])
