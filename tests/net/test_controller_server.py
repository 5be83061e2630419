"""The controller's shell fails closed: no port without somebody who answers for keys."""

from __future__ import annotations

import logging
import signal

import pytest

from ipkernel_ext.config import keys
from ipkernel_ext.errors import ParallelError
from ipkernel_ext.net.controller_server import ControllerServer
from ipkernel_ext.net.journal import JournalFile
from ipkernel_ext.net.store import ResultStore
from ipkernel_ext.net.zap import probe


@pytest.fixture
def server(temporary_directory):
    """One that does not listen yet."""
    path = temporary_directory / "c.sock"
    server = ControllerServer(
        path,
        JournalFile(path.with_name("journal")),
        ResultStore(None, 2**20, 60.0),
        path.parent,
        logging.getLogger("test"),
    )
    yield server
    server.close()
    signal.set_wakeup_fd(-1)
    path.with_name("journal").unlink()


def test_a_handler_that_lets_strangers_in_is_found_out(server, monkeypatch) -> None:
    monkeypatch.setattr("ipkernel_ext.net.zap.answer", lambda roles, request: (b"200", "client"))
    with pytest.raises(ParallelError, match="an unknown key"):
        server.listen_tcp("", 0, keys.make())


def test_the_controller_ends_when_nobody_answers_for_keys_any_more(server, monkeypatch) -> None:
    cluster = keys.make()
    server.listen()
    port = server.listen_tcp("", 0, cluster)
    assert server.tcp == [f"tcp://127.0.0.1:{port}"]

    def broken(roles, request):
        raise RuntimeError("broken")

    monkeypatch.setattr("ipkernel_ext.net.zap.answer", broken)
    with pytest.raises(ParallelError):
        probe(server.tcp[0], cluster)
    with pytest.raises(ParallelError, match="broken"):
        server.run()
