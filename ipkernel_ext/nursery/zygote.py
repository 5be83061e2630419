"""The zygote: has imported what engines need, built their shell and run one cell, and forks itself on request.

What it imports it imports when it knows the engines' module search path. One thread and one socket
to the agent; no ZeroMQ context, so that a child inherits no lock and no
connection of anybody. It forks twice, so that the agent, which is the subreaper of all below it,
becomes the engine's parent. It does not serve, supervise or decide anything.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import socket
import sys
import traceback
from pathlib import Path

from ipkernel_ext.config.cores import THREAD_LIMITS
from ipkernel_ext.nursery.children import LINK
from ipkernel_ext.nursery.orders import EngineOrders, EngineSetup, first_line, set_up
from ipkernel_ext.nursery.owner import out_of_the_way

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipkernel_ext.nursery.engine import Parts

REQUEST = 65536  # bytes, at most
GPU = "/dev/nvidia", "/dev/kfd", "/dev/dri"


class CannotFork(Exception):
    """Forking this process would break its children; the message says why."""


def main() -> None:
    """Entry of the zygote's process."""
    gc.disable()  # nothing made now is garbage, and what is frozen below stays shared with the children
    setup: EngineSetup = first_line()
    Path("/proc/self/comm").write_text("zygote")
    set_up(setup)
    link = socket.socket(fileno=LINK)
    threads = {name: os.environ[name] for name in THREAD_LIMITS if name in os.environ} | setup["threads"]
    os.environ.update(dict.fromkeys(threads, "1"))  # a library that starts threads cannot be forked
    try:
        parts, cannot_fork = _warm_up(setup)
    except ImportError as error:
        link.send(json.dumps({"cannot_import": str(error)}).encode())
        return
    os.environ.update(threads)
    link.send(json.dumps({"cannot_fork": cannot_fork}).encode())
    while True:
        request, descriptors, _, _ = socket.recv_fds(link, REQUEST, 3)
        if not request:
            return
        orders: EngineOrders = json.loads(request)
        try:
            _check_can_fork()
            pid = _fork_twice()
        except (CannotFork, OSError) as error:
            link.send(json.dumps({"error": str(error)}).encode())
        else:
            if pid == 0:
                link.close()
                _become_engine(parts, setup, orders, *descriptors)
            link.send(json.dumps({"pid": pid}).encode())
        for descriptor in descriptors:
            os.close(descriptor)


def _warm_up(setup: EngineSetup) -> tuple[Parts, str]:
    """Do all that engines would do alike; and why forking is not safe afterwards, or ""."""
    from ipkernel_ext.config.resolved import EngineSettings
    from ipkernel_ext.nursery.engine import build

    trouble = _preload(setup["preload"])
    parts = build(EngineSettings(**setup["settings"]))
    parts.shell.warm_up()
    gc.freeze()
    return parts, trouble


def _preload(modules: list[str]) -> str:
    """Import them; why forking is not safe afterwards, or ""."""
    trouble = ""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ImportError(f"preload: {name} cannot be imported: {type(error).__name__}: {error}") from error
        try:
            _check_can_fork()
        except CannotFork as error:
            trouble = trouble or f"{name} {error}"
    return trouble


def _check_can_fork() -> None:
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise CannotFork(f"has started {threads - 1} threads")
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith(GPU):
            raise CannotFork(f"has opened the device {target}")


def _fork_twice() -> int:
    """Fork a grandchild that the agent adopts: its pid here, 0 in it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            grandchild = os.fork()
        except OSError:
            os._exit(1)
        if grandchild == 0:
            os.close(reader)
            os.close(writer)
            return 0
        os.write(writer, str(grandchild).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        pid = answer.read()
    os.waitpid(child, 0)
    if not pid:
        raise OSError("the system does not allow another process")
    return int(pid)


def _become_engine(
    parts: Parts, setup: EngineSetup, orders: EngineOrders, log: int, words: int, owner: int | None = None
) -> None:
    """Serve, and never return."""
    from ipkernel_ext.nursery.engine import serve_agent

    try:
        os.setsid()
        for number in (1, 2):
            os.dup2(log, number)
        os.close(log)
        if owner is not None:
            owner = out_of_the_way(owner)
        _raise_thread_limits()
        _own_randomness()
        gc.enable()
        serve_agent(parts, setup, orders, owner, words)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(1)


def _raise_thread_limits() -> None:
    """Libraries that were loaded with one thread may use what this engine is allowed."""
    limit = os.environ.get("OMP_NUM_THREADS", "1").split(",")[0]
    if limit.isdigit() and int(limit) > 1:
        from threadpoolctl import threadpool_limits

        threadpool_limits(int(limit))


def _own_randomness() -> None:
    """No two engines draw the same numbers."""
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


if __name__ == "__main__":
    main()
