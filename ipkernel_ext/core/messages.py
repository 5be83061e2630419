"""Every message of the protocol, as frozen typed records.

One union per direction and role, so that a handler is one exhaustive ``match`` and a new message
is a type error until every core answers it. What users' objects look like is not known here:
they travel beside a message as opaque *frames* (see ``wire``), and nothing in the controller
unpickles them.

A **task** is one piece of work for one engine; its id is (client, number), given by the client.
A call over many engines is many tasks with consecutive numbers that share one ``Submit``.
An **attempt** counts the times the controller handed a task to an engine, so that a task that
was taken back and handed out again cannot be mistaken for its earlier self.
A **boot** names one life of one engine process: the same boot has the same namespace.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct

PROTOCOL = 3
"""Version of this protocol; peers with another one are refused at their hello."""

Name = Annotated[str, Meta(min_length=1, max_length=16, pattern=r"^[\x21-\x7e]*$")]
"""Of a client or a boot: it has to fit where the journal keeps it."""

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""Of a task."""

Count = Annotated[int, Meta(ge=0, lt=2**31)]
"""Of attempts, losses, retries."""

Size = Annotated[int, Meta(ge=1, le=65536)]
"""Of an MPI job."""


Seconds = Annotated[float, Meta(ge=0)]
"""A time that something may take."""

Bytes = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A size."""

Scales = Literal["own", "elsewhere", "none"]
"""Which engines an agent starts and ends when the cluster is scaled: its own, others by what started them, or none."""

Kind = Literal["run", "stdout", "stderr", "display", "failed"]
"""What a follower is told of."""

Failed = list[tuple[Number, str]]
"""Tasks whose results were failures, and what went wrong."""


class TaskId(NamedTuple):
    """(client, number): unique without asking anybody."""

    client: str
    number: Number

    def __str__(self) -> str:
        return f"{self.client}:{self.number}"


class Record(Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of all messages: immutable, encoded as an array that begins with its name.

    None of them can be part of a cycle, and there are many: so the garbage collector need not look at them.
    """


# ---------------------------------------------------------------- work: what an engine is to do


class Execute(Record, frozen=True):
    """Run source code in the engine's shell. ``filename`` names it in tracebacks ("" for a cell)."""

    code: str
    filename: str = ""


class Apply(Record, frozen=True):
    """Call a function; frames hold the pickled (args, kwargs)."""

    function: str  # digest
    seed: str | None = None  # of its random streams; see Map
    name: str = ""  # of the function, for those who watch


class Map(Record, frozen=True):
    """Call a function on each item of a chunk; frames hold a pickled list of sequences, one per argument."""

    function: str  # digest
    start: int  # index of the chunk's first item in the whole map
    return_exceptions: bool = False
    seed: str | None = None  # numbers with slashes between: what the random streams of all items have in common
    name: str = ""  # of the function, for those who watch


class Push(Record, frozen=True):
    """Bind names; frames hold the pickled dict. All of it or nothing."""

    names: list[str]


class Pull(Record, frozen=True):
    """Fetch names; the result is a pickled list of their values."""

    names: list[str]


class Delete(Record, frozen=True):
    """Unbind names. All of them or nothing."""

    names: list[str]


class Keys(Record, frozen=True):
    """The user's names, sorted."""


class Value(Record, frozen=True):
    """The value of ``Out[execution]``, while it is still kept."""

    execution: int


class Seed(Record, frozen=True):
    """Let the random generators give this engine's own stream of a seed; see Map."""

    seed: str


class Debug(Record, frozen=True):
    """Debug what failed last on this engine, as its user types; see InputWanted."""


class Reset(Record, frozen=True):
    """Empty the namespace."""


class Fetch(Record, frozen=True):
    """Give the result of a task of any client, as that of this one. The controller's work, not an engine's."""

    task: TaskId


Work = Execute | Apply | Map | Push | Pull | Delete | Keys | Value | Seed | Debug | Reset


