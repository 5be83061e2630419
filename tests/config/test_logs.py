"""Logs: which there are, what a follower reads of them, and how one is shortened under its writer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipkernel_ext.config import logs


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine-0.log"


@pytest.fixture
def writer(log: Path) -> Iterator[int]:
    """A descriptor as a child's standard output is one."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    yield file
    os.close(file)


def test_engines_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("engine-10.log", "engine-2.log", "engine-ab12.log", "controller.log", "other.txt"):
        (tmp_path / name).touch()
    assert list(logs.engine_logs(tmp_path)) == ["2", "10", "ab12"]
    assert list(logs.cluster_logs(tmp_path)) == ["controller", "engine 2", "engine 10", "engine ab12"]


def test_no_directory_has_no_logs(tmp_path: Path) -> None:
    assert logs.cluster_logs(tmp_path / "none") == {}


def test_one_engine_is_chosen(tmp_path: Path) -> None:
    there = {"controller": tmp_path / "c", "engine 1": tmp_path / "e"}
    assert logs.choose(there, None) == there
    assert logs.choose(there, "1") == {"engine 1": tmp_path / "e"}
    with pytest.raises(ValueError, match="no log of engine 7; there are engine 1"):
        logs.choose(there, "7")


# ---------------------------------------------------------------- following


def test_a_follower_gives_whole_lines_once(log: Path, writer: int) -> None:
    follower = logs.Follower(log)
    assert follower.read() == []
    os.write(writer, b"one\ntw")
    assert follower.read() == ["one"]
    os.write(writer, b"o\n")
    assert follower.read() == ["two"]
    assert follower.read() == []
    os.write(writer, b"no end")
    assert follower.read() == []
    assert follower.read(final=True) == ["no end"]


def test_a_file_may_come_later(tmp_path: Path) -> None:
    follower = logs.Follower(tmp_path / "later", 1)
    assert follower.read() == []
    (tmp_path / "later").write_text("a\nb\n")
    assert follower.read() == ["b"]


@pytest.mark.parametrize(("lines", "shown"), [(None, ["a", "b", "c"]), (2, ["b", "c"]), (0, []), (9, ["a", "b", "c"])])
def test_the_last_lines_come_first_then_all(log: Path, writer: int, lines: int | None, shown: list[str]) -> None:
    os.write(writer, b"a\nb\nc\n")
    follower = logs.Follower(log, lines)
    assert follower.read() == shown
    os.write(writer, b"d\ne\n")
    assert follower.read() == ["d", "e"]


def test_bytes_that_are_no_text_do_no_harm(log: Path, writer: int) -> None:
    os.write(writer, b"\xff\xfe\n")
    assert logs.Follower(log).read() == ["\ufffd\ufffd"]


def test_a_successor_of_the_file_is_read_from_its_beginning(log: Path) -> None:
    log.write_text("first\nbroken off")
    follower = logs.Follower(log)
    assert follower.read() == ["first"]
    log.rename(log.with_name("kept"))
    log.write_text("second\n")
    assert follower.read() == ["broken off", "second"]


def test_a_shortened_file_goes_on_where_it_was(log: Path, writer: int) -> None:
    follower = logs.Follower(log)
    for number in range(1000):
        os.write(writer, b"line %d of a log that is going to be cut\n" % number)
    assert len(follower.read()) == 1000
    assert logs.shorten(log, 10_000, 5_000)
    os.write(writer, b"new\n")
    assert follower.read() == ["new"]


def test_following_ends_when_nothing_more_is_written(tmp_path: Path) -> None:
    """With what was written until then, also in files that came meanwhile."""
    reader, writer = os.pipe()
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1\n2\n")

    def there() -> dict[str, Path]:
        return {path.name: path for path in (first, second) if path.exists()}

    lines = logs.follow(there, 1, reader)
    assert next(lines) == ("a", "2")
    second.write_text("x\ny")
    os.close(writer)
    assert list(lines) == [("b", "x"), ("b", "y")]
    os.close(reader)


def test_following_ends_when_nobody_reads_what_it_gives(log: Path) -> None:
    running, output = os.pipe(), os.pipe()
    lines = logs.follow(lambda: {"a": log}, None, running[0], output[1])
    log.write_text("1\n")
    assert next(lines) == ("a", "1")
    os.close(output[0])
    assert list(lines) == []
    for descriptor in (*running, output[1]):
        os.close(descriptor)


def test_what_is_not_written_any_more_is_read_once(log: Path) -> None:
    log.write_text("1\n2")
    assert list(logs.follow(lambda: {"a": log}, None, None)) == [("a", "1"), ("a", "2")]


# ---------------------------------------------------------------- shortening


def test_the_end_stays_from_a_line_on_and_the_writer_goes_on(log: Path, writer: int) -> None:
    for number in range(100):
        os.write(writer, b"line %02d\n" % number)
    assert logs.shorten(log, 500, 100)
    os.write(writer, b"next\n")
    assert log.read_text().splitlines() == [f"line {number}" for number in range(88, 100)] + ["next"]


def test_a_line_that_fits_exactly_stays(log: Path) -> None:
    log.write_bytes(b"aaaa\nbbbb\ncccc\n")
    assert logs.shorten(log, 11, 10)
    assert log.read_bytes() == b"bbbb\ncccc\n"


def test_a_line_longer_than_what_is_kept_loses_its_beginning(log: Path) -> None:
    log.write_bytes(b"x" * 100 + b"yz\n")
    assert logs.shorten(log, 50, 3)
    assert log.read_bytes() == b"yz\n"


@pytest.mark.parametrize("size", [0, 9, 10])
def test_up_to_its_limit_it_is_left_alone(log: Path, size: int) -> None:
    log.write_bytes(b"x" * size)
    assert not logs.shorten(log, 10, 5)
    assert log.stat().st_size == size


def test_all_may_go(log: Path) -> None:
    log.write_bytes(b"x\n" * 10)
    assert logs.shorten(log, 10, 0)
    assert log.read_bytes() == b""


def test_what_comes_meanwhile_is_kept(log: Path, writer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pread
    late = [b"late 1\n", b"late 2\n"]

    def pread(file: int, count: int, offset: int) -> bytes:
        found = real(file, count, offset)
        if late:
            os.write(writer, late.pop(0))
        return found

    monkeypatch.setattr(os, "pread", pread)
    os.write(writer, b"early\n" * 100)
    assert logs.shorten(log, 100, 12)
    assert log.read_bytes() == b"early\nearly\nlate 1\nlate 2\n"


def test_no_file_and_no_sense(log: Path) -> None:
    assert not logs.shorten(log, 10, 5)
    with pytest.raises(ValueError, match="keep must be smaller"):
        logs.shorten(log, 10, 10)


def test_a_link_is_not_followed(log: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"x" * 100)
    log.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic"):
        logs.shorten(log, 10, 5)
    assert (tmp_path / "victim").stat().st_size == 100
