"""The floor: a bare ROUTER between DEALERs. No queues, no names, no notion of death; what the transport alone costs."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import zmq

from benchmarks import work
from benchmarks.systems.base import System

_ANY = b""


def _socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    socket.sndhwm = socket.rcvhwm = socket.linger = 0
    return socket


def _broker(front: str, back: str, workers: int) -> None:
    """Pass messages between one client and the workers: to the one that is named by its number, or to each in turn."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    clients, engines = _socket(context, zmq.ROUTER), _socket(context, zmq.ROUTER)
    engines.bind(back)
    names = [engines.recv_multipart()[0] for _ in range(workers)]
    clients.bind(front)
    poller = zmq.Poller()
    poller.register(clients, zmq.POLLIN)
    poller.register(engines, zmq.POLLIN)
    turn = 0
    while True:
        for socket, _ in poller.poll():
            if socket is engines:
                _, client, number, answer = engines.recv_multipart()
                clients.send_multipart([client, number, answer])
                continue
            client, to, number, call = clients.recv_multipart()
            if to == _ANY:
                turn = (turn + 1) % workers
            engines.send_multipart([names[turn if to == _ANY else int(to)], client, number, call])


def _worker(back: str) -> None:
    """Answer calls."""
    socket = _socket(zmq.Context(), zmq.DEALER)
    socket.connect(back)
    socket.send(b"hello")
    while True:
        client, number, call = socket.recv_multipart()
        function, arguments = pickle.loads(call)
        socket.send_multipart([client, number, pickle.dumps(function(*arguments), 5)])


def _chunk(f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
    return [f(item) for item in items]


class Broker(System):
    """A broker and its workers, as a client sees them."""

    def start(self, n: int) -> None:
        self.n = n
        self._directory = tempfile.TemporaryDirectory()
        front, back = (f"ipc://{self._directory.name}/{name}" for name in ("front", "back"))
        self._processes = [self._spawn("broker", front, back, str(n))]
        self._processes += [self._spawn("worker", back) for _ in range(n)]
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = _socket(self._context, zmq.DEALER)
        self._socket.connect(front)

    def _spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "benchmarks.systems.bare", *arguments])

    def stop(self) -> None:
        self._socket.close()
        self._context.term()
        for process in self._processes:
            process.kill()
            process.wait()
        self._directory.cleanup()

    def _send(self, to: bytes, number: int, f: Callable[..., Any], arguments: Sequence[Any]) -> None:
        self._socket.send_multipart([to, b"%d" % number, pickle.dumps((f, arguments), 5)])

    def _receive(self, count: int) -> list[Any]:
        answers = [self._socket.recv_multipart() for _ in range(count)]
        values = {int(number): pickle.loads(answer) for number, answer in answers}
        return [values[number] for number in range(count)]

    def pids(self) -> list[int]:
        return self._everywhere(work.pid_after, 0)

    def _everywhere(self, f: Callable[..., Any], *arguments: Any) -> list[Any]:
        for number in range(self.n):
            self._send(b"%d" % number, number, f, arguments)
        return self._receive(self.n)

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        self._send(_ANY, 0, f, arguments)
        return self._receive(1)[0]

    def call_first(self, f: Callable[..., Any], *arguments: Any) -> Any:
        self._send(b"0", 0, f, arguments)
        return self._receive(1)[0]

    def submit_all(self, f: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        count = 0
        for count, item in enumerate(items, 1):
            self._send(_ANY, count - 1, f, (item,))
        return self._receive(count)

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        size = -(-len(items) // (4 * self.n))
        chunks = [items[begin : begin + size] for begin in range(0, len(items), size)]
        for number, chunk in enumerate(chunks):
            self._send(_ANY, number, _chunk, (f, chunk))
        return [value for values in self._receive(len(chunks)) for value in values]

    def execute(self, code: str) -> None:
        self._everywhere(work.execute, code)


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "broker":
        _broker(rest[0], rest[1], int(rest[2]))
    else:
        _worker(rest[0])
