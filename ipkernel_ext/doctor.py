"""``ipcluster doctor``: the usual causes of trouble, each with what to do about it.

A check is a function of facts, which its caller collects: so it can be asked about machines that are
not here. ``examine`` collects the facts of this one. Nothing is changed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import zmq

from ipkernel_ext import __version__, clean
from ipkernel_ext.config import files, profiles, settings
from ipkernel_ext.config.cores import cores
from ipkernel_ext.config.place import SOCKET_PATH, Place, runtime_root
from ipkernel_ext.config.templates import FILES, OURS, file_of
from ipkernel_ext.core.messages import EngineRecord
from ipkernel_ext.errors import ParallelError
from ipkernel_ext.remote import RemoteController
from ipkernel_ext.units import count

PACKAGE = "ipkernel_ext"
COMMANDS = ("ipcluster", "ipcontroller", "ipengine")
TIMEOUT = 5.0  # seconds that a controller has to answer
CONNECTIONS = 2  # of an engine, with the controller
RESERVE = 64  # descriptors that a process needs besides
LITTLE = 64 * 2**20  # bytes free below which a file system is as good as full


class Finding(NamedTuple):
    """What a check found."""

    check: str
    ok: bool
    text: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        return f"{'ok' if self.ok else 'problem':<8} {self.check}: {self.text}{advice}"


# ---------------------------------------------------------------- checks, of facts


def commands(scripts: Mapping[str, tuple[Path, str]], prefix: Path, others: Iterable[str]) -> Iterator[Finding]:
    """Whose are the commands on the PATH? Another package has commands of the same names.

    Parameters
    ----------
    scripts
        By command that is on the PATH: its file and the text of it.
    prefix : Path
        Directory of the Python that runs this.
    others
        Other packages installed here that bring commands of these names.
    """
    always = f"`{sys.executable} -m {PACKAGE}.commands ipcluster` is ours in any case"
    for name in COMMANDS:
        if name not in scripts:
            yield Finding("commands", True, f"{name} is not on the PATH", always)
            continue
        path, text = scripts[name]
        imported = re.search(r"^\s*(?:from|import) (?!sys\b|re\b)(\w+)", text, re.MULTILINE)
        owner = imported[1] if imported else "an unknown package"
        python = re.search(r"/\S*python[\d.]*", text)
        if owner != PACKAGE:
            yield Finding("commands", False, f"{path} belongs to {owner}, not to {PACKAGE}", always)
        elif python is not None and Path(python[0]).parent != prefix:
            yield Finding(
                "commands", False, f"{path} runs {python[0]}, this is another Python", "activate one environment"
            )
        else:
            yield Finding("commands", True, f"{path} is ours")
    for other in others:
        advice = f"whichever was installed last has them; install {PACKAGE} again, or keep them in two environments"
        yield Finding("commands", False, f"{other} is installed here and brings the same commands", advice)


def stale(found: clean.Found) -> Finding:
    """Did clusters that are gone leave anything?"""
    if found.orphans:
        pids = ", ".join(str(process.pid) for process in found.orphans)
        return Finding(
            "stale files", False, f"processes of clusters that are gone: {pids}", "`ipcluster clean --kill` ends them"
        )
    if found.stale:
        shown = ", ".join(map(str, found.stale[:3])) + (", …" if len(found.stale) > 3 else "")
        return Finding(
            "stale files", False, f"{len(found.stale)} left behind: {shown}", "`ipcluster clean` removes them"
        )
    return Finding("stale files", True, "none")


def connection_file(path: Path, problem: str | None, engines: int | None) -> Finding:
    """Does the controller answer that the connection file leads to?

    Parameters
    ----------
    problem : str or None
        What connecting came to.
    engines : int or None
        How many engines the controller told of. None: there is no connection file.
    """
    if problem is not None:
        return Finding("connection", False, problem, f"if its cluster is gone, `ipcluster clean` removes {path}")
    if engines is None:
        return Finding("connection", True, "no cluster of this profile runs")
    return Finding("connection", True, f"the controller answers, with {count(engines, 'engine')}")


class Entry(NamedTuple):
    """Owner and mode of a file, and the bits that must not be in that."""

    path: Path
    uid: int
    mode: int
    never: int


def permissions(entries: Sequence[Entry], uid: int) -> Iterator[Finding]:
    """Is what is this user's alone this user's alone?"""
    good = True
    for path, owner, mode, never in entries:
        if owner != uid:
            good = False
            yield Finding(
                "permissions", False, f"{path} belongs to uid {owner}, you are {uid}", f"`chown -R {uid} {path}`"
            )
        elif mode & never:
            good = False
            what = "changed" if never == 0o022 else "used"
            letters = "go-w" if never == 0o022 else "go-rwx"
            yield Finding("permissions", False, f"{path} can be {what} by others", f"`chmod {letters} {path}`")
    if good:
        what = f"{len(entries)} files and directories are yours alone" if entries else "no files are there yet"
        yield Finding("permissions", True, what)


def temporary(directory: Path, writable: bool, fallback_writable: bool) -> Finding:
    """Can the socket be made? Its path must be short."""
    length = len(os.fsencode(directory))
    if length > SOCKET_PATH:
        text = f"{directory} is too long for a unix socket ({length} bytes of {SOCKET_PATH})"
        if fallback_writable:
            return Finding("temporary directory", True, f"{text}: /tmp is used")
        return Finding("temporary directory", False, f"{text}, /tmp is not writable", "set TMPDIR to a shorter one")
    if not writable:
        return Finding("temporary directory", False, f"{directory} is not writable", "set TMPDIR to one that is")
    return Finding("temporary directory", True, str(directory))


def descriptors(soft: int, hard: int, engines: int) -> Finding:
    """May a controller have as many open files as its engines need?"""
    wanted = CONNECTIONS * engines + RESERVE
    text = f"{soft} open files allowed, {count(engines, 'engine')} {'needs' if engines == 1 else 'need'} about {wanted}"
    if soft < 0 or wanted <= soft:  # -1 is no limit
        return Finding("open files", True, text)
    advice = f"`ulimit -n {wanted}` before starting"
    if 0 <= hard < wanted:
        advice = f"at most {hard} are allowed here: ask for a higher hard limit, or start fewer engines"
    return Finding("open files", False, text, advice)


def space(free: Mapping[str, int]) -> Iterator[Finding]:
    """Is there room? ``free``: bytes by directory."""
    for directory, left in free.items():
        text = f"{directory} has {left / 2**20:,.0f} MB free"
        if left < LITTLE:
            yield Finding("space", False, text, "make room: logs, sockets and large objects need some")
        else:
            yield Finding("space", True, text)


def versions(installed: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[Finding]:
    """Are the packages here new enough? ``wanted``: the least version of each."""
    listed = ", ".join(f"{name} {version}" for name, version in installed.items())
    good = True
    for name, least in wanted.items():
        have = installed.get(name)
        if have is None or _numbers(have) < _numbers(least):
            good = False
            text = f"{name} {have or 'is not there'}, and {least} or newer is needed"
            yield Finding("versions", False, text, f"`{sys.executable} -m pip install '{name}>={least}'`")
    if good:
        yield Finding("versions", True, listed)


def skew(engines: Sequence[EngineRecord], python: str) -> Iterator[Finding]:
    """Do engines and this client run the same Python? Functions go between them as byte code."""
    other = [engine for engine in engines if engine.python.split(".")[:2] != python.split(".")[:2]]
    for engine in other:
        text = f"engine {engine.id} on {engine.host} runs Python {engine.python}, this is {python}"
        yield Finding("skew", False, text, "start engines and client in environments with the same Python")
    if engines and not other:
        yield Finding("skew", True, f"engines run Python {python}, as this does")


def config_file(path: Path, problem: str | None, classes: Iterable[str]) -> Iterator[Finding]:
    """Does a config file load, and is what it sets read from it?

    Parameters
    ----------
    classes
        Classes of ours that it sets options of.
    """
    if problem is not None:
        yield Finding("configuration", False, problem, "correct it; docs/settings.md has all options")
        return
    read = {kind.__name__ for kind in FILES[path.name]}
    strays = [kind for kind in settings.CLASSES if kind.__name__ in classes and kind.__name__ not in read]
    for kind in strays:
        text = f"{path} sets options of {kind.__name__}, where not every command looks for them"
        yield Finding("configuration", False, text, f"move them to {file_of(kind)}")
    if not strays:
        yield Finding("configuration", True, f"{path} loads")


def processors(there: int, affinity: int, usable: int) -> Finding:
    """How many engines is one per core, and why?"""
    why = [f"the machine has {there}"]
    if affinity < there:
        why.append(f"this process may use {affinity} of them")
    if usable < affinity:
        why.append(f"a cgroup's quota allows the time of {usable}")
    return Finding("cores", True, f"{count(usable, 'engine')} by default: {', '.join(why)}")


# ---------------------------------------------------------------- facts, of this machine


def examine(profile: str | None) -> Iterator[Finding]:
    """Check everything here, for a profile's cluster."""
    place = Place.of_profile(profile)
    yield from commands(_scripts(), Path(sys.executable).parent, _others())
    wanted = _wanted()
    yield from versions(_installed(wanted), wanted)
    yield from _config_files(profile)
    yield processors(os.cpu_count() or 1, _affinity(), cores())
    yield descriptors(*resource.getrlimit(resource.RLIMIT_NOFILE), _engines_wanted(profile))
    directory = Path(tempfile.gettempdir())
    yield temporary(directory, os.access(directory, os.W_OK), os.access("/tmp", os.W_OK))
    yield from space(_free("/dev/shm", str(directory), str(profiles.ipython_dir())))
    yield from permissions(list(_entries(place)), os.getuid())
    yield stale(clean.look())
    yield from _running(place)


