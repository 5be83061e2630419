"""Messages to bytes and back; garbage is one clear error."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipkernel_ext.core import messages as m
from ipkernel_ext.core import wire
from ipkernel_ext.errors import ProtocolError
from tests.core.cluster import CODE, ann

FAILURE = m.Failure("user", "ValueError", "no", "Traceback …", item=3, started=True)
RECORD = m.EngineRecord("b0", "here", 1, "3.11", 2, 5, "b9", "agent", ["gpu"], "away")

EXAMPLES: list[Any] = [
    m.HelloClient("ann", 1, "3", "here", 1, [1, 2], 3),
    m.Function("f"),
    m.Submit([1], m.Execute("x", "y")),
    m.Submit([1], m.Apply("f"), [0], ["b0"], 3, [None]),
    m.Submit([1], m.Map("f", 4, True), hints=[m.Hint(0, "b0", 1, 2)], timeout=1.5, max_result=2**40),
    *(
        m.Submit([1], work)
        for work in (
            m.Push(["a"]),
            m.Pull(["a"]),
            m.Delete(["a"]),
            m.Keys(),
            m.Value(1),
            m.Seed("1/2"),
            m.Debug(),
            m.Reset(),
        )
    ),
    m.Cancel([1]),
    m.Interrupt([0]),
    m.ClearQueue(1, None),
    m.Acknowledge([1]),
    m.Submit([1], m.Fetch(m.TaskId("a", 1))),
    m.Ask(1, "status"),
    m.Ask(1, "engines", 3.0),
    m.Why(1, 2),
    m.Why(1, None, [ann(1)]),
    m.Recent(1, 5),
    m.Inspect(1, [0, 1], m.Peek("a", 2**20), 3.0),
    m.Inspect(1, [0], m.Stacks(), 3.0),
    m.Inspect(1, [0], m.Completions("p ab", 2, 4), 3.0),
    m.Inspect(1, [0], m.Sample("p1", 0.01, 3600.0), 3.0),
    m.Inspect(1, [0], m.Sampled("p1"), 3.0),
    m.Follow(1, True, 7),
    m.Input(ann(1), 2, "p x"),
    m.Input(ann(1), 2, None, "nobody is there"),
    m.EndEngines(1, [0], True),
    m.Scale(3, 8),
    m.ShutDown(),
    m.Goodbye(),
    m.WelcomeClient([RECORD], 1, "here"),
    m.EngineJoined(RECORD),
    m.EngineLeft(1, "b0", m.Exit(1, 9, "x", True, "the last\nwords")),
    m.EngineTrouble("x"),
    m.Assigned([1], [m.Hint(0, "b0", 1)]),
    m.Result(ann(1), 1, 0, 2, FAILURE, 4, True, 0.5),
    m.Results("ann", [1, 2], [1, 1], 0, [0.5, 0.25], [0.5, 0.0]),
    m.Stream(ann(1), 0, 3, "stderr", "text", 2),
    m.Stream(None, 0, 3, "stdout", "text"),
    m.Display(ann(1), 0, 3, {"text/plain": "x", "image/png": b"\x00"}, {"a": {"b": 1}}, 4, 2),
    m.Display(ann(1), 0, 3, {"text/plain": "x"}, {}, id="bar", update=True),
    m.Refused(FAILURE, [1], 2),
    m.Answer(1, {"a": [1, None]}),
    m.NeedFunction("f"),
    m.HelloWanted(),
    m.ClusterEnds("x"),
    m.HelloEngine(1, RECORD, 2, m.Inventory([(ann(1), 1)], [(ann(2), 2)], [(ann(3), 3)])),
    m.HelloTasks("b0", 1),
    m.GivenBack([(ann(1), 1)]),
    m.EngineState("overrun"),
    m.Measured((ann(1), 1), 0.5, 99.5, 2**30),
    m.Followed(3, "ann", "here", 1, "stdout", [0, 2], "text", 5),
    m.InputWanted(ann(1), 0, 2, "ipdb> "),
    m.InputWanted(ann(1), 0, 3, "", "helpers"),
    m.Looked(3, {"value": [b"x"]}),
    m.PieceWanted(3, 2**40),
    m.PiecesCome(3),
    m.PassesOn("tcp://10.0.0.2:5000", "a key"),
    m.FrameTaken(3, b"where it is"),
    m.WelcomeEngine(1),
    m.Task(ann(1), 2, CODE, True, 1.5, 2**40),
    m.Tasks("ann", [1, 2], [1, 3], CODE, 2**40),
    m.Recall([(ann(1), 1)], True, True),
    m.InterruptRunning(),
    m.Measure(),
    m.Look(3, m.Stacks()),
    m.Forget([(ann(1), 1)]),
    m.TakeFrame(3, 2**40, b"where it is"),
    m.TakeFrame(3, 2**40, source=m.Source("tcp://10.0.0.2:5000", "a key", 2)),
    m.PassOn(),
    m.Piece(3, 2**20),
    m.ReleaseFrame(3),
    m.SendAgain([ann(1)]),
    m.StopEngine(),
    m.HelloAgent(1, "agent", "here", 1, 4, [m.EngineExited("b0", m.Exit(), True, "b9")], 2),
    m.EngineExited("b0", m.Exit(0), False),
    m.HelloAgent(1, "agent", "here", 1, 4, [], 2, "none", "a job has its size"),
    m.AgentTrouble("x"),
    m.AgentTrouble("the queue is full", 8),
    m.AgentDrains("the job's time is nearly up"),
    m.EngineMeasured("b0", None, 2**30),
    m.WelcomeAgent(),
    m.EndEngine("b0", True),
    m.MeasureEngine("b0"),
    m.ScaleAgent(8, [0, 2]),
    m.StopAgent(),
]

DIRECTIONS = [m.FromPeer, m.ToClient, m.ToEngine, m.ToCourier, m.ToAgent]
EVERYTHING = {kind for direction in DIRECTIONS for kind in get_args(direction)}
DECODERS = {direction: wire.Decoder(direction) for direction in DIRECTIONS}
FROM_PEER = DECODERS[m.FromPeer]


def test_there_is_an_example_of_every_message() -> None:
    assert {type(example) for example in EXAMPLES} == EVERYTHING


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_round_trip(message: Any) -> None:
    for direction in DIRECTIONS:
        if type(message) in get_args(direction):
            batch = [(message, (b"small", b"")), (message, ())]
            epoch, entries = DECODERS[direction].decode(wire.encode(7, batch))
            assert epoch == 7
            assert [(entry, list(frames)) for entry, frames in entries] == [(message, [b"small", b""]), (message, [])]
        else:
            with pytest.raises(ProtocolError):
                DECODERS[direction].decode(wire.encode(7, [(message, ())]))


@given(st.lists(st.lists(st.integers(0, 3 * wire.INLINE), max_size=4), max_size=5), st.integers(0, 2**63 - 1))
def test_frames_of_any_size_come_back(sizes: list[list[int]], epoch: int) -> None:
    batch = [(m.Cancel([n]), [bytes([n]) * size for size in frames]) for n, frames in enumerate(sizes)]
    parts = wire.encode(epoch, batch)
    assert len(parts) == 1 + sum(size > wire.INLINE for frames in sizes for size in frames)
    assert FROM_PEER.decode(parts) == (epoch, [(message, frames) for message, frames in batch])


def test_frames_may_be_views() -> None:
    frames = [memoryview(b"x" * 10), memoryview(b"y" * 10_000)]
    _, [(_, decoded)] = FROM_PEER.decode(wire.encode(0, [(m.Cancel([1]), frames)]))
    assert [bytes(frame) for frame in decoded] == [bytes(frame) for frame in frames]


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_garbage_is_one_clear_error(parts: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        FROM_PEER.decode(parts)


@given(st.recursive(st.none() | st.integers(-5, 5) | st.text(max_size=5), lambda s: st.lists(s, max_size=5)))
def test_well_formed_garbage_is_the_same_error(value: Any) -> None:
    with pytest.raises(ProtocolError):
        FROM_PEER.decode([msgspec.msgpack.encode([m.PROTOCOL, 0, [[value, []]]])])


@given(st.data())
def test_a_flipped_byte_never_raises_anything_else(data: st.DataObject) -> None:
    message = data.draw(st.sampled_from([e for e in EXAMPLES if type(e) in get_args(m.FromPeer)]))
    header = bytearray(wire.encode(3, [(message, (b"frame",))])[0])
    position = data.draw(st.integers(0, len(header) - 1))
    header[position] ^= data.draw(st.integers(1, 255))
    try:
        FROM_PEER.decode([bytes(header)])
    except ProtocolError:
        pass


def test_deep_nesting_is_an_error_too() -> None:
    with pytest.raises(ProtocolError):
        FROM_PEER.decode([b"\x91" * 100_000])


def test_a_large_frame_may_travel_as_a_reference() -> None:
    frames = [b"small", b"x" * 10_000, b"y" * 10_000]
    references = {b"ref": frames[1]}
    parts = wire.encode(3, [(m.Cancel([1]), frames)], lambda frame: b"ref" if frame is frames[1] else frame)
    assert parts[1:] == [b"ref", frames[2]]
    assert FROM_PEER.decode(parts, lambda part: references[part]) == (3, [(m.Cancel([1]), frames)])
    with pytest.raises(ProtocolError, match="leads nowhere"):
        FROM_PEER.decode(parts)


@pytest.mark.parametrize("extra", [-1, 1])
def test_the_number_of_parts_has_to_be_right(extra: int) -> None:
    parts = wire.encode(0, [(m.Cancel([1]), [b"x" * 10_000])])
    parts = parts[:-1] if extra < 0 else [*parts, b"more"]
    with pytest.raises(ProtocolError, match="announces"):
        FROM_PEER.decode(parts)


def test_another_protocol() -> None:
    with pytest.raises(ProtocolError, match="this side speaks"):
        FROM_PEER.decode([msgspec.msgpack.encode([m.PROTOCOL + 1, 0, []])])


@pytest.mark.parametrize(
    "message",
    [
        m.Submit([-1], CODE),
        m.Submit([2**63], CODE),
        m.Submit([1], CODE, retries=-1),
        m.Submit([1], CODE, hints=[m.Hint(0, "b", 2**31)]),
        m.HelloClient("", 1, "3", "h", 1, []),
        m.HelloClient("x" * 17, 1, "3", "h", 1, []),
        m.HelloClient("white space", 1, "3", "h", 1, []),
        m.HelloEngine(1, m.EngineRecord("ü", "h", 1, "3"), 1, m.Inventory()),
        m.HelloEngine(1, m.EngineRecord("b", "h", 1, "3", rank=-1), 1, m.Inventory()),
        m.HelloEngine(1, m.EngineRecord("b", "h", 1, "3"), 1, m.Inventory(queued=[(ann(1), -1)])),
    ],
    ids=repr,
)
def test_what_the_journal_could_not_hold_is_refused(message: Any) -> None:
    with pytest.raises(ProtocolError):
        FROM_PEER.decode(wire.encode(0, [(message, ())]))
