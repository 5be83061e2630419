"""The faults that tests inject, what must come of each, and how soon: the source of docs/reliability.md.

A test says which fault it injects by ``@pytest.mark.fault("its name here")``; each one here has a test.
"""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """One fault."""

    name: str
    outcome: str
    bound: str = ""  # how soon, as its tests assert it; "" where there is nothing to wait for


FAULTS: dict[str, list[Fault]] = {
    "An engine": [
        Fault(
            "an engine is killed while it is idle",
            "the next call to it says `EngineLost` with the signal; a successor takes its id; other engines keep all",
            "2 s",
        ),
        Fault(
            "an engine is stopped while a client looks into it",
            "`peek` raises `NoAnswer`, `stacks` says so in its place; the other engines answer",
            "4 s",
        ),
        Fault(
            "an engine is killed while it is debugged",
            "the debugger ends with `EngineLost`, after Enter where a line was being typed",
            "2 s",
        ),
        Fault(
            "code stops at a breakpoint, and its client has no terminal",
            "it says so and goes on",
            "1 s",
        ),
        Fault(
            "nobody types at the debugger's prompt",
            "it ends after `ParallelEngine.input_timeout` and says so; a program that was stopped goes on",
            "",
        ),
        Fault(
            "a client is killed while it debugs an engine",
            "the debugger ends, the engine keeps its variables and serves the next call",
            "15 s",
        ),
        Fault(
            "an engine is killed while it runs a task",
            "that task fails with `EngineLost(started=True)`, or is started again if `retries` allow; others' go on",
            "5 s",
        ),
        Fault("several engines are killed at once", "each gets a successor with its id", "20 s"),
        Fault("hundreds of engines come at once", "all are admitted, each with its id"),
        Fault(
            "an engine dies again and again",
            "it is given up after `restart_limit` times in 10 s, and whoever wants it is told so",
            "10 s",
        ),
        Fault(
            "an item has a time, and its engine does not answer",
            "the item fails with `TaskTimeout`; nothing runs twice",
        ),
        Fault("engine code ends its process", "`EngineLost` with the exit code, also 0", "5 s"),
        Fault("engine code crashes the interpreter", "`EngineLost` with the signal and what the interpreter said"),
        Fault(
            "an engine dies before the result of the task before has left it",
            "that result, where it is small, comes all the same; only what it ran is lost",
        ),
        Fault(
            "the kernel kills an engine for want of memory",
            "`EngineLost` that says so (`oom`); engines and controller beside it keep all",
        ),
        Fault(
            "an engine is killed whose large result its client has not taken yet",
            "the client gets it when it comes to it",
        ),
        Fault("engine code calls exit", "`RemoteExit`; the engine and its variables live on"),
        Fault(
            "engine code runs in an endless loop",
            "other engines and clients do not notice; an interrupt ends it, and the engine keeps its variables",
            "2 s",
        ),
        Fault(
            "engine code holds Python's lock in C for ever",
            "the engine is not taken for dead; `kill` ends it; others do not notice",
            "5 s",
        ),
        Fault(
            "an engine stands still for a while",
            "calls to it wait, others go on; afterwards it is the same engine with the same variables",
            "2 s after it goes on",
        ),
        Fault("an engine has no memory left by its own limit", "`MemoryError` in the cell; the engine lives on"),
        Fault(
            "engine code has opened all the files it may",
            "its own `OSError`; the engine still hears, answers and lives on",
        ),
        Fault(
            "engine code closes files that are not its own",
            "the call ends, with its value or with `EngineLost`; never silence; other engines keep all",
            "15 s",
        ),
        Fault("engine code forks, and the child comes back", "the task runs once, and the child ends"),
        Fault("engine code leaves processes behind", "nobody waits for them; they end with their engine"),
        Fault("what a task left behind goes on printing", "labelled with its engine, and in nobody else's results"),
        Fault("engine code prints without end", "beginning, end and a count of the rest are kept"),
        Fault("engine code replaces streams, signal handlers, modules or builtins", "the next task runs as before"),
        Fault("what engine code left to be done at its end does not end", "the cluster ends all the same", "8 s"),
        Fault("engines do not start", "`EngineStartError` with the end of their log; nothing is left running"),
        Fault("a task ends every engine it runs on", "it is given up after `retries` more engines, and named"),
    ],
    "The controller": [
        Fault(
            "the controller is killed in the middle of a map",
            "every result comes once; no engine loses a variable; a task runs once",
        ),
        Fault("the controller is killed while it starts again", "one death more; nothing else"),
        Fault("the controller is killed during a large transfer", "the transfer is complete afterwards"),
        Fault(
            "the controller is away for long",
            "questions to it fail with `NotConnected` after `rc.timeout`; results stay pending and come later",
        ),
        Fault(
            "the controller dies while the engine that runs a task stands still",
            "the task is given to no other engine, and gives its value once",
        ),
        Fault(
            "the controller stands still for a while", "nobody is taken for dead; all goes on afterwards", "5 s after"
        ),
        Fault(
            "the controller stands still while an engine is away",
            "the engine has as long as before to come back",
        ),
        Fault("the controller is stopped", "who waits is told so, and times are kept; all goes on afterwards", "5 s"),
        Fault("the controller does not stay up", "pending results fail and say that the cluster has ended", "30 s"),
        Fault(
            "a message brings a mistake in the controller to light",
            "what it asked for fails, and says so; all else goes on, in a controller that begins anew if need be",
        ),
        Fault("two controllers for one profile", "the second says who is the first, and ends"),
        Fault("the port was taken while the controller was away", "it takes another; the connection files say so"),
        Fault(
            "the controller has no descriptor left for another connection",
            "connections that are there go on, further ones are ended; it recovers",
        ),
    ],
    "Agent and zygote": [
        Fault("the agent of an owned cluster is killed", "all its processes end and its files are gone", "20 s"),
        Fault("the agent of a daemonized cluster is killed", "engines go on; the next command gives it a successor"),
        Fault("the zygote is killed", "engines do not notice; it comes back"),
        Fault("a process id belongs to somebody else by now", "nobody is taken for a cluster, nobody is killed"),
    ],
    "A client": [
        Fault("the owner of a cluster is killed", "the cluster ends", "20 s"),
        Fault("a client is killed in the middle of a map", "others do not notice; its work leaves the queues", "20 s"),
        Fault(
            "a client stands still while its results come",
            "others' calls take no longer than ever; afterwards all its results come",
            "2 s for each call of others",
        ),
        Fault(
            "a client stands still while more results come than the controller may hold",
            "it counts as away: engines and the store keep its results, and it gets all of them when it goes on",
        ),
        Fault("a script ends while its calls have not", "it ends without an error; what was sent is run", "6 s"),
        Fault("Ctrl-C at any moment of a call", "what the call started is cancelled; the client can be used at once"),
        Fault("a client is forked", "the fork gets `ForkedClientError`; the parent does not notice"),
        Fault(
            "a client is killed whose large arguments no engine has yet",
            "what it had sent is run with them, and the results are had by their tasks' ids",
        ),
        Fault("a client is gone before its results come", "they are kept, and are had by their tasks' ids"),
        Fault("a callback of a result raises", "logged; other callbacks run"),
        Fault(
            "everything at once, at random",
            "every call ends as it must, every task runs as often as it may, and "
            "no process keeps descriptors, threads, files or memory",
        ),
    ],
    "The network": [
        Fault("the cable is cut", "the engine is shown as away, and is the same engine when it is back", "20 s"),
        Fault(
            "a connection is cut, or a bit of it turned over, at any byte",
            "the call gives its value, having run once",
            "5 s",
        ),
        Fault("the network comes and goes", "every result comes once; engines keep all", "10 s each time"),
        Fault(
            "a machine is gone without a word",
            "its engines are shown as away; when they have been silent for `engine_grace`, what they had is lost",
            "12 s, then `engine_grace`",
        ),
        Fault(
            "the network carries in one direction only",
            "the engine is shown as away, and is the same engine when it is back",
            "25 s",
        ),
        Fault("the network is slow", "a large transfer takes its time, and nobody is taken for dead"),
        Fault("a machine's address leads nowhere", "`NotConnected` that names it", "2 s"),
        Fault(
            "the engine that takes large frames for its host is killed",
            "the engines beside it have what they were sent; another one takes what comes next",
        ),
        Fault(
            "the engine that takes large frames for its host stands still",
            "the engines beside it get the bytes themselves, and another one takes what comes next",
            "5 s",
        ),
        Fault("hosts of engines cannot reach each other", "each gets large frames from the controller", "3 s"),
    ],
    "Bytes and identity": [
        Fault("any bytes before a key was shown", "refused, counted, logged once a minute; no memory is kept"),
        Fault("any messages of somebody who was let in", "refused or harmless; the controller goes on"),
        Fault("a frame that claims to be huge", "its connection is ended at once; nothing is held for it"),
        Fault("many connections that say nothing", "a legitimate one is accepted meanwhile", "1 s"),
        Fault("wrong, missing or old keys", "`AuthenticationError` that says what to do", "2 s"),
        Fault("a key is used for what it is not for", "refused; nothing is executed"),
        Fault("recorded bytes are sent again", "no connection comes of it"),
        Fault("a message comes twice", "it takes effect once"),
        Fault("another user of the host tries to get in", "no file, socket or process is open to them"),
        Fault("two sides speak different versions", "`VersionMismatch` that names both"),
        Fault("two sides have different Pythons", "said at the start; what cannot travel is an error, not a crash"),
        Fault(
            "a result runs code as it is rebuilt",
            "never in the controller, which cannot rebuild anything; only where its client fetches it",
        ),
    ],
    "Objects": [
        Fault(
            "an object cannot be pickled, or misbehaves when it is",
            "`PayloadError` or its own error; the engine lives on",
        ),
        Fault(
            "an exception's class misbehaves or is not there",
            "a `RemoteError` with the engine's traceback, or its own type",
        ),
        Fault(
            "a task of joblib's ends its engine", "`EngineLost` from the call, with the exit code; the next call works"
        ),
        Fault("a graph of calls has a cycle", "`ValueError` that names the cycle; nothing is sent"),
        Fault("a module that is sent has a C extension", "`PayloadError` that says so; nothing is sent"),
        Fault("a module that is sent does not compile", "`SyntaxError` that names file and line; nothing is sent"),
        Fault("a checkpoint is truncated, damaged or from another version", "`CheckpointError` that says which"),
        Fault("an engine cannot import a module", "`PayloadError` that names it and says why it was not sent along"),
        Fault(
            "an object does harm as it is pickled, rebuilt, used or let go of",
            "an error that says what it did: `PayloadError`, `RemoteError`, its own one, or `EngineLost` where it "
            "ended the engine; other engines and calls do not notice",
            "10 s",
        ),
    ],
    "Files and time": [
        Fault("a connection file is damaged, foreign or readable by others", "refused, and the reason is said"),
        Fault("the wall clock jumps", "nothing that waits looks at it"),
        Fault("a directory of ours was made by somebody else", "it is not used"),
        Fault("a directory cannot be made", "an error that names it"),
        Fault("the directory for temporary files has a long name", "the socket is where its name fits"),
        Fault(
            "the disk of a cluster's files is full",
            "engines, controller and their successors go on without what they would write",
        ),
        Fault(
            "the memory that a host's processes share is full, or gone",
            "objects travel through the socket; what engines have stays theirs",
        ),
        Fault("a whole cluster is killed at once", "the memory that it shared is freed by the next cluster"),
        Fault("the host allows no further process or thread", "`EngineStartError` with the reason"),
        Fault("the processors are overloaded", "nobody is taken for dead"),
        Fault("everything stands still for a while", "all goes on, with the same engines and variables", "10 s after"),
        Fault(
            "somebody removes the socket of the controller, or all files of a cluster",
            "they are made anew; who is connected does not notice, and nobody loses a variable",
            "20 s",
        ),
    ],
}
"""By whom they befall."""

NAMES = [fault.name for faults in FAULTS.values() for fault in faults]