def function_of(work: Work | Fetch) -> str | None:
    """Digest of the function that the work calls, or None."""
    kind = type(work)
    return work.function if kind is Apply or kind is Map else None  # type: ignore[union-attr]


# ---------------------------------------------------------------- inspections: what an engine tells while it is busy


class Peek(Record, frozen=True):
    """The value of a variable, or of a local one where user code is; pickled, or in words."""

    name: str
    limit: Bytes  # that its pickle may have


class Stacks(Record, frozen=True):
    """Where user code is, in each thread."""


class Completions(Record, frozen=True):
    """What may stand where the cursor is, at the prompt of the debugger that runs."""

    line: str
    begin: Count  # of the word at the cursor
    end: Count


class Sample(Record, frozen=True):
    """Begin to look where user code is, again and again."""

    name: str  # of the samples
    interval: Seconds
    limit: Seconds  # after which it ends though nobody asks for it


class Sampled(Record, frozen=True):
    """End it, and tell what was seen."""

    name: str


Inspection = Peek | Stacks | Completions | Sample | Sampled

# ---------------------------------------------------------------- parts of messages


class EngineRecord(Struct, frozen=True, array_like=True, gc=False):
    """What is known of an engine; sent at its hello and shown to clients."""

    boot: Name
    host: str
    pid: int
    python: str
    id: Annotated[int, Meta(ge=-1, lt=2**31)] = -1  # given by the controller
    rank: Count | None = None  # in an MPI job; the id follows from it
    replaces: str | None = None  # boot of the engine whose id this one takes over
    agent: str | None = None  # the supervisor that started it and will report its exit
    tags: list[str] = []
    state: str = "ready"  # ready, away, draining, unresponsive, overrun (user code does not end though its time is up)
    log: str = ""  # file of its log, on its host
    size: Size | None = None  # of the MPI job
    job: str = ""  # its name, the same for all ranks and for no other job; "" where MPI gives none
    parent: int = 0  # pid of what started the ranks of this host; stands in for a name
    cloudpickle: str = ""  # its version, as that of Python above
    numpy: str = ""  # likewise; "" where there is none
    cpu: float | None = None  # percent of one core since it was last measured; None: unknown
    rss: int | None = None  # bytes of memory when it was last measured
    task: str = ""  # id of the task that it runs
    running: str = ""  # what that is
    seconds: float = 0.0  # for how long


class Hint(Struct, frozen=True, array_like=True, gc=False):
    """Where a task was handed out: enough for a restarted controller not to start it twice."""

    engine: int
    boot: str  # "": nobody has it now
    attempt: Count
    losses: Count = 0  # engines that died with it begun


class Failure(Struct, frozen=True, array_like=True, gc=False):
    """Why a task has no value. ``kind`` names a class of ``errors``, or is "user" for an exception of user code.

    The exception itself, where it could be pickled, is in the frames beside.
    """

    kind: str
    type_name: str
    message: str
    traceback: str = ""
    item: int | None = None  # index in a map
    exit_code: int | None = None
    signal: int | None = None
    started: bool | None = None
    restarted: bool = False
    oom: bool = False  # of an engine that is lost, as the next two
    said: str = ""
    engine: int = -1


class Inventory(Struct, frozen=True, array_like=True, gc=False):
    """What an engine holds, told at each hello."""

    queued: list[tuple[TaskId, Count]] = []  # with their attempts
    running: list[tuple[TaskId, Count]] = []
    finished: list[tuple[TaskId, Count]] = []  # result kept until its client has acknowledged it


class Exit(Struct, frozen=True, array_like=True, gc=False):
    """How an engine's process ended, as far as known."""

    exit_code: int | None = None
    signal: int | None = None
    detail: str = ""  # in a few words
    oom: bool = False  # killed by the kernel for want of memory
    said: str = ""  # the last lines that it wrote to its log, apart from ours


class Ended(Struct, frozen=True, array_like=True, gc=False):
    """A task that has ended."""

    number: int  # how many had ended then, since somebody watches
    task: TaskId
    engine: int  # -1: none had it
    what: str  # in a few words
    seconds: float  # in user code
    at: float  # seconds, by the controller's clock
    failure: str = ""  # its kind; "": none


