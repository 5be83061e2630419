"""What runs on a host that is reached by ssh: makes a place there, starts an outpost, and keeps the line to it.

Sent as text to a bare Python 3.11 or newer; so it imports the standard library only. It speaks in
lines of JSON that begin with a mark, since what a user's shell prints comes on the same stream, and
it hears lines of JSON, some followed by bytes. An empty line is a sign of life; when none comes for
long, the line is dead though nobody said so, and the session of ssh is ended: then what uses it knows.
The outpost outlives the line, for as long as it is allowed to be without a controller.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time

MARK = "ipkernel_ext: "
SILENCE = 20.0  # seconds without a sign of life
END = 8.0  # seconds that an outpost has to end
ABOVE = 5  # processes between this one and sshd, at most: shells
UNUSED = 30 * 86400.0  # seconds after which a part of the cache goes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Gone(Exception):
    """The line is dead."""


def say(**answer: Any) -> None:
    """One line."""
    sys.stdout.write(MARK + json.dumps(answer) + "\n")
    sys.stdout.flush()


def hear() -> dict[str, Any]:
    """The next line that says something."""
    while True:
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([0], [], [], SILENCE)
            byte = os.read(0, 1) if ready else b""
            if not byte:
                raise Gone
            line += byte
        if line.strip():
            heard: dict[str, Any] = json.loads(line)
            return heard


def take(size: int, file: Any) -> None:
    """So many bytes, into a file."""
    while size:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            raise Gone
        file.write(part)
        size -= len(part)


def missing(wanted: dict[str, str]) -> list[str]:
    """Those of these distributions that are not here, or too old."""
    from importlib import metadata

    lacking = []
    for name, least in wanted.items():
        try:
            there = metadata.version(name)
        except metadata.PackageNotFoundError:
            there = ""
        if not there or figures(there) < figures(least):
            lacking.append(name)
    return lacking


def figures(version: str) -> list[int]:
    """``9.18.1`` as numbers."""
    found = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
    return found


def cache() -> str:
    """The directory where what was sent is kept, of this user only."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = os.path.join(home, "ipkernel_ext")
    os.makedirs(path, 0o700, exist_ok=True)
    for name in os.listdir(path):
        old = os.path.join(path, name)
        if time.time() - os.stat(old).st_mtime > UNUSED:
            shutil.rmtree(old, ignore_errors=True)
    return path


def unpack(into: str, name: str, size: int) -> None:
    """Put an archive that follows into the cache, at once or not at all."""
    part = tempfile.mkdtemp(prefix=f".{name}.", dir=into)
    try:
        with tempfile.TemporaryFile(dir=into) as file:
            take(size, file)
            file.seek(0)
            with tarfile.open(fileobj=file) as archive:
                if hasattr(tarfile, "data_filter"):
                    archive.extraction_filter = tarfile.data_filter
                archive.extractall(part)
        os.rename(part, os.path.join(into, name))
    except FileExistsError:
        pass  # another one was faster
    except OSError as error:
        if not os.path.isdir(os.path.join(into, name)):
            raise OSError(error.errno, error.strerror, into) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def make_place(directory: str) -> str:
    """A directory for this cluster, which only this user may enter."""
    root = os.path.dirname(directory)
    os.makedirs(root, 0o700, exist_ok=True)
    status = os.lstat(root)
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise OSError(1, "is not a directory of this user alone", root)
    os.makedirs(directory, 0o700, exist_ok=True)
    return directory


def held_by(directory: str) -> int:
    """Process id of the outpost there, if it runs; else 0."""
    import fcntl

    path = os.path.join(directory, "agent.pid")
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return 0
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(file, 20) or b"0")
    finally:
        os.close(file)
    return 0


