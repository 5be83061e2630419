"""Output is numbered without gaps, merged, bounded, and belongs to the task that wrote it."""

import io
import queue
import threading

import pytest

from ipkernel_ext.core.messages import Display, Stream, TaskId
from ipkernel_ext.execution.output import CaptureStream, OutputBuffer, plain

TASK = TaskId("client", 1)


@pytest.fixture
def output():
    buffer = OutputBuffer(max_output=1000)
    buffer.engine_id = lambda: 3
    buffer.calls = []
    buffer.on_pending = lambda: buffer.calls.append(threading.get_ident())
    return buffer


def texts(pieces):
    return [(p.name, p.text) if isinstance(p, Stream) else p.bundle for p in pieces]


def test_pieces_are_numbered_over_all_takes(output):
    output.begin(TASK, 2)
    output.write("stdout", "a")
    output.write("stdout", "b")
    output.write("stderr", "c")
    first = output.take()
    output.write("stderr", "d")
    output.display({"text/plain": "e"}, {}, 7)
    rest, count = output.end()
    assert texts(first + rest) == [("stdout", "ab"), ("stderr", "c"), ("stderr", "d"), {"text/plain": "e"}]
    assert [p.sequence for p in first + rest] == [0, 1, 2, 3]
    assert count == 4
    assert {(p.task, p.engine, p.attempt) for p in first + rest} == {(TASK, 3, 2)}
    assert isinstance(rest[-1], Display)
    assert rest[-1].execution == 7


def test_one_call_until_it_is_taken(output):
    output.begin(TASK)
    for _ in range(300):
        output.write("stdout", "1")
    assert len(output.calls) == 1
    output.take()
    output.display({}, {})
    assert len(output.calls) == 2


def test_no_call_for_what_is_only_kept_for_the_end(output):
    output.begin(TASK)
    output.write("stdout", "x" * 600)
    output.take()
    for _ in range(50):
        output.write("stdout", "y")
    assert len(output.calls) == 1
    assert output.take() == []
    assert texts(output.end()[0]) == [("stdout", "x" * 100 + "y" * 50)]


def test_of_too_much_the_beginning_and_the_end_are_kept(output):
    output.begin(TASK)
    for i in range(1000):
        output.write("stdout", f"{i:04}\n")
    (piece,), count = output.end()
    assert count == 1
    assert piece.text.startswith("0000\n0001\n")
    assert piece.text.endswith("0998\n0999\n")
    assert "\n… 4000 characters left out …\n" in piece.text
    output.begin(TASK)
    output.write("stdout", "short")
    assert texts(output.end()[0]) == [("stdout", "short")]


def test_streams_stay_apart_beyond_the_limit(output):
    output.begin(TASK)
    output.write("stdout", "x" * 500)
    output.write("stderr", "e")
    output.write("stdout", "o")
    assert texts(output.end()[0]) == [("stdout", "x" * 500), ("stderr", "e"), ("stdout", "o")]


def test_too_much_display_is_counted(output):
    output.begin(TASK)
    for _ in range(3):
        output.display({"image/png": b"x" * 400}, {})
    pieces, _ = output.end()
    assert len(pieces) == 3
    assert pieces[-1].text == "\n… 400 characters left out …\n"


def test_between_tasks_it_is_nobodys_and_bounded(output):
    output.write("stdout", "early")
    output.begin(TASK)
    output.write("stdout", "mine")
    pieces, count = output.end()
    assert [(p.task, p.text, p.sequence) for p in pieces] == [(TASK, "mine", 0)]
    assert [(p.task, p.text, p.client) for p in output.take()] == [(None, "early", "")]
    assert count == 1
    for _ in range(100):
        output.write("stdout", "late" * 10)
    late = output.take()
    assert sum(len(p.text) for p in late) < 1100
    assert {p.task for p in late} == {None}
    output.write("stdout", "again")
    assert [(p.text, p.client) for p in output.take()] == [("again", "client")]


