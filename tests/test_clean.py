"""What is left of dead clusters is found and removed; what lives, or may, is not touched."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ipkernel_ext import clean
from ipkernel_ext.blobs import Home
from ipkernel_ext.config import connection, shared
from ipkernel_ext.config.connection import Connection
from ipkernel_ext.config.place import Place

LATER = 1e12  # when nothing is new any more


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def place(root: Path) -> Iterator[Place]:
    """A profile's place, as a cluster that was killed leaves it."""
    place = Place.of_profile("mpi")
    place.directory = root / ("0" * 16)
    place.make()
    (place.directory / "lock").write_text("1")
    place.agent.write_text("1")
    write(place)
    yield place
    place.sweep()


def write(place: Place, **other: object) -> None:
    fields = {"url": "ipc://x", "epoch": 1, "pid": 1, "host": "here", "directory": str(place.directory)}
    for role in clean.ROLES:
        connection.write(place.connection(role), Connection(**{**fields, "role": role, **other}))  # type: ignore[arg-type]


def survey(root: Path, *places: Place, processes: tuple[clean.Process, ...] = (), now: float = LATER) -> clean.Found:
    return clean.survey(root, places, processes, host="here", now=now)


def process(pid: int, program: str, directory: Path | None, *, orphaned: bool = False) -> clean.Process:
    return clean.Process(pid, program, directory, True, orphaned, 0.0)


def test_nothing_is_there(root: Path) -> None:
    assert not any(survey(root))


def test_shared_memory_of_dead_clusters_is_stale(root: Path, place: Place, tmp_path: Path) -> None:
    of_dead, of_stale, of_living, of_others, new, damaged = (tmp_path / name for name in "abcdef")
    for directory in (of_dead, of_stale, of_living, of_others, new, damaged):
        directory.mkdir()
    living = root / ("1" * 16)
    os.utime(damaged, (0, 0))
    memory = [
        (of_dead, root / ("3" * 16)),
        (of_stale, place.directory),
        (of_living, living),
        (of_others, tmp_path / ("2" * 16)),
        (new, None),
        (damaged, None),
    ]
    agent = process(7, "agent", living)
    living.mkdir()
    Place(living, None).agent.write_text("7")
    now = new.stat().st_mtime + 1
    found = clean.survey(root, (), (agent,), host="here", now=now, memory=memory)
    assert {of_dead, damaged} <= set(found.stale) and not {of_stale, of_living, of_others, new} & set(found.stale)
    assert (new, "it is new: a cluster may be starting there") in found.left
    assert clean.remove(of_dead) and not of_dead.exists()
    shutil.rmtree(living)


def test_shared_memory_goes_with_its_runtime_directory(place: Place) -> None:
    shared_memory = shared.offer(place.directory, "/dev/shm", 2**18, 0)
    assert shared_memory is not None and shared_memory.stat().st_mode & 0o777 == 0o700
    assert not shared.is_used(shared_memory)
    home = Home(shared_memory)
    assert shared.is_used(shared_memory)
    assert shared_memory not in [directory for directory, _ in shared.left()]
    del home
    assert (shared_memory, place.directory) in shared.left()
    assert clean.remove(place.directory)
    assert not shared_memory.exists()


def test_what_a_killed_cluster_left_is_stale(root: Path, place: Place) -> None:
    found = survey(root, place)
    assert found == ([place.directory, place.connection("client"), place.connection("engine")], [], [])
    assert all([clean.remove(path) for path in found.stale])
    assert not place.directory.exists()
    assert not any(survey(root, place))


def test_what_a_private_cluster_left_is_stale_too(root: Path) -> None:
    place = Place(root / ("f" * 16), None)
    place.make()
    assert survey(root).stale == [place.directory]


def test_a_held_lock_is_a_running_cluster(root: Path, place: Place) -> None:
    lock = place.lock()
    assert not any(survey(root, place))
    assert not clean.remove(place.directory)
    assert place.directory.exists()
    os.close(lock)
    assert survey(root, place).stale


def test_a_living_agent_is_a_running_cluster(root: Path, place: Place) -> None:
    assert not any(survey(root, place, processes=(process(1, "agent", None),)))
    assert survey(root, place, processes=(process(1, "ipengine", None),)).stale, "the number has been given again"


def test_an_engine_that_waits_keeps_its_directory(root: Path, place: Place) -> None:
    found = survey(root, place, processes=(process(7, "ipengine", place.directory),))
    assert place.directory not in found.stale
    assert found.left == [(place.directory, "ipengine (pid 7) waits there")]
    assert not found.orphans


def test_an_engine_whose_cluster_is_gone_is_an_orphan(root: Path, place: Place) -> None:
    orphan = process(7, "ipengine", place.directory, orphaned=True)
    found = survey(root, place, processes=(orphan,))
    assert found.orphans == [orphan]
    assert place.directory not in found.stale
    assert "7" in found.left[0][1]
    lock = place.lock()
    assert not survey(root, place, processes=(orphan,)).orphans, "its controller lives"
    os.close(lock)


@pytest.mark.parametrize("program", ["outpost", "ipengine"])
def test_a_process_of_a_cluster_that_is_not_known_is_left_alone(root: Path, place: Place, program: str) -> None:
    assert not survey(root, place, processes=(process(7, program, None, orphaned=True),)).orphans


def test_an_outpost_is_an_orphan_only_when_its_cluster_is_gone(root: Path, place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "elsewhere" / ("b" * 16), None)
    other.make()
    outpost = process(7, "outpost", other.directory, orphaned=True)
    lock = other.lock()
    assert not survey(root, place, processes=(outpost,)).orphans
    os.close(lock)
    assert survey(root, place, processes=(outpost,)).orphans == [outpost]