def _running(place: Place) -> Iterator[Finding]:
    path = place.connection("client")
    if not os.path.lexists(path):
        yield connection_file(path, None, None)
        return
    try:
        with RemoteController(profile=place.profile, timeout=TIMEOUT) as rc:
            engines = rc.known
    except ParallelError as error:
        yield connection_file(path, str(error), None)
        return
    yield connection_file(path, None, len(engines))
    yield from skew(engines, platform.python_version())


def _scripts() -> dict[str, tuple[Path, str]]:
    found = {name: shutil.which(name) for name in COMMANDS}
    return {name: (Path(path), Path(path).read_text(errors="replace")) for name, path in found.items() if path}


def _others() -> set[str]:
    """Other packages in this environment that bring commands of our names."""
    points = importlib.metadata.entry_points(group="console_scripts")
    owners = {point.dist.name for point in points if point.name in COMMANDS and point.dist is not None}
    return {owner for owner in owners if owner.replace("-", "_").lower() != PACKAGE}


def _wanted() -> dict[str, str]:
    """The least version of Python and of each package that this one needs; empty where it is not installed."""
    try:
        ours = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return {}
    lines = [f"Python{ours.metadata['Requires-Python'] or ''}", *(ours.requires or ())]
    needed = (re.fullmatch(r"([\w.-]+)>=([\d.]+)", line) for line in lines)
    return {found[1]: found[2] for found in needed if found}


