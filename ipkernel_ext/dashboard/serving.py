"""The dashboard as a process: listens, says where, and serves until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence

import uvicorn

from ipkernel_ext.dashboard import access
from ipkernel_ext.dashboard.app import application
from ipkernel_ext.dashboard.looking import Looker

GRACE = 1  # seconds that requests under way have when it ends


class Dashboard:
    """A dashboard that listens, and serves while ``serve`` runs.

    Parameters
    ----------
    looker
        Asks the cluster.
    title
        What the page is called.
    ip, port
        Where to listen; port 0 is any free one.
    allowed
        Names of hosts, apart from this one's, by which requests may ask for it.

    Raises
    ------
    OSError
        The port is taken, or the address is not this host's.
    ValueError
        What is allowed is no name.
    """

    def __init__(
        self, looker: Looker, title: str, *, ip: str = "127.0.0.1", port: int = 0, allowed: Sequence[str] = ()
    ) -> None:
        self.token = secrets.token_urlsafe(24)
        door = access.Door(self.token, access.names(ip, allowed, socket.gethostname()))
        app = application(looker, door, title)
        self._socket = _listen(ip, port)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=GRACE
        )
        self._server = _Server(config, app.state.end)
        name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(ip, ip)
        bracketed = f"[{name}]" if ":" in name else name
        self.url = f"http://{bracketed}:{self._socket.getsockname()[1]}/?token={self.token}"

    def serve(self) -> None:
        """Serve until ``stop``, or a signal that ends the process."""
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has ended in good order before it raises that
            asyncio.run(self._server.serve(sockets=[self._socket]))

    def stop(self) -> None:
        """End ``serve``; from any thread."""
        self._server.should_exit = True

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


class _Server(uvicorn.Server):
    """Ends pages' streams first: else it would wait for pages to close."""

    def __init__(self, config: uvicorn.Config, end: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._end = end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in good order."""
        await self._end()
        await super().shutdown(sockets)


def _listen(ip: str, port: int) -> socket.socket:
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(ip, port, type=socket.SOCK_STREAM)
        listening = socket.create_server(address[:2], family=family)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise OSError(error.errno, why, f"{ip}:{port}") from None
    listening.set_inheritable(False)
    return listening
