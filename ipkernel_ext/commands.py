"""``ipcontroller``, ``ipengine`` and ``ipcluster``: settings in, an object, run it.

Nothing is decided here but what to say to a person at a terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from traitlets.config import Config, Configurable

from ipkernel_ext import __version__
from ipkernel_ext.config import command_line, connection, files, keys, logs, profiles, settings, templates
from ipkernel_ext.config.place import Place
from ipkernel_ext.config.resolved import PLACES
from ipkernel_ext.errors import NotConnected, ParallelError
from ipkernel_ext.extras import ExtraMissing
from ipkernel_ext.nursery.owner import take_owner
from ipkernel_ext.units import count

UPKEEP = "ipkernel_ext.upkeep"


def ipcontroller(arguments: Sequence[str] | None = None) -> None:
    """Start a controller."""
    parser = _parser("ipcontroller", "Start a controller; engines and clients of this user find it by profile.")
    _add_address(parser)
    parser.add_argument("--keys", metavar="FILE", help="take these keys, made beforehand (default: make new ones)")
    parser.set_defaults(do=_controller, files=["ipcontroller_config.py"], makes_profile=True)
    _main(parser, arguments, [settings.ParallelController])


def ipengine(arguments: Sequence[str] | None = None) -> None:
    """Start an engine."""
    parser = _parser(
        "ipengine",
        "Start an engine and join the profile's controller; waits for it where there is none yet. "
        "As ranks: mpiexec -n 8 ipengine.",
    )
    parser.add_argument("-n", type=int, default=1, help="how many engines (default: 1)")
    parser.add_argument("--file", metavar="FILE", help="the connection file to join by, instead of the profile's")
    parser.add_argument(
        "--url", help="address of the controller, instead of that in the connection file; tcp:// needs the file's keys"
    )
    parser.add_argument("--owned", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(do=_engine, files=["ipengine_config.py"])
    _main(parser, arguments, [settings.ParallelEngine])


def ipcluster(arguments: Sequence[str] | None = None) -> None:
    """Start, stop and look at clusters."""
    parser = _parser("ipcluster", "Start, stop and look at clusters on this machine.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    start = actions.add_parser("start", help="a controller and engines; Ctrl-C ends all", parents=[_common()])
    start.add_argument("-n", type=int, help="engines (default: one per core, or what the hosts are to have)")
    start.add_argument("--engines", choices=PLACES, help="where engines run (default: what the profile says: local)")
    start.add_argument("--hosts", metavar="a:4,b:8", help="for ssh: hosts, and how many engines each is to have")
    start.add_argument("--address", metavar="URL", help="for dask and ray: where its scheduler or head node is")
    _add_address(start)
    start.add_argument(
        "--daemonize", action="store_true", help="return when the engines are ready; the cluster goes on"
    )
    stop = actions.add_parser("stop", help="end the profile's cluster", parents=[_common()])
    listed = actions.add_parser("list", help="the clusters that run", parents=[_common()])
    listed.add_argument("--json", action="store_true", help="as JSON")
    status = actions.add_parser("status", help="engines and queues of the profile's cluster", parents=[_common()])
    scale = actions.add_parser("scale", help="start engines, or end those with the highest ids", parents=[_common()])
    scale.add_argument("n", type=int, help="how many engines there are to be")
    logs = actions.add_parser("logs", help="what controller, agent and engines wrote", parents=[_common()])
    logs.add_argument("engine", nargs="?", metavar="ENGINE", help="of this engine only (default: all)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the cluster ends, or Ctrl-C")
    logs.add_argument("-n", "--lines", type=_natural, metavar="N", help="the last N lines of each (default: all)")
    clean = actions.add_parser("clean", help="remove what dead clusters left behind", parents=[_common()])
    clean.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    clean.add_argument("--kill", action="store_true", help="also end processes whose cluster is gone")
    doctor = actions.add_parser("doctor", help="find the usual causes of trouble", parents=[_common()])
    _add_watching(actions)
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.add_argument(
        "--from", dest="host", metavar="HOST", help="ask HOST, by ssh, what it reaches of the controller"
    )
    rotate = actions.add_parser("rotate-keys", help="make new keys; the old ones let nobody in", parents=[_common()])
    invite = actions.add_parser(
        "invite", help="make a connection file for others, who may do less than the owner", parents=[_common()]
    )
    invite.add_argument("--access", default="run", choices=["run", "read"], help="what they may do (default: run)")
    invite.add_argument("-o", "--output", metavar="FILE", help="where it is written (default: ACCESS.json here)")
    kubernetes = actions.add_parser(
        "kubernetes", help="write manifests for kubectl: a controller and engines as pods", parents=[_common()]
    )
    kubernetes.add_argument("-n", type=int, help="engines (default: what the profile says)")
    kubernetes.add_argument("--image", help="container image that has this package")
    kubernetes.add_argument("--namespace", help="of the objects (default: that of whoever applies them)")
    kubernetes.add_argument("-o", "--output", metavar="FILE", help="where they are written (default: standard output)")
    kubernetes.set_defaults(files=templates.OURS)
    start.set_defaults(files=templates.OURS, makes_profile=True)
    scale.set_defaults(files=["ipcluster_config.py"])
    for action, do in (
        (start, _start),
        (stop, _stop),
        (listed, _list),
        (status, _status),
        (scale, _scale),
        (kubernetes, _kubernetes),
        (logs, _action(UPKEEP, "logs")),
        (clean, _action(UPKEEP, "clean")),
        (doctor, _action(UPKEEP, "doctor")),
        (rotate, _action(UPKEEP, "rotate_keys")),
        (invite, _action(UPKEEP, "invite")),
    ):
        action.set_defaults(do=do, parser=action)
    _add_profile(actions)
    _main(parser, arguments, settings.STARTING)


def _add_address(parser: argparse.ArgumentParser) -> None:
    """Where a controller listens for other hosts."""
    parser.add_argument(
        "--ip", help="also listen, with keys, at this address of this host; '*' is all of them (default: none)"
    )
    parser.add_argument("--port", type=int, help="at this TCP port (default: any free one); alone: of 127.0.0.1")
    parser.add_argument(
        "--location", metavar="HOST", help="by this name or address others reach it (default: the one it listens at)"
    )


def _take_address(options: argparse.Namespace, config: Config) -> None:
    for name in ("ip", "port", "location"):
        if getattr(options, name) is not None:
            config.ParallelController[name] = getattr(options, name)


def _add_watching(actions: Any) -> None:
    """``ipcluster dashboard`` and ``ipcluster top``."""
    dashboard = actions.add_parser("dashboard", help="a live page of the cluster, for a browser", parents=[_common()])
    dashboard.add_argument("--ip", default="127.0.0.1", help="listen at this address (default: 127.0.0.1)")
    dashboard.add_argument("--port", type=int, default=0, help="listen at this port (default: any free one)")
    dashboard.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="let in requests that ask for this host by NAME, too",
    )
    dashboard.set_defaults(do=_action("ipkernel_ext.watching", "dashboard"), parser=dashboard)
    top = actions.add_parser("top", help="the same in a terminal", parents=[_common()])
    top.add_argument("--once", action="store_true", help="print how it is now, and end")
    top.set_defaults(do=_action("ipkernel_ext.watching", "top"), parser=top)


def _add_profile(actions: Any) -> None:
    """``ipcluster profile``, whose actions have actions of their own."""
    profile = actions.add_parser(
        "profile", help="make a profile with its config files; list profiles", parents=[_help()]
    )
    profile.set_defaults(parser=profile)
    actions = profile.add_subparsers(dest="profile_action", metavar="ACTION")
    create = actions.add_parser(
        "create", help="write the config files, every option commented with its default", parents=[_help()]
    )
    create.add_argument("name", metavar="NAME", help="of the profile; what is there already stays as it is")
    create.set_defaults(do=_action(UPKEEP, "create_profile"), parser=create)
    listed = actions.add_parser("list", help="the profiles, their config files and clusters", parents=[_help()])
    listed.add_argument("--json", action="store_true", help="as JSON")
    listed.set_defaults(do=_action(UPKEEP, "list_profiles"), parser=listed)


# ---------------------------------------------------------------- what they share


def _parser(name: str, text: str) -> argparse.ArgumentParser:
    return _Parser(
        name,
        description=text,
        parents=[_common()],
        epilog="Any option of the config files can be given as --Class.option=value; --help-all lists them.",
    )


class _Parser(argparse.ArgumentParser):
    """Says which action was surely meant."""

    def error(self, message: str) -> NoReturn:
        """End with what is wrong."""
        wrong = re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)", message)
        if wrong is not None:
            near = difflib.get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), 1)
            message += "".join(f": did you mean {name}?" for name in near)
        super().error(message)


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, parents=[_help()])
    common.add_argument("--profile", default=argparse.SUPPRESS, help="the IPython profile (default: default)")
    return common


def _help() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--help-all", action="store_true", default=argparse.SUPPRESS, help="also list all options")
    common.add_argument("--version", action="version", version=__version__)
    return common


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines")
    return int(text)


def _main(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, classes: Sequence[type[Configurable]]
) -> None:
    """Read options, call the action that they choose, and end with its exit code."""
    rest, others = command_line.part(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(others)
    chosen = getattr(options, "parser", parser)
    if hasattr(options, "help_all"):
        chosen.print_help()
        for kind in classes:
            print("\n" + kind.class_get_help())
        sys.exit(0)
    if not hasattr(options, "do"):
        chosen.print_help()
        sys.exit(2)
    options.rest = rest
    options.profile = getattr(options, "profile", None)
    try:
        _look_for_profile(options)
        config = files.load(options.profile, *getattr(options, "files", ()))
        config.merge(command_line.read(rest, classes))
        code = options.do(options, config)
        sys.stdout.flush()
    except (ParallelError, ExtraMissing, ValueError, TimeoutError) as error:
        print(f"{chosen.prog}: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if error.filename is None:
            raise
        print(f"{chosen.prog}: {error.filename}: {error.strerror}", file=sys.stderr)
        code = 1
    sys.exit(code)


def _look_for_profile(options: argparse.Namespace) -> None:
    """What starts a cluster may make its profile, and says so; what looks for a cluster or its files does not.

    Raises
    ------
    ValueError
        There is no such profile; names those that are near.
    """
    name = options.profile
    if profiles.exists(name) or any(getattr(options, other, None) for other in ("directory", "file", "url")):
        return
    if not getattr(options, "makes_profile", False):
        raise ValueError(profiles.missing(name))
    print(templates.make_if_missing(name), file=sys.stderr)


def _log(name: str) -> logging.Logger:
    logging.basicConfig(format=logs.FORMAT, level=logging.INFO)
    return logging.getLogger(f"ipkernel_ext.{name}")


# ---------------------------------------------------------------- ipcontroller


def _controller(options: argparse.Namespace, config: Config) -> int:
    from ipkernel_ext.nursery import controller

    place = Place.of_profile(options.profile)

    def listening(url: str, tcp: Sequence[str]) -> None:
        profile = "" if place.profile in (None, "default") else f'profile="{place.profile}"'
        print(f"controller listens at {url} (pid {os.getpid()})")
        print(f"  engines join with:  ipengine{profiles.option(place.profile)}")
        print(f"  clients connect by: %load_ext ipkernel_ext in IPython, or RemoteController({profile}) in a script")
        _say_tcp(place, tcp)
        print("Ctrl-C ends it.", flush=True)

    _take_address(options, config)
    given = None if options.keys is None else keys.mounted(Path(options.keys).expanduser())
    controller.serve(place, settings.controller_settings(config), _log("controller"), None, listening, given)
    return 0


# ---------------------------------------------------------------- ipengine


def _say_tcp(place: Place, tcp: Sequence[str]) -> None:
    """How other hosts take part, if they are let in."""
    if tcp:
        print(f"for other hosts it listens at {' and '.join(tcp)}")
        print(f"  engines there: copy {place.connection('engine')}, then: ipengine --file=engine.json")
        print(
            f'  clients there: copy {place.connection("client")}, then: RemoteController(connection_file="client.json")'
        )


def _engine(options: argparse.Namespace, config: Config) -> int:
    from ipkernel_ext.nursery import engine, mpi

    given = settings.engine_settings(config)
    if options.n != 1:
        return _several_engines(options)
    owner = take_owner() if options.owned else None
    place = Place.of_profile(options.profile)

    def locate() -> connection.Address:
        return connection.locate("engine", options.profile, options.file, options.url)

    if options.url:
        try:
            locate()  # what it needs will not come by waiting
        except NotConnected as error:
            raise NotConnected(f"--url: {error}") from None
    if not options.file and not options.url:
        place.make()
    rank = None if options.owned else mpi.rank_of(os.environ)  # an owned engine has inherited that
    record = engine.record_of(rank=rank, tags=given.tags)
    parts = engine.build(given)
    engine.serve(parts, record, locate, place.engines, owner, level=logging.WARNING, tells=rank is None)
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
    from ipkernel_ext.launcher import Cluster, stop_profile

    profile = options.profile or "default"
    _take_address(options, config)
    if options.hosts is not None:
        config.ParallelSSH.hosts = [host for host in options.hosts.split(",") if host]
    if options.address is not None:
        config.ParallelGuest.address = options.address
    given = settings.settings_of(config)
    cluster = Cluster(
        options.n,
        engines=options.engines or ("ssh" if options.hosts is not None else None),
        profile=profile,
        owned=not options.daemonize,
        own_path=False,
        settings=given,
    )
    begun = time.monotonic()
    cluster.start()
    try:
        with cluster.connect() as rc:
            here = cluster.wait_ready(rc, given.cluster.start_timeout, lambda text: print(text, flush=True))
        took = time.monotonic() - begun
        if here == cluster.n:
            ready = f"{count(here, 'engine')} of profile {profile!r} {'is' if here == 1 else 'are'} ready"
            print(f"{ready} after {took:.1f} s", flush=True)
        else:
            print(f"{here} of {count(cluster.n, 'engine')} of profile {profile!r} are ready", flush=True)
        _say_tcp(cluster.place, connection.read(cluster.place.connection("client")).tcp)
        if options.daemonize:
            return 0
        print("Ctrl-C ends them.", flush=True)
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: stopped.set())
        while cluster.poll() and not stopped.wait(0.5):
            pass
        cluster.stop()
        with contextlib.suppress(OSError):  # the terminal is closed
            print(f"the cluster of profile {profile!r} has ended", flush=True)
        return 0
    except BaseException:
        if options.daemonize:
            with contextlib.suppress(ParallelError):
                stop_profile(profile)
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
    from ipkernel_ext.launcher import adopt, find
    from ipkernel_ext.remote import RemoteController

    rows: list[dict[str, Any]] = []
    for profile in profiles.profiles():
        adopt(Place.of_profile(profile))
        running = find(Place.of_profile(profile))
        if running is not None:
            with RemoteController(profile=profile) as rc:
                rows.append({"profile": profile, "engines": len(rc), "pid": running.pid, "host": running.host})
    if options.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print("no cluster runs; `ipcluster start` starts one")
    for row in [] if options.json else rows:
        engines = f"{count(row['engines'], 'engine'):<12}"
        print(f"{row['profile']:<20} {engines} controller pid {row['pid']} on {row['host']}")
    return 0


def _status(options: argparse.Namespace, config: Config) -> int:
    from ipkernel_ext.launcher import adopt
    from ipkernel_ext.remote import RemoteController

    if adopt(Place.of_profile(options.profile)):
        print("its supervisor had been killed; it has a new one")
    with RemoteController(profile=options.profile) as rc:
        status = rc.status()
    controller = status["controller"]
    connected = sum(client["connected"] for client in status["clients"])
    print(f"controller pid {controller['pid']} on {controller['host']}, {connected} clients")
    for engine in status["engines"]:
        queue = status["queue"].get(engine.id, {"queued": 0, "running": 0, "done": 0})
        where = f"pid {engine.pid} on {engine.host}" if engine.pid else "not back since the controller was restarted"
        print(
            f"  [{engine.id}] {where}, {engine.state}: "
            f"{queue['running']} running, {queue['queued']} queued, {queue['done']} done"
        )
    print(f"{status['queue']['unassigned']} tasks wait for an engine")
    return 0


def _scale(options: argparse.Namespace, config: Config) -> int:
    from ipkernel_ext.launcher import adopt
    from ipkernel_ext.remote import RemoteController

    adopt(Place.of_profile(options.profile))
    with RemoteController(profile=options.profile) as rc:
        rc.cluster.scale(options.n, settings.cluster_settings(config).start_timeout)
        print(count(len(rc), "engine"))
    return 0


def _kubernetes(options: argparse.Namespace, config: Config) -> int:
    from ipkernel_ext.config import private
    from ipkernel_ext.launchers.kubernetes import manifests

    for name in ("image", "namespace"):
        if getattr(options, name) is not None:
            config.ParallelKubernetes[name] = getattr(options, name)
    if options.n is not None:
        config.ParallelCluster.n = options.n
    text = manifests(settings.settings_of(config), keys.make())
    if options.output is None:
        print(text, end="")
    else:
        private.write(Path(options.output).expanduser(), text.encode())
    return 0


def _action(module: str, name: str) -> Callable[[argparse.Namespace, Config], int]:
    """An action of another module, imported when it is used."""

    def do(options: argparse.Namespace, config: Config) -> int:
        chosen: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), name)
        return chosen(options)

    return do


_PROGRAMS = {"ipcontroller": ipcontroller, "ipengine": ipengine, "ipcluster": ipcluster}

if __name__ == "__main__":
    _PROGRAMS[sys.argv[1]](sys.argv[2:])
