"""What is said of many tasks, in columns: one message where each task had its own.

A burst of small tasks is many messages that differ in a number and a frame, and each of them costs more to write, read
and pass on than what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ipkernel_ext.core import messages as m
from ipkernel_ext.core.messages import TaskId
from ipkernel_ext.core.wire import Entry, Frame, is_one_small


def is_plain(result: m.Result, frames: Sequence[Frame]) -> bool:
    """Whether ``Results`` says all that there is to say of a result."""
    says_more = result.failure is not None or result.outputs or result.unseeded or result.execution is not None
    return not says_more and is_one_small(frames)


def joined(entries: Sequence[Entry]) -> list[Entry]:
    """The same, with plain results of a client that follow each other as one message."""
    out: list[Entry] = []
    last: m.Results | None = None
    frames: list[Frame] = []
    for entry in entries:
        result = entry[0]
        if type(result) is not m.Result or not is_plain(*entry):
            last = None
            out.append(entry)
            continue
        client, number = result.task
        if last is None or last.client != client:
            frames = []
            last = m.Results(client, [], [], result.engine, [], [])
            out.append((last, frames))
        last.numbers.append(number)
        last.attempts.append(result.attempt)
        last.seconds.append(result.seconds)
        last.cpu.append(result.cpu)
        frames.append(entry[1][0])
    return out


def parted(results: m.Results, frames: Sequence[Frame]) -> Iterator[tuple[m.Result, Sequence[Frame]]]:
    """The results one by one."""
    client, engine = results.client, results.engine
    columns = zip(results.numbers, results.attempts, results.seconds, results.cpu, frames, strict=True)
    for number, attempt, seconds, cpu, frame in columns:
        yield m.Result(TaskId(client, number), attempt, engine, seconds=seconds, cpu=cpu), (frame,)


def are_whole(results: m.Results, frames: Sequence[Frame]) -> bool:
    """Whether there is something in each column for each of them."""
    count = len(results.numbers)
    return all(len(column) == count for column in (results.attempts, results.seconds, results.cpu, frames))
