"""A stretch of network between peers and a controller, which can be cut, garbled, slowed and brought to a stand."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

CHUNK = 65536


class Proxy:
    """Passes connections at a port of its own on to another one.

    Parameters
    ----------
    target : str
        Address of the controller, as ``tcp://host:port``.

    Attributes
    ----------
    url : str
        Where peers are to connect.
    accepted : int
        How many connections there were.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.accepted = 0
        self._flows = threading.Event()
        self._flows.set()
        self._open = True
        self._closed = threading.Event()
        self._ends: set[socket.socket] = set()
        self._harm: tuple[str, int, int] | None = None  # what, in which direction, after how many bytes
        self.harmed = threading.Event()
        self.rate: float | None = None  # bytes per second, in each direction of each connection
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    # ------------------------------------------------------------ what can be done to it

    def cut(self) -> None:
        """End all connections."""
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def down(self):
        """Meanwhile there is no way through: connections end, and others end at once."""
        self._open = False
        self.cut()
        try:
            yield
        finally:
            self._open = True

    @contextlib.contextmanager
    def standing(self):
        """Meanwhile nothing passes, and nobody is told."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def harm(self, what: str, direction: int, after: int) -> None:
        """Do this to the next connection, once.

        Parameters
        ----------
        what : str
            "cut" it, or "flip" a bit.
        direction : int
            0: to the controller, 1: from it.
        after : int
            Bytes that pass before.
        """
        self.harmed.clear()
        self._harm = what, direction, after

    # ------------------------------------------------------------ threads

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._closed.is_set():
                near.close()
                return
            self.accepted += 1
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            harm, self._harm = self._harm, None
            self._ends |= {near, far}
            thread = threading.Thread(target=self._pass, args=(near, far, harm))
            self._threads.append(thread)
            thread.start()
            if not self._open:
                self.cut()

    def _pass(self, near: socket.socket, far: socket.socket, harm: tuple[str, int, int] | None) -> None:
        passed = [0, 0]
        try:
            while True:
                for source in select.select([near, far], [], [])[0]:
                    direction = int(source is far)
                    data = source.recv(CHUNK)
                    self._flows.wait()
                    if self.rate is not None and self._closed.wait(len(data) / self.rate):
                        return
                    if harm is not None and harm[1] == direction and passed[direction] + len(data) > harm[2]:
                        data = self._harmed(harm[0], data, harm[2] - passed[direction])
                        harm = None
                        self.harmed.set()
                    if not data:
                        return
                    (near if source is far else far).sendall(data)
                    passed[direction] += len(data)
        except OSError:
            pass
        finally:
            for end in (near, far):
                self._ends.discard(end)
                end.close()

    @staticmethod
    def _harmed(what: str, data: bytes, at: int) -> bytes:
        if what == "cut":
            return b""
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    def close(self) -> None:
        """End everything."""
        self._closed.set()
        self._flows.set()
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname()).close()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)
