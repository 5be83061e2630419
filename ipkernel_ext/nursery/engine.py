"""An engine as a process: what is built before a controller is known, and what makes this process serve one.

``python -m ipkernel_ext.nursery.engine`` is an engine of an agent; its orders come on standard input.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import logging
import os
import signal
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from ipkernel_ext import versions
from ipkernel_ext.config import connection, gpus, logs
from ipkernel_ext.config.resolved import EngineSettings
from ipkernel_ext.core.messages import EngineRecord
from ipkernel_ext.errors import EngineStartError
from ipkernel_ext.execution.descriptors import Descriptors
from ipkernel_ext.execution.interrupt import Interrupter
from ipkernel_ext.execution.output import OutputBuffer
from ipkernel_ext.execution.runner import Runner
from ipkernel_ext.execution.shell import EngineShell
from ipkernel_ext.execution.startup import start_up
from ipkernel_ext.net.edge import Locate
from ipkernel_ext.net.engine_server import GRACE, OWNER_ENDED, EngineServer, stop_on_signals
from ipkernel_ext.nursery import mpi
from ipkernel_ext.nursery.children import LINK
from ipkernel_ext.nursery.orders import EngineOrders, EngineSetup, first_line, set_up
from ipkernel_ext.nursery.owner import ending_with, take_owner


class Parts(NamedTuple):
    """Where user code is to run. Building them is most of an engine's start."""

    output: OutputBuffer
    shell: EngineShell
    settings: EngineSettings


def build(settings: EngineSettings) -> Parts:
    """Build the parts and make them this process's own."""
    versions.here(search=True)  # found out once for all that are forked
    output = OutputBuffer(settings.max_output)
    shell = EngineShell(output)
    shell.input_timeout = settings.input_timeout
    shell.become_global()
    return Parts(output, shell, settings)


def record_of(
    orders: EngineOrders | None = None, rank: mpi.Rank | None = None, tags: Sequence[str] = ()
) -> EngineRecord:
    """What this process says of itself as an engine; without an agent's orders, as one of its own."""
    record = EngineRecord(
        boot=orders["boot"] if orders else uuid.uuid4().hex[:12],
        host=socket.gethostname(),
        pid=os.getpid(),
        **versions.here(search=True)._asdict(),
        id=orders["number"] if orders else -1,
        agent=orders["agent"] if orders else None,
        replaces=orders["replaces"] if orders else None,
        log=orders["log"] if orders else "",
        tags=list(dict.fromkeys([*tags, *(["gpu"] if gpus.visible(os.environ) else [])])),
    )
    return record if rank is None else structs.replace(record, **rank._asdict(), parent=mpi.starter())


def serve_agent(parts: Parts, setup: EngineSetup, orders: EngineOrders, owner: int | None, words: int) -> None:
    """Serve as an engine of an agent, and end this process."""
    Path("/proc/self/comm").write_text(f"engine {orders['number']}")

    if orders["gpus"]:
        os.environ[gpus.VARIABLE] = ",".join(orders["gpus"])
    locate = connection.for_engines(Path(setup["connection"]), setup["away"])
    record = record_of(orders, tags=setup["settings"]["tags"])
    serve(parts, record, locate, Path(setup["begun"]), owner, words=words, outpost=setup["outpost"])


def serve(
    parts: Parts,
    record: EngineRecord,
    locate: Locate,
    begun: Path,
    owner: int | None,
    *,
    words: int | None = None,
    level: int = logging.INFO,
    tells: bool = False,
    outpost: bool = False,
) -> None:
    """Serve until told to stop, and end this process.

    What user code and its child processes write goes to clients; our log, and what is said of a crash,
    goes where standard error led before.

    Parameters
    ----------
    begun : Path
        Directory of begun files, where it exists: the controller is on another host otherwise.
    owner : int or None
        A descriptor whose end of file means that this engine is to end.
    words : int or None
        See ``Descriptors``.
    level : int
        What is worth a line in the log.
    tells : bool
        Say on standard output when it has joined.
    outpost : bool
        See ``EngineServer``.
    """
    _start_up(parts, owner)
    descriptors = Descriptors(parts.output, words)
    faulthandler.enable(descriptors.log, all_threads=False)
    log = _log(descriptors.log, level)
    log.info("an engine begins, pid %d", os.getpid())
    interrupter = Interrupter()
    runner = Runner(parts.shell, parts.output, interrupter)
    files = begun if begun.is_dir() else None
    server = EngineServer(record, locate, runner, parts.output, descriptors, interrupter, files, log, owner, outpost)
    if tells:
        server.on_joined = functools.partial(_tell, descriptors.out)
    interrupter.install()
    if owner is None:
        interrupter.otherwise = lambda: server.stop("Ctrl-C")
    stop_on_signals(server)
    reason = server.run()
    if server.failed:
        log.error("this engine cannot join: %s", reason)
    server.close()
    descriptors.close()
    if reason == OWNER_ENDED and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # nobody is left who would end what user code started
    mpi.leave(GRACE)
    os._exit(int(server.failed))  # user code's threads and exit handlers do not hold the engine up


def _start_up(parts: Parts, owner: int | None) -> None:
    """Run the profile's code; an engine on which it fails is none."""
    with open(2, "w", buffering=1, errors="backslashreplace", closefd=False) as log, ending_with(owner):
        try:
            start_up(parts.shell, parts.settings.exec_files, parts.settings.exec_lines, log)
        except EngineStartError as error:
            log.write(f"{error}\n")
            os._exit(1)


def _tell(descriptor: int, id: int, url: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens
        os.write(descriptor, f"engine {id} has joined the controller at {url}\n".encode())


def _log(descriptor: int, level: int) -> logging.Logger:
    """Our log. The root logger is left to user code: its records go to ``sys.stderr``, and so to the client."""
    handler = logging.StreamHandler(os.fdopen(descriptor, "w", 1, errors="backslashreplace", closefd=False))
    handler.setFormatter(logging.Formatter(logs.FORMAT))
    ours = logging.getLogger("ipkernel_ext")
    ours.addHandler(handler)
    ours.setLevel(level)
    ours.propagate = False
    return logging.getLogger("ipkernel_ext.engine")


def main() -> None:
    """Entry of an engine that was not forked."""
    given = first_line()
    setup: EngineSetup = given["setup"]
    owner = take_owner() if setup["owned"] else None
    set_up(setup)
    os.environ.update(setup["threads"])
    serve_agent(build(EngineSettings(**setup["settings"])), setup, given["orders"], owner, LINK)


if __name__ == "__main__":
    main()