def _installed(names: Iterable[str]) -> dict[str, str]:
    found = {PACKAGE: __version__, "Python": platform.python_version(), "libzmq": zmq.zmq_version()}
    for name in names:
        try:
            if name not in found:
                found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _config_files(profile: str | None) -> Iterator[Finding]:
    for file in OURS:
        path = profiles.profile_dir(profile) / file
        if not path.exists():
            continue
        try:
            config = files.load(profile, file)
        except ValueError as error:
            yield from config_file(path, str(error), ())
        else:
            yield from config_file(path, None, list(config))


def _engines_wanted(profile: str | None) -> int:
    try:
        return settings.cluster_settings(files.load(profile, *OURS)).number
    except ValueError:
        return cores()


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _free(*directories: str) -> dict[str, int]:
    return {directory: shutil.disk_usage(directory).free for directory in directories if os.path.isdir(directory)}


def _entries(place: Place) -> Iterator[Entry]:
    """What must be this user's: the profile unchangeable by others, what a cluster keeps unreadable too."""
    profile = profiles.profile_dir(place.profile)
    private = [place.connections, *(place.connection(role) for role in clean.ROLES), runtime_root(), place.directory]
    for path, never in [(profile, 0o022), *((path, 0o077) for path in private)]:
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        yield Entry(path, status.st_uid, status.st_mode & 0o777, never)