# ---------------------------------------------------------------- client to controller


class HelloClient(Record, frozen=True):
    """First on each connection. ``unresolved``: every other task of this client is acknowledged.

    ``generation`` counts the client's connections: the hello of an earlier one may come late. ``failed``: of
    the others, those that failed and that unresolved ones are to come after.
    """

    client: Name
    protocol: int
    python: str
    host: str
    pid: int
    unresolved: list[Number]
    generation: int = 0
    failed: Failed = []


class Function(Record, frozen=True):
    """A function by its digest, frames beside; also controller to engine."""

    digest: str


class Submit(Record, frozen=True):
    """Tasks that share their work: one per engine named, or balanced ones (engines None)."""

    numbers: list[Number]
    work: Work | Fetch
    engines: list[int] | None = None
    boots: list[str] | None = None  # the lives the client believes in; another one is refused
    retries: Count = 0
    hints: list[Hint | None] = []  # on replay only, one per number
    among: list[int] | None = None  # engines that may run balanced ones; None: any
    after: list[TaskId] = []  # these must have ended without an error before
    unmet: Failure | None = None  # one of them has not: these end so, unless they were handed out before
    timeout: Seconds = 0.0  # from the start of each item on its engine; 0: none
    max_result: Bytes = 0  # what the client takes of each; 0: all
    each: Count = 0  # frames of each task, in their order; 0: all tasks share all frames


class Cancel(Record, frozen=True):
    """Take queued tasks away, interrupt running ones."""

    numbers: list[int]


class Interrupt(Record, frozen=True):
    """Interrupt whatever these engines run at this moment."""

    engines: list[int]


class ClearQueue(Record, frozen=True):
    """Take away everything user code has not started on these engines (None: and the balanced queue)."""

    request: int
    engines: list[int] | None


class Acknowledge(Record, frozen=True):
    """Results arrived; nobody needs to keep them."""

    numbers: list[int]
    failed: Failed = []  # of these


class Ask(Record, frozen=True):
    """A question about the cluster, answered with the same request number."""

    request: int
    question: Literal["status", "queue_status", "engines"]
    patience: Seconds = 0.0  # that engines have to answer, where they are asked


class Why(Record, frozen=True):
    """Why is an engine, or a task, not running, not here or not answering?

    Of several tasks the one with the worst news; with neither, of all tasks of this client.
    """

    request: int
    engine: int | None = None
    tasks: list[TaskId] | None = None


class Recent(Record, frozen=True):
    """Which tasks have ended since so many had? Who asks for a while is told of what ends meanwhile.

    Answered with how many have by now, the latest of them (``Ended``), and the time. Nothing is remembered before
    the first question, nor 10 s after the last.
    """

    request: int
    after: Annotated[int, Meta(ge=0)] = 0


class Inspect(Record, frozen=True):
    """Look into these engines while they are busy; the answer has what each one tells, or why it does not."""

    request: int
    engines: list[int]
    inspection: Inspection
    patience: Seconds  # that they have


class Follow(Record, frozen=True):
    """Tell this client what the others run and print, from now on, or no more; the answer has the latest number."""

    request: int
    on: bool
    since: int = -1  # it was told all up to this number; -1: it wants nothing of what was


class Input(Record, frozen=True):
    """Answer to InputWanted; also controller to engine. Text None: the end of the input, or why nobody types.

    Of a module, its sources as JSON; None: the client has none, and why.
    """

    task: TaskId
    asked: Count
    text: str | None
    why: str = ""


class EndEngines(Record, frozen=True):
    """End these engines' processes: at once, and with or without a successor of the same id."""

    request: int
    engines: list[int]
    restart: bool = False


class Scale(Record, frozen=True):
    """Have so many engines: start more, or end those with the highest ids."""

    request: int
    engines: Annotated[int, Meta(ge=0, le=2**20)]


class ShutDown(Record, frozen=True):
    """End the whole cluster."""


