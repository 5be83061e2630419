"""An engine as a process: what is built before a controller is known, and what makes this process serve one."""

from __future__ import annotations

import logging
import os
import socket
import sys
import uuid
from pathlib import Path
from typing import NamedTuple

from ipkernel_ext.config.settings import EngineSettings
from ipkernel_ext.core.messages import EngineRecord
from ipkernel_ext.execution.interrupt import Interrupter
from ipkernel_ext.execution.output import OutputBuffer
from ipkernel_ext.execution.runner import Runner
from ipkernel_ext.execution.shell import EngineShell
from ipkernel_ext.net.edge import Locate
from ipkernel_ext.net.engine_server import EngineServer, stop_on_signals


class Parts(NamedTuple):
    """Where user code is to run. Building them is most of an engine's start."""

    output: OutputBuffer
    shell: EngineShell


def build(settings: EngineSettings) -> Parts:
    """Build the parts and make them this process's own."""
    output = OutputBuffer(settings.max_output)
    shell = EngineShell(output)
    shell.become_global()
    return Parts(output, shell)


def record_of(boot: str = "", *, agent: str | None = None, replaces: str | None = None) -> EngineRecord:
    """What this process says of itself as an engine. ``boot``: "" makes a new one."""
    return EngineRecord(
        boot=boot or uuid.uuid4().hex[:12],
        host=socket.gethostname(),
        pid=os.getpid(),
        python=".".join(map(str, sys.version_info[:3])),
        agent=agent,
        replaces=replaces,
    )


def serve(
    parts: Parts, record: EngineRecord, locate: Locate, begun: Path, log: logging.Logger, owner: int | None
) -> None:
    """Serve until told to stop, and end this process.

    Parameters
    ----------
    begun : Path
        Directory of begun files, where it exists: the controller is on another host otherwise.
    owner : int or None
        A descriptor whose end of file means that this engine is to end.
    """
    interrupter = Interrupter()
    runner = Runner(parts.shell, parts.output, interrupter)
    files = begun if begun.is_dir() else None
    server = EngineServer(record, locate, runner, parts.output, interrupter, files, log, owner)
    interrupter.install()
    if owner is None:
        interrupter.otherwise = lambda: server.stop("Ctrl-C")
    stop_on_signals(server)
    reason = server.run()
    if server.failed:
        log.error("this engine cannot join: %s", reason)
    server.close()
    sys.stdout.flush()
    os._exit(int(server.failed))  # user code's threads and exit handlers do not hold the engine up