class Worker:
    """A thread that prints when it is told to."""

    def __init__(self, output):
        self._jobs = queue.SimpleQueue()
        self._done = queue.SimpleQueue()
        self._output = output
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self):
        while (text := self._jobs.get()) is not None:
            self._output.write("stdout", text)
            self._done.put(text)

    def __call__(self, text):
        self._jobs.put(text)
        self._done.get(timeout=10)

    def end(self):
        self._jobs.put(None)
        self._thread.join()


def test_a_thread_that_outlived_its_task_stays_out_of_other_clients_tasks(output):
    output.begin(TASK)
    worker = Worker(output)
    worker("in its task")
    assert texts(output.end()[0]) == [("stdout", "in its task")]
    worker("between")
    output.begin(TaskId("client", 2))
    worker("of the same client")
    assert texts(output.end()[0]) == [("stdout", "of the same client")]
    output.begin(TaskId("other", 1))
    worker("late")
    output.write("stdout", "theirs")
    assert texts(output.end()[0]) == [("stdout", "theirs")]
    worker("later")
    worker.end()
    late = output.take()
    assert [(p.task, p.client, p.text) for p in late] == [(None, "client", "between"), (None, "client", "latelater")]


def test_a_thread_that_was_there_before_any_task_is_the_first_clients(output):
    worker = Worker(output)
    output.begin(TASK)
    worker("as if it were the task's")
    assert texts(output.end()[0]) == [("stdout", "as if it were the task's")]
    output.begin(TaskId("other", 1))
    worker("late")
    assert output.end()[0] == []
    worker.end()
    assert [(p.client, p.text) for p in output.take()] == [("client", "late")]


def test_many_small_pieces_are_bounded_too(output):
    output.begin(TASK)
    taken = []
    for i in range(100):
        output.write("stdout", "o")
        output.write("stderr", f"{i}")
        taken += output.take()
    assert len(taken) < 20
    assert "".join(p.text for p in output.end()[0] if p.name == "stderr").endswith("9899")


def test_threads_lose_nothing(output):
    buffer = OutputBuffer()
    buffer.begin(TASK)
    stream = CaptureStream(buffer, "stdout")
    threads = [threading.Thread(target=lambda: [print("x" * 9, file=stream) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    taken = buffer.take()
    for thread in threads:
        thread.join()
    pieces, count = buffer.end()
    assert sum(len(p.text) for p in taken + pieces) == 4 * 500 * 10
    assert [p.sequence for p in taken + pieces] == list(range(count))


def test_a_stream_is_what_libraries_expect(output):
    stream = CaptureStream(output, "stderr")
    assert stream.writable()
    assert not stream.isatty()
    assert not stream.readable()
    assert stream.encoding == "utf-8"
    assert stream.name == "<stderr>"
    assert stream.write("é") == 1
    stream.flush()
    stream.close()
    assert not stream.closed
    stream.reconfigure(line_buffering=True)
    half = "ü".encode()
    stream.buffer.write(half[:1])
    stream.buffer.write(half[1:])
    stream.writelines(["a", "b"])
    assert texts(output.take()) == [("stderr", "éüab")]
    with pytest.raises(io.UnsupportedOperation):
        stream.fileno()
    with pytest.raises(TypeError, match="must be str, not bytes"):
        stream.write(b"x")


def test_what_a_message_cannot_carry_becomes_text():
    class Text(str):
        __slots__ = ()

    odd = object()
    given = {1: (1, 2.5, None, True), "b": b"x", "big": 2**70, "o": odd, "t": Text("t")}
    assert plain(given) == {"1": [1, 2.5, None, True], "b": b"x", "big": str(2**70), "o": str(odd), "t": "t"}
    assert type(plain(Text("t"))) is str


def test_changes_that_have_not_been_sent_yet_are_one():
    buffer = OutputBuffer()
    buffer.begin(TaskId("ann", 1), 1)
    buffer.display({"text/plain": "0"}, {}, id="bar")
    for step in range(1, 5):
        buffer.display({"text/plain": str(step)}, {}, id="bar", update=True)
    buffer.display({"text/plain": "other"}, {}, id="other", update=True)
    pieces, count = buffer.end()
    assert [(piece.bundle["text/plain"], piece.id, piece.update) for piece in pieces] == [
        ("0", "bar", False),
        ("4", "bar", True),
        ("other", "other", True),
    ]
    assert count == 3