class Goodbye(Record, frozen=True):
    """This peer leaves on purpose."""


FromClient = (
    HelloClient
    | Function
    | Submit
    | Cancel
    | Interrupt
    | ClearQueue
    | Acknowledge
    | Ask
    | Why
    | Recent
    | Inspect
    | Follow
    | Input
    | EndEngines
    | Scale
    | ShutDown
    | Goodbye
)

Question = ClearQueue | Ask | Why | Recent | Inspect | Follow | EndEngines | Scale
"""What is answered."""

# ---------------------------------------------------------------- controller to client


class WelcomeClient(Record, frozen=True):
    """Answer to the hello: who is here, and whom a restarted controller waits for."""

    engines: list[EngineRecord]
    pid: int
    host: str
    awaited: list[tuple[int, str]] = []  # engine id and boot


class EngineJoined(Record, frozen=True):
    """An engine is here, or changed its state."""

    engine: EngineRecord


class EngineLeft(Record, frozen=True):
    """An engine is gone: for good, or until its successor joins."""

    engine: int
    boot: str
    exit: Exit
    restarting: bool = False  # its agent starts a successor with the same id


class EngineTrouble(Record, frozen=True):
    """Engines that should have come did not; kept for the error of who waits for them."""

    reason: str
    final: bool = True  # none is expected any more; else the reason is why they are not here yet


class Assigned(Record, frozen=True):
    """Tasks that have been with an engine for a while, so that a replay can say so."""

    numbers: list[int]
    hints: list[Hint]


class Result(Record, frozen=True):
    """A task's end; also engine to controller. Frames: the pickled value or exception."""

    task: TaskId
    attempt: Count
    engine: int
    outputs: int = 0  # how many Stream and Display messages belong to it
    failure: Failure | None = None
    execution: int | None = None  # number of the cell on its engine
    has_value: bool = False  # the cell ended in an expression; its value is kept in Out
    seconds: float = 0.0  # in user code
    unseeded: bool = False  # its function drew random numbers, and nothing was there to seed them
    cpu: float = 0.0  # seconds on processors meanwhile, of all threads


class Results(Record, frozen=True):
    """The ends of several tasks of a client, of which there is no more to say; also engine to controller.

    One frame for each: its pickled value. They wrote nothing, and did not fail.
    """

    client: Name
    numbers: list[Number]
    attempts: list[Count]
    engine: int
    seconds: list[float]
    cpu: list[float]


class Stream(Record, frozen=True):
    """Text that a task wrote; also engine to controller.

    Task None: written between tasks, or by what a task has left behind, and for the client of that task.
    """

    task: TaskId | None
    engine: int
    sequence: int  # 0, 1, 2 … within the task, shared with Display
    name: Literal["stdout", "stderr"]
    text: str
    attempt: int = 0
    client: str = ""


class Display(Record, frozen=True):
    """A rich output; also engine to controller. ``execution``: it is the cell's last value."""

    task: TaskId | None
    engine: int
    sequence: int
    bundle: dict[str, Any]
    metadata: dict[str, Any]
    execution: int | None = None
    attempt: int = 0
    client: str = ""  # as in Stream
    id: str = ""  # by which it can be changed later
    update: bool = False  # it takes the place of the earlier one of this id


class InputWanted(Record, frozen=True):
    """A task asks its user for a line, and waits for Input; also engine to controller. Said again until it is met.

    With a module's name it asks its client for that module instead, which no user is told of.
    """

    task: TaskId
    engine: int
    asked: Count  # 1, 2, 3 … within this engine's life
    prompt: str
    module: str = ""


class Refused(Record, frozen=True):
    """The controller will not do this. With numbers, these tasks failed so; with a request, it has no other answer."""

    failure: Failure
    numbers: list[int] = []
    request: int = 0  # of a question


class Answer(Record, frozen=True):
    """Answer to a question."""

    request: int
    body: dict[str, Any]