def test_the_place_of_an_outpost_that_lives_is_not_stale(root: Path) -> None:
    place = Place(root / ("c" * 16), None)
    place.make()
    place.agent.write_text("7")
    assert not any(survey(root, processes=(process(7, "outpost", None, orphaned=True),)))


def test_a_directory_that_is_new_may_belong_to_a_cluster_that_is_being_started(root: Path) -> None:
    place = Place(root / ("a" * 16), None)
    place.make()
    made = place.directory.stat().st_mtime
    assert survey(root, now=made + 1).left[0][0] == place.directory
    assert survey(root, now=made + clean.YOUNG + 1).stale == [place.directory]


@pytest.mark.parametrize("name", ["other", "A" * 16, "0" * 15])
def test_what_is_not_named_as_ours_is_not_ours(root: Path, name: str) -> None:
    (root / name).mkdir(parents=True)
    assert not any(survey(root))


def test_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    (root / ("0" * 16)).symlink_to(tmp_path)
    assert not any(survey(root))


@pytest.mark.parametrize(
    ("other", "reason"),
    [({"host": "there"}, "its cluster is on there"), ({"pid": 7}, "its cluster runs")],
)
def test_a_connection_file_of_another_place_stays(
    root: Path, place: Place, other: dict[str, object], reason: str
) -> None:
    write(place, **other)
    found = survey(root, place, processes=(process(7, "ipcontroller", None),))
    assert found.stale == [place.directory]
    assert [path for path, _ in found.left] == [place.connection(role) for role in clean.ROLES]
    assert all(reason in why for _, why in found.left)


def test_a_cluster_that_was_started_with_another_temporary_directory_runs(root: Path, place: Place) -> None:
    other = Place(root.parent / "elsewhere" / ("b" * 16), None)
    other.make()
    write(place, directory=str(other.directory))
    lock = other.lock()
    assert survey(root, place).stale == [place.directory]
    os.close(lock)


def test_an_empty_connection_file_goes_and_a_damaged_one_stays(root: Path, place: Place) -> None:
    place.connection("client").write_bytes(b"")
    place.connection("engine").write_text(json.dumps(["?"]))
    found = survey(root, place)
    assert place.connection("client") in found.stale
    assert found.left == [(place.connection("engine"), "it is damaged; look at it, and remove it by hand")]


# ---------------------------------------------------------------- processes


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("python -m ipkernel_ext.nursery", "agent"),
        ("python -m ipkernel_ext.nursery.controller", "ipcontroller"),
        ("python -X dev -m ipkernel_ext.commands ipengine --owned", "ipengine"),
        ("/venv/bin/python /venv/bin/ipcluster start", "ipcluster"),
        ("/venv/bin/ipengine", "ipengine"),
        ("python -m ipkernel_ext.commands", None),
        ("python -m pytest", None),
        ("vim notes about ipengine", None),
        ("", None),
    ],
)
def test_programs_are_known_by_their_command_lines(command: str, program: str | None) -> None:
    assert clean.program_of(command.split()) == program


def test_a_command_line_leads_to_its_directory(ipython_dir: Path) -> None:
    here = {"IPYTHONDIR": str(ipython_dir)}
    engine = ["python", "-m", "ipkernel_ext.commands", "ipengine"]
    assert clean.directory_of([*engine, "--directory", "/x"], {}) == Path("/x")
    assert clean.directory_of([*engine, "--profile=mpi"], here) == Place.of_profile("mpi").directory
    assert clean.directory_of([*engine, "--profile", "mpi"], here) == Place.of_profile("mpi").directory
    assert clean.directory_of(engine, here) == Place.of_profile(None).directory
    assert clean.directory_of(engine, {"IPYTHONDIR": "/other"}) is None
    assert clean.directory_of([*engine, "--url=ipc:///x"], here) is None
    assert clean.directory_of(["python", "-m", "ipkernel_ext.nursery"], here) is None


def test_the_orders_of_an_outpost_lead_to_its_cluster(place: Place, tmp_path: Path) -> None:
    orders = tmp_path / "orders.json"
    command = ["python", "-m", "ipkernel_ext.nursery.outpost", str(orders), "0-3"]
    assert clean.cluster_of(command, "here") is None, "there are none any more"
    orders.write_text(json.dumps({"setup": {"connection": str(place.connection("engine"))}}))
    assert clean.cluster_of(command, "here") == place.directory
    assert clean.cluster_of(command, "there") is None
    place.connection("engine").unlink()
    assert clean.cluster_of(command, "here") is None


def test_an_outpost_that_a_stranger_started_is_of_its_cluster(root: Path, place: Place, tmp_path: Path) -> None:
    orders = tmp_path / "orders.json"
    orders.write_text(json.dumps({"setup": {"connection": str(place.connection("engine"))}}))
    write(place, host=socket.gethostname())
    lock = place.lock()
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", "-m", "ipkernel_ext.nursery.outpost", str(orders)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as outpost:
        (found,) = [p for p in clean.processes(os.getuid()) if p.pid == outpost.pid]
    assert (found.program, found.directory, found.owned, found.orphaned) == ("outpost", place.directory, True, True)
    assert not survey(root, place, processes=(found,)).orphans
    os.close(lock)


def test_only_the_process_that_was_found_is_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        created = psutil.Process(child.pid).create_time()
        found = process(child.pid, "ipengine", None)
        clean.end(found._replace(created=created - 1))
        assert child.poll() is None
        clean.end(found._replace(created=created))
        assert not psutil.pid_exists(child.pid)
        clean.end(found._replace(created=created))
