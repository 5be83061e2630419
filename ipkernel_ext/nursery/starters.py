"""How the agent starts its children: a controller, a zygote, and engines by fork or by spawn.

Two ways to start an engine, one shape: ``start(orders)`` gives a ``Child``. Imports little, because the
agent calls it before it imports anything that takes time.
"""

from __future__ import annotations

import json
import os
import socket

from ipkernel_ext.nursery import orders as o
from ipkernel_ext.nursery.children import Child, open_log, open_words, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ANSWER = 10.0  # seconds a zygote has to fork


class CannotFork(Exception):
    """The zygote does not fork; the message says why."""


class Controller:
    """A controller that was started.

    Attributes
    ----------
    ready : int
        A descriptor where one byte comes when it listens, or the end of file when it does not.
    """

    def __init__(self, orders: o.Orders) -> None:
        assert orders["controller"] is not None
        self.ready, writer = os.pipe()
        given: o.ControllerOrders = {
            "directory": orders["directory"],
            "profile": orders["profile"],
            "settings": orders["controller"],
            "owned": orders["owned"],
        }
        log = os.path.join(orders["logs"], "controller.log")
        try:
            self.child = spawn(
                "ipkernel_ext.nursery.controller",
                log,
                os.environ,
                o.write(given),
                owned=orders["owned"],
                link=writer,
            )
        finally:
            os.close(writer)

    def listens(self) -> bool:
        """Whether it does, once ``ready`` is readable; gives that descriptor back."""
        byte = os.read(self.ready, 1)
        os.close(self.ready)
        return bool(byte)


class Spawner:
    """Starts each engine as a process of its own."""

    def __init__(self, orders: o.Orders) -> None:
        self._setup = orders["setup"]

    def start(self, orders: o.EngineOrders) -> Child:
        """Start an engine."""
        line = o.write({"setup": self._setup, "orders": orders})
        owned = self._setup["owned"]
        words = open_words()
        try:
            return spawn(
                "ipkernel_ext.nursery.engine", orders["log"], os.environ, line, owned=owned, link=words, words=words
            )
        except BaseException:
            os.close(words)
            raise


class Forker:
    """Starts engines by having a zygote fork itself.

    Attributes
    ----------
    zygote : Child
    warm : bool
        Whether it has said that it can fork.
    """

    def __init__(self, orders: o.Orders) -> None:
        self._owned = orders["setup"]["owned"]
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.settimeout(ANSWER)
        log = os.path.join(orders["logs"], "zygote.log")
        with theirs:
            self.zygote = spawn(
                "ipkernel_ext.nursery.zygote", log, os.environ, o.write(orders["setup"]), link=theirs.fileno()
            )
        self.warm = False

    def fileno(self) -> int:
        """Readable when the zygote is warm, or gone."""
        return self._link.fileno()

    def hear(self) -> None:
        """Take what the zygote says of itself.

        Raises
        ------
        CannotFork
            It cannot: something that it imported must not be forked, or it has ended.
        ImportError
            A module to preload cannot be imported.
        """
        said = self._receive()
        if "cannot_import" in said:
            raise ImportError(said["cannot_import"])
        if said["cannot_fork"]:
            raise CannotFork(said["cannot_fork"])
        self.warm = True

    def start(self, orders: o.EngineOrders) -> Child:
        """Fork an engine.

        Raises
        ------
        CannotFork
        """
        log = open_log(orders["log"])
        since = os.fstat(log).st_size
        words = open_words()
        reader, writer = os.pipe() if self._owned else (None, None)
        given = [log, words] if reader is None else [log, words, reader]
        try:
            socket.send_fds(self._link, [json.dumps(orders).encode()], given)
            said = self._receive()
            if "error" in said:
                raise CannotFork(said["error"])
            return Child(said["pid"], orders["log"], writer, os.dup(words), since)
        except (OSError, CannotFork) as error:
            if writer is not None:
                os.close(writer)
            raise CannotFork(str(error)) from error
        finally:
            for descriptor in given:
                os.close(descriptor)

    def _receive(self) -> dict[str, Any]:
        try:
            said = self._link.recv(65536)
        except OSError as error:
            raise CannotFork(f"the zygote does not answer: {error}") from error
        if not said:
            raise CannotFork("the zygote has ended")
        answer: dict[str, Any] = json.loads(said)
        return answer

    def close(self) -> None:
        """Let the zygote end."""
        self._link.close()
