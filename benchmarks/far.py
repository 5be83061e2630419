"""What runs inside the hosts of ``benchmarks.hosts``, some of it on the peers' Python.

Each says a line when it is ready, does something for each line that it is told, and ends when there is none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

PIECE = 2**18  # bytes
READY = "ready"


def say(text: str) -> None:
    """To whoever started this."""
    print(text, flush=True)


# ---------------------------------------------------------------- bare connections


def _children(port: int, addresses: Sequence[str]) -> list[socket.socket]:
    return [socket.create_connection((address, port)) for address in addresses]


def source(port: int, size: int, addresses: Sequence[str]) -> None:
    """Send an array to these, and wait until it is everywhere."""
    content = os.urandom(PIECE) * (size // PIECE)
    children = _children(port, addresses)
    say(READY)
    for _ in sys.stdin:
        begun = time.perf_counter()
        view = memoryview(content)
        for begin in range(0, size, PIECE):
            for child in children:
                child.sendall(view[begin : begin + PIECE])
        for child in children:
            child.recv(1)
        say(str(time.perf_counter() - begun))


def relay(port: int, size: int, addresses: Sequence[str]) -> None:
    """Keep what comes, pass it on as it comes, and say upwards when it is here and below."""
    children = _children(port, addresses)
    with socket.create_server(("", port)) as server:
        say(READY)
        above, _ = server.accept()
    content = bytearray(size)
    while True:
        view, here = memoryview(content), 0
        while here < size:
            count = above.recv_into(view[here : here + PIECE])
            if not count:
                return
            for child in children:
                child.sendall(view[here : here + count])
            here += count
        for child in children:
            child.recv(1)
        above.sendall(b"!")


# ---------------------------------------------------------------- clusters


def serve(path: Callable[[], Path], wait: Callable[[], object], push: Callable[[], object]) -> None:
    """A client: tell how engines join, wait for them, and push as often as it is told to."""
    for line in sys.stdin:
        match line.strip():
            case "file":
                say(path().read_text().replace("\n", " "))
            case "wait":
                wait()
                say(READY)
            case _:
                begun = time.perf_counter()
                push()
                say(str(time.perf_counter() - begun))


@contextlib.contextmanager
def running(command: Sequence[str], times: int = 1) -> Iterator[None]:
    """Processes that end with the block."""
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(times)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def existing(path: Path) -> Path:
    """A file, once it is there."""
    until = time.monotonic() + 60
    while not path.exists() or not path.read_text().rstrip().endswith("}"):
        if time.monotonic() > until:
            raise TimeoutError(f"{path} does not come")
        time.sleep(0.05)
    return path


def array_of(size: int) -> Any:
    """Of so many bytes, which cannot be made smaller."""
    import numpy as np

    return np.frombuffer(os.urandom(PIECE) * (size // PIECE), np.uint8)


def ours(ip: str, size: int, engines: int) -> None:
    """A controller and a client of ours."""
    from ipkernel_ext import RemoteController

    array = array_of(size)
    profile = Path(os.environ["IPYTHONDIR"]) / "profile_default" / "security" / "ipkernel_ext"
    with running([sys.executable, "-m", "ipkernel_ext.commands", "ipcontroller", f"--ip={ip}"]):
        existing(profile / "client.json")
        with RemoteController() as rc:
            say(READY)
            serve(
                lambda: existing(profile / "engine.json"),
                lambda: rc.wait_for_engines(engines, 120),
                lambda: rc.push({"array": array}),
            )


def ipyparallel(ip: str, size: int, engines: int, way: str) -> None:
    """A controller and a client of ipyparallel."""
    import ipyparallel

    array = array_of(size)
    profile = Path(os.environ["IPYTHONDIR"]) / "profile_default" / "security"
    options = [f"--ip={ip}", f"--location={ip}", "--log-level=ERROR", "--HeartMonitor.max_heartmonitor_misses=1000"]
    with running([sys.executable, "-m", "ipyparallel.controller", *options]):
        rc = ipyparallel.Client(str(existing(profile / "ipcontroller-client.json")), timeout=60)
        say(READY)
        views: list[Any] = []

        def wait() -> None:
            rc.wait_for_engines(engines, timeout=120, interactive=False)
            views.append(rc[:] if way == "direct" else rc.broadcast_view())

        serve(
            lambda: existing(profile / "ipcontroller-engine.json"),
            wait,
            lambda: views[0].push({"array": array}, block=True),
        )
        rc.close()


def run_engines(command: Sequence[str], count: int, each: bool) -> None:
    """Engines, which join by the file whose content they are told. ``each``: a command is one engine."""
    say(READY)
    file = Path(tempfile.gettempdir()) / "engine.json"
    content = sys.stdin.readline()
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(content)
    with running([sys.executable, "-m", *command, f"--file={file}"], count if each else 1):
        say(READY)
        sys.stdin.read()


def main() -> None:
    """Do what the first argument says."""
    what, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as home:
        os.environ["IPYTHONDIR"] = home
        match what:
            case "source":
                source(int(rest[0]), int(rest[1]), rest[2:])
            case "relay":
                relay(int(rest[0]), int(rest[1]), rest[2:])
            case "ours":
                ours(rest[0], int(rest[1]), int(rest[2]))
            case "ipyparallel":
                ipyparallel(rest[0], int(rest[1]), int(rest[2]), rest[3])
            case "ours-engines":
                run_engines(["ipkernel_ext.commands", "ipengine", "-n", rest[0]], int(rest[0]), False)
            case "ipyparallel-engines":
                run_engines(["ipyparallel.engine", "--IPEngine.timeout=120"], int(rest[0]), True)


if __name__ == "__main__":
    main()
