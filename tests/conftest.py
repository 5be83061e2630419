"""What every test gets: an IPython directory of its own, and a failure when it leaves anything behind."""

import gc
import os
import signal
import tempfile
import threading
from pathlib import Path

import psutil
import pytest


def pytest_collection_finish():
    """No collection goes over all that was imported; engines in this process collect at each of their resets."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def temporary_directory():
    """One for this run alone, with a short name: the path of a unix socket is."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", directory)
        patch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """A shell has what it starts in the background ignore SIGINT, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _runtime_directories():
    root = Path(tempfile.gettempdir()) / f"ipkernel_ext-{os.getuid()}"
    return set(root.iterdir()) if root.is_dir() else set()


def _shared_memory():
    """Of clusters of this run."""
    locks = Path(f"/dev/shm/ipkernel_ext-{os.getuid()}").glob("*/lock")
    return {lock.parent for lock in locks if os.fsencode(tempfile.gettempdir()) in _content(lock)}


def _content(path):
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _children():
    """Processes that this one has started: of which Linux has a list, or else found among all there are."""
    try:
        lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
        if lists:
            return [psutil.Process(int(pid)) for pid in " ".join(lists).split()]
    except (OSError, psutil.NoSuchProcess):  # a thread or a process has just ended
        pass
    return psutil.Process().children()


def _left():
    """What there is, and how it is called."""
    children = {p.pid: f"process {p.pid} {' '.join(p.cmdline()[-3:])}" for p in _children() if _is_alive(p)}
    threads = {t.name: f"thread {t.name}" for t in threading.enumerate() if not t.daemon}
    return children | threads | {path: f"directory {path}" for path in _runtime_directories() | _shared_memory()}


def _is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(autouse=True)
def ipython_dir(tmp_path, monkeypatch):
    """Profiles and history of the user who runs the tests stay alone."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return tmp_path / "ipython"


@pytest.fixture(autouse=True)
def leaves_nothing(ipython_dir):
    """A test that leaves a process, thread or runtime directory behind fails."""
    before = _left()
    yield
    for thread in threading.enumerate():
        if not thread.daemon and thread.name not in before:
            thread.join(0.1)  # it may be about to end
    assert not [name for thing, name in _left().items() if thing not in before]