class Followed(Record, frozen=True):
    """What another client has run, or what came of it, in words."""

    number: int
    client: str
    host: str  # of the client
    pid: int
    kind: Kind
    engines: list[int]  # none: any
    text: str
    left_out: int = 0  # how many before it were too many to be told


class NeedFunction(Record, frozen=True):
    """Send this function (again); also engine to controller."""

    digest: str


class HelloWanted(Record, frozen=True):
    """The controller does not know this peer: begin again with a hello."""


class ClusterEnds(Record, frozen=True):
    """The controller stops on purpose."""

    reason: str


ToClient = (
    WelcomeClient
    | EngineJoined
    | EngineLeft
    | EngineTrouble
    | Assigned
    | Result
    | Results
    | Stream
    | Display
    | InputWanted
    | Refused
    | Answer
    | Followed
    | NeedFunction
    | HelloWanted
    | ClusterEnds
)

# ---------------------------------------------------------------- engine to controller


class HelloEngine(Record, frozen=True):
    """First on an engine's control connection. ``generation`` counts its (re)connections."""

    protocol: int
    engine: EngineRecord
    generation: int
    inventory: Inventory


class HelloTasks(Record, frozen=True):
    """First on an engine's task connection: tasks may be sent here."""

    boot: str
    generation: int


class EngineState(Record, frozen=True):
    """User code does not end although its time is up, so nothing else can run; or it has ended after all."""

    state: Literal["ready", "overrun"]


class Measured(Record, frozen=True):
    """Answer to Measure."""

    running: tuple[TaskId, Count] | None = None  # with its attempt
    seconds: Seconds = 0.0  # for which it has run
    cpu: float = 0.0  # percent of one core, since the last answer
    rss: int | None = None  # bytes


class Looked(Record, frozen=True):
    """Answer to Look."""

    number: int
    told: dict[str, Any]


class PieceWanted(Record, frozen=True):
    """Send a piece of a frame that is to be taken into the shared memory of this engine's host.

    To the controller, and to an engine of another host.
    """

    number: Count
    begin: Bytes


class PiecesCome(Record, frozen=True):
    """Pieces of a frame come from another host."""

    number: Count


class PassesOn(Record, frozen=True):
    """Where engines of other hosts get pieces from this one, and its public key there; empty: nowhere."""

    url: str = ""
    key: str = ""


class FrameTaken(Record, frozen=True):
    """A frame is in the shared memory of this engine's host; without a reference: it cannot be taken there."""

    number: Count
    reference: bytes = b""


class GivenBack(Record, frozen=True):
    """Answer to Recall: these will not run here."""

    tasks: list[tuple[TaskId, int]]


FromEngine = (
    HelloEngine
    | HelloTasks
    | EngineState
    | Measured
    | Looked
    | PieceWanted
    | PiecesCome
    | PassesOn
    | FrameTaken
    | Result
    | Results
    | Stream
    | Display
    | InputWanted
    | GivenBack
    | NeedFunction
    | Goodbye
)

# ---------------------------------------------------------------- controller to engine


class WelcomeEngine(Record, frozen=True):
    """The engine's id."""

    id: int


class Task(Record, frozen=True):
    """Do this work; ahead: before balanced tasks that have not begun."""

    id: TaskId
    attempt: int
    work: Work
    ahead: bool = False
    timeout: float = 0.0  # seconds for each item; 0: none
    max_result: int = 0  # bytes that its client takes; 0: all


class Tasks(Record, frozen=True):
    """Balanced tasks of a client that differ in their one frame alone, in this order."""

    client: Name
    numbers: list[Number]
    attempts: list[Count]
    work: Work
    max_result: int = 0


class Recall(Record, frozen=True):
    """Give back those of these that have not begun; interrupt the others if asked to.

    ``again``: they were recalled before on this connection; those that have not begun by now are
    given back already, so nothing is answered.
    """

    tasks: list[tuple[TaskId, int]]
    interrupt: bool = False
    again: bool = False


class InterruptRunning(Record, frozen=True):
    """Interrupt what runs at this moment."""


class Measure(Record, frozen=True):
    """Say what you run and what you use. Whoever does not answer is stopped, or C code keeps Python's lock."""


