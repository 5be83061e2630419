"""The floor: a bare ROUTER between DEALERs. No queues, no names, no notion of death; what the transport alone costs."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import zmq


def _socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    socket.sndhwm = socket.rcvhwm = socket.linger = 0
    return socket


def broker(front: str, back: str, workers: int) -> None:
    """Pass messages between one client and the workers, to each in turn."""
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
            else:
                client, number, call = clients.recv_multipart()
                turn = (turn + 1) % workers
                engines.send_multipart([names[turn], client, number, call])


def worker(back: str) -> None:
    """Answer calls."""
    socket = _socket(zmq.Context(), zmq.DEALER)
    socket.connect(back)
    socket.send(b"hello")
    while True:
        client, number, call = socket.recv_multipart()
        function, arguments = pickle.loads(call)
        socket.send_multipart([client, number, pickle.dumps(function(*arguments), 5)])


class Floor:
    """A broker and its workers, as a client sees them."""

    def __init__(self, workers: int) -> None:
        self._directory = tempfile.TemporaryDirectory()
        front, back = (f"ipc://{self._directory.name}/{name}" for name in ("front", "back"))
        self._broker = self._start("broker", front, back, str(workers))
        self._workers = [self._start("worker", back) for _ in range(workers)]
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = _socket(self._context, zmq.DEALER)
        self._socket.connect(front)
        self.call(abs, -1)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "benchmarks.broker", *arguments])

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """One call and its answer."""
        self._socket.send_multipart([b"0", pickle.dumps((function, arguments), 5)])
        return pickle.loads(self._socket.recv_multipart()[1])

    def call_many(self, function: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        """One call per item, all under way at once."""
        for number, item in enumerate(items):
            self._socket.send_multipart([str(number).encode(), pickle.dumps((function, (item,)), 5)])
        answers = [self._socket.recv_multipart() for _ in items]
        values = {int(number): pickle.loads(answer) for number, answer in answers}
        return [values[number] for number in range(len(items))]

    @property
    def broker_pid(self) -> int:
        """Of the process that passes messages on."""
        return self._broker.pid

    @property
    def worker_pids(self) -> list[int]:
        """Of the processes that answer calls."""
        return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """End all processes."""
        self._socket.close()
        self._context.term()
        for process in (self._broker, *self._workers):
            process.kill()
            process.wait()
        self._directory.cleanup()


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "broker":
        broker(rest[0], rest[1], int(rest[2]))
    else:
        worker(rest[0])