def start(directory: str, order: dict[str, Any], path: list[str]) -> int:
    """Start an outpost; its pid."""
    orders, socket_path = order["orders"], os.path.join(directory, "controller.sock")
    connection = order["connection"] or {
        "url": f"ipc://{socket_path}",
        "epoch": 1,
        "pid": 0,
        "host": socket.gethostname(),
        "directory": directory,
        "role": "engine",
    }
    orders["setup"]["connection"] = os.path.join(directory, "engine.json")
    for name, content in (("engine.json", connection), ("orders.json", orders)):
        with open(os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(content, file)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH")])]))
    command = [sys.executable, "-m", "ipkernel_ext.nursery.outpost", os.path.join(directory, "orders.json")]
    with open(os.path.join(directory, "outpost.log"), "wb") as log:
        outpost = subprocess.Popen(
            [*command, order["numbers"], "--directory", directory],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=os.path.expanduser("~"),
            start_new_session=True,
        )
    return outpost.pid


def tail(directory: str) -> str:
    """The last lines of what an outpost wrote."""
    said = []
    for name in ("outpost.log", os.path.join("logs", "zygote.log")):
        try:
            with open(os.path.join(directory, name), errors="replace") as log:
                said += [line for line in log.read().splitlines() if line and not line.startswith('{"client"')]
        except OSError:
            pass
    return "\n".join(said[-5:])


def keep(pid: int, directory: str) -> None:
    """Watch the outpost and the line until one of them ends."""
    watched = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(watched, select.POLLIN)
    rest = b""
    while True:
        ready = dict(poll.poll(SILENCE * 1000))
        if watched in ready:
            said = tail(directory)
            shutil.rmtree(directory, ignore_errors=True)
            say(ended=said)
            return
        part = os.read(0, 65536) if 0 in ready else b""
        if not part:
            raise Gone
        rest += part
        while b"\n" in rest:
            line, _, rest = rest.partition(b"\n")
            if line.strip() and json.loads(line).get("stop"):
                end(pid, watched, directory)
                say(stopped=True)
                return


def end(pid: int, watched: int, directory: str) -> None:
    """End the outpost, and what it left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            signal.pidfd_send_signal(watched, number)
        except ProcessLookupError:
            break
        if select.select([watched], [], [], END)[0]:
            break
    shutil.rmtree(directory, ignore_errors=True)


def hang_up() -> None:
    """End the session of ssh that this process is in: it holds connections that lead nowhere."""
    pid = os.getppid()
    for _ in range(ABOVE):
        try:
            with open(f"/proc/{pid}/stat") as status:
                name, _, rest = status.read().partition("(")[2].rpartition(")")
            if name.startswith("sshd"):
                os.kill(pid, signal.SIGTERM)
                return
        except OSError:
            return
        pid = int(rest.split()[1])


def converse() -> None:
    """All that is said, in order."""
    if not sys.platform.startswith("linux"):
        say(error=f"engines there would be on {sys.platform}; over ssh they can be on Linux only")
        return
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wanted = hear()
    root = os.path.join(tempfile.gettempdir(), f"ipkernel_ext-{os.getuid()}")
    directory = os.path.join(root, wanted["place"])
    running = held_by(directory)
    kind = [version, sysconfig.get_platform(), str(sysconfig.get_config_var("SOABI"))]
    lacking = [] if running else missing(wanted["requirements"])
    say(kind=kind, missing=lacking, running=bool(running), host=socket.gethostname())
    path: list[str] = []
    while "archive" in (order := hear()):
        into = cache()
        place = os.path.join(into, order["archive"])
        if os.path.isdir(place):
            os.utime(place)
            say(have=True)
        else:
            say(have=False)
            unpack(into, order["archive"], hear()["size"])
            say(unpacked=True)
        path.append(place)
    make_place(directory)
    if order["forwarded"]:
        link = os.path.join(directory, "controller.sock")
        os.symlink(order["forwarded"], f"{link}.new")  # what ssh made may be in another file system
        os.replace(f"{link}.new", link)
    pid = running or start(directory, order, path)
    say(started=pid)
    keep(pid, directory)


def main() -> None:
    """Entry of this script."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        converse()
    except Gone:
        hang_up()
    except OSError as error:
        say(error=f"{error.filename}: {error.strerror}" if error.filename else str(error))


if __name__ == "__main__":
    main()