class Look(Record, frozen=True):
    """Tell what is asked for, while user code runs."""

    number: int
    inspection: Inspection


class Forget(Record, frozen=True):
    """Their clients have these results."""

    tasks: list[tuple[TaskId, int]]


class Source(Record, frozen=True):
    """An engine of another host that passes a frame on, and the number by which it knows that."""

    url: str
    key: str
    number: Count


class TakeFrame(Record, frozen=True):
    """Take a frame into the shared memory of your host, for all engines there: ask for its pieces.

    With a reference: it is there already, and who kept it has gone; keep it.
    """

    number: Count
    size: Bytes
    reference: bytes = b""
    source: Source | None = None  # who else has its pieces, or will; None: only the controller


class PassOn(Record, frozen=True):
    """Let engines of other hosts have pieces of what you take."""


class Piece(Record, frozen=True):
    """A piece of a frame that was asked for: the one frame of this message."""

    number: Count
    begin: Bytes


class ReleaseFrame(Record, frozen=True):
    """Nobody will be told any more to find this frame there."""

    number: Count


class SendAgain(Record, frozen=True):
    """Send these finished tasks' outputs and results once more."""

    tasks: list[TaskId]


class StopEngine(Record, frozen=True):
    """End this process."""


ToEngine = (
    WelcomeEngine
    | Task
    | Tasks
    | Function
    | Recall
    | InterruptRunning
    | Measure
    | Look
    | Input
    | Forget
    | SendAgain
    | StopEngine
    | Refused
    | HelloWanted
    | ClusterEnds
)

ToCourier = TakeFrame | PassOn | Piece | ReleaseFrame
"""To an engine as well, on its control connection; nothing that its core has to know."""

# ---------------------------------------------------------------- agent and controller


class EngineExited(Record, frozen=True):
    """An engine's process ended."""

    boot: str
    exit: Exit
    restarting: bool
    replaces: str | None = None  # the boot whose id it was to take, in case it never said hello


class HelloAgent(Record, frozen=True):
    """First on an agent's connection."""

    protocol: int
    agent: str
    host: str
    pid: int
    expected: int  # engines it is starting or has
    exits: list[EngineExited] = []  # of late, that may not have been heard of; not among those expected
    generation: int = 0  # counts the agent's connections
    scales: Scales = "own"
    fixed: str = ""  # why the number of the cluster's engines cannot be changed


class AgentTrouble(Record, frozen=True):
    """Engines could not be started, or are not there yet; the reason carries the words of whoever knows.

    ``expected``: so many engines are there or still to come. "": there is no reason any more.
    """

    reason: str
    expected: Count = 0


class AgentDrains(Record, frozen=True):
    """This agent's engines have to end soon: they are to get nothing new, and end when they have nothing to do."""

    reason: str


class EngineMeasured(Record, frozen=True):
    """Answer to MeasureEngine."""

    boot: str
    cpu: float | None  # percent of one core since it was measured last; None: this is the first time
    rss: int  # bytes


FromAgent = HelloAgent | EngineExited | AgentTrouble | AgentDrains | EngineMeasured | Goodbye


class WelcomeAgent(Record, frozen=True):
    """The agent is known."""


class EndEngine(Record, frozen=True):
    """End this engine's process now; start a successor with the same id if asked to."""

    boot: str
    restart: bool


class MeasureEngine(Record, frozen=True):
    """Say what this engine's process uses: it does not answer itself."""

    boot: str


class ScaleAgent(Record, frozen=True):
    """Have so many engines."""

    engines: int
    ids: list[int] = []  # of those that are there and stay


class StopAgent(Record, frozen=True):
    """End all engines and yourself."""


ToAgent = WelcomeAgent | EndEngine | MeasureEngine | ScaleAgent | StopAgent | Refused | HelloWanted | ClusterEnds

FromPeer = FromClient | FromEngine | FromAgent
"""Everything a controller may receive."""

Message = Any
"""Any of the above, where it is only carried."""
