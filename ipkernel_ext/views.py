"""Some engines of a cluster: what ``RemoteController`` and its views have in common; and the views.

Each call resolves its targets, pickles what travels, sends one submission and gives back a result
object, or waits for its value. How tasks travel is the channel's business.
"""

from __future__ import annotations

import difflib
import functools
import keyword
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from ipkernel_ext import (
    bars,
    checkpoints,
    dialogue,
    extras,
    graphs,
    imports,
    outcomes,
    payload,
    peeking,
    sequences,
    stacks,
    synced_modules,
    targets,
)
from ipkernel_ext.brief import brief
from ipkernel_ext.checkpoints import Checkpoint
from ipkernel_ext.chunks import Columns, Rows
from ipkernel_ext.conditions import NONE, Conditions, MapOptions, conditions, natural, results_of, task_id
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.client import Submission
from ipkernel_ext.core.messages import EngineRecord, TaskId
from ipkernel_ext.core.wire import Frame
from ipkernel_ext.errors import NoEngines, NoSuchEngine, ResultExpired
from ipkernel_ext.executor import EngineExecutor
from ipkernel_ext.history import Call
from ipkernel_ext.interruption import guarded
from ipkernel_ext.link import PATIENCE, Link, trouble
from ipkernel_ext.mapping import Flight, feed, send_all, stream
from ipkernel_ext.net.client_channel import Roster
from ipkernel_ext.pieces import ExecuteResult, Piece, decoded
from ipkernel_ext.profiling import Profile
from ipkernel_ext.remote_values import RemoteValue
from ipkernel_ext.results import (
    AsyncResult,
    CodeResult,
    DebugResult,
    FetchedResult,
    JoinedResult,
    ListResult,
    MapResult,
    SingleResult,
)
from ipkernel_ext.targets import Chosen, Spec
from ipkernel_ext.units import a

After = AsyncResult | str | Iterable[AsyncResult | str] | None
"""What a call is to come after: results, and ids of tasks."""


@brief
class Engines:
    """Some engines of a cluster: what ``RemoteController`` and its views have in common.

    Every call takes ``targets=`` and ``block=``, which override the attributes of the same names.
    With a single integer target a call gives the value, otherwise a list in engine order; with
    ``block=False`` an ``AsyncResult``.
    """

    def __init__(self, link: Link, targets: Spec, block: bool) -> None:
        self._link = link
        self._targets: Spec = targets
        self._block = block

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        if not name.startswith("_") and not hasattr(kind, name):
            settable = [known for known in dir(kind) if getattr(getattr(kind, known), "fset", None) is not None]
            near = difflib.get_close_matches(name, settable, 1)
            hint = f"did you mean {near[0]}?" if near else f"what can be set are {', '.join(settable)}"
            raise AttributeError(f"a {kind.__name__} has no attribute {name!r}: {hint}")
        super().__setattr__(name, value)

    @property
    def targets(self) -> Spec:
        """Whom calls address, unless they say so themselves; see ``targets.Spec``."""
        return self._targets

    @targets.setter
    def targets(self, spec: Spec) -> None:
        targets.checked(spec)
        self._targets = spec

    @property
    def block(self) -> bool:
        """Whether calls wait for their value."""
        return self._block

    @block.setter
    def block(self, wait: bool) -> None:
        if not isinstance(wait, bool):
            raise TypeError(f"block is True or False, not {wait!r}")
        self._block = wait

    # ------------------------------------------------------------ which engines

    @property
    def ids(self) -> list[int]:
        """Ids of these engines, in order."""
        raise NotImplementedError

    @property
    def engines(self) -> list[EngineRecord]:
        """What is known of these engines, in order; they are asked what they run and use at this moment.

        ``cpu`` is percent of one core since somebody asked last, ``rss`` bytes, ``task``, ``running`` and
        ``seconds`` say what it runs. Whoever has not answered after 3 s is ``unresponsive``: its process is
        stopped, or C code keeps Python's lock. From then on it is not waited for, and what it uses is what its
        host's agent sees; where there is none, as of a rank of MPI, ``cpu`` is None.
        """
        body = self._link.ask(lambda request: m.Ask(request, "engines", PATIENCE), PATIENCE)
        measured = {engine.boot: engine for engine in msgspec.convert(body["engines"], list[EngineRecord])}
        return [measured.get(engine.boot, engine) for engine in self.known]

    @property
    def known(self) -> list[EngineRecord]:
        """What was last heard of these engines, in order, without asking anybody."""
        known = self._link.roster().engines
        return [known[id] for id in self.ids if id in known]

    def __reduce__(self) -> Any:
        raise payload.StaysHere(f"{a(type(self).__name__)} cannot be sent to an engine")

    def __len__(self) -> int:
        return len(self.ids)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[View]:
        return iter([View(self._link, id, self.block) for id in self.ids])

    def _along(self) -> bool:
        """Whether integers count along ``ids``."""
        return True

    def _choose(self, spec: Spec | None) -> Chosen:
        """The engines that a call addresses. ``None``: this object's own targets."""
        roster = self._link.roster()
        if spec is None:
            return self._own(roster)
        return self._chosen(spec, roster.ids)

    def _chosen(self, spec: Spec, ids: list[int], along: bool = False) -> Chosen:
        """Some of these engines; of one that was here and died for good, the error says how."""
        try:
            return targets.choose(spec, ids, self._link.roster().engines, along=along)
        except NoSuchEngine as error:
            wanted = targets.checked(spec)
            named = [wanted] if isinstance(wanted, int) else wanted if isinstance(wanted, list) else []
            missing = [] if along else [id for id in named if id >= 0 and id not in ids]
            reason = self._reason(engine=missing[0]) if missing else ""
            raise (NoSuchEngine(f"{error}: {reason}") if reason else error) from None

    def _own(self, roster: Roster) -> Chosen:
        raise NotImplementedError

    # ------------------------------------------------------------ code

    def execute(self, code: str, *, targets: Spec | None = None, block: bool | None = None) -> Any:
        """Run source code on the targets, as a cell of IPython.

        Returns
        -------
        ExecuteResult, or ResultList over several targets
        """
        if not isinstance(code, str):
            raise TypeError(f"code is a string, not {code!r}")
        return self._run_code("execute", m.Execute(code), targets, block)

    def run(self, path: str | Path, *, targets: Spec | None = None, block: bool | None = None) -> Any:
        """Run a file of this machine on the targets.

        Raises
        ------
        FileNotFoundError
            The file is not here. Nothing was sent.
        """
        path = Path(path).expanduser()
        return self._run_code("run", m.Execute(path.read_text(), str(path.resolve())), targets, block)

    def _run_code(self, call: str, work: m.Execute, targets: Spec | None, block: bool | None) -> Any:
        chosen = self._choose(targets)
        kind = SingleResult if chosen.single else CodeResult

        def decode(piece: Piece) -> ExecuteResult:
            return ExecuteResult(piece, self._fetch)

        def send() -> AsyncResult:
            result = self._link.send(kind, chosen, work, (), decode=decode)
            self._link.history.add(call, work.filename or work.code, result)
            return result

        return self._give(send, block)

    def _fetch(self, engine: int, execution: int) -> Any:
        chosen = Chosen([engine], True)
        return guarded(lambda: self._link.send(SingleResult, chosen, m.Value(execution), ()), AsyncResult.get)

    def apply(
        self,
        f: Callable[..., Any],
        /,
        *args: Any,
        targets: Spec | None = None,
        on: Spec | None = None,
        after: After = None,
        retries: int = 0,
        block: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call ``f(*args, **kwargs)`` on the targets. A ``Ref`` among the arguments is resolved there.

        Parameters
        ----------
        on
            Only those of the targets that are among these too.
        after
            Results, or ids of tasks, that must have ended without an error before it runs. It takes
            its place in an engine's order of calls only then.
        retries : int
            How often it may be started again on the engine's successor, when the engine dies and is restarted.

        Raises
        ------
        DependencyFailed
            One of ``after`` failed; ``f`` was not called.
        """
        return self._apply(f, args, kwargs, self._narrowed(targets, on), block, conditions(retries, after))

    def _quietly(self, f: Callable[..., Any], /, *args: Any, targets: Spec | None = None, block: bool = True) -> Any:
        """Call a function of this package's on the targets; it is not the user's own call, so not in the history."""
        return self._apply(f, args, {}, self._choose(targets), block, noted=False)

    def _apply(
        self,
        f: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        chosen: Chosen,
        block: bool | None,
        subject: Conditions = NONE,
        *,
        noted: bool = True,
    ) -> Any:
        digest, function = payload.dumps_function(f)
        kind = SingleResult if chosen.single else ListResult
        frames = self._kept(payload.dumps_call(args, kwargs), block)

        def send() -> AsyncResult:
            work = m.Apply(digest, name=payload.name_of(f))
            result = self._link.send(kind, chosen, work, frames, function, subject)
            if noted:
                self._link.history.add("apply", payload.name_of(f), result)
            return result

        return self._give(send, block)

    def reset(self, *, targets: Spec | None = None, block: bool | None = None) -> Any:
        """Empty the targets' namespaces."""
        return self._call(m.Reset(), (), targets, block)

    def keys(self, *, targets: Spec | None = None, block: bool | None = None) -> Any:
        """The user's names on the targets, sorted."""
        return self._call(m.Keys(), (), targets, block)

    # ------------------------------------------------------------ objects

    def push(self, names: Mapping[str, Any], *, targets: Spec | None = None, block: bool | None = None) -> Any:
        """Bind names on the targets: all of them or, where one cannot be pickled, none."""
        if not isinstance(names, Mapping):
            raise TypeError(f"push takes a dict of names and their values, not {names!r}")
        for name in names:
            _check_name(name)
        return self._call(m.Push(list(names)), payload.dumps(dict(names), name="names"), targets, block)

    def pull(self, names: str | Iterable[str], *, targets: Spec | None = None, block: bool | None = None) -> Any:
        """The values of names on the targets; for several names a tuple per engine.

        Raises
        ------
        NameNotFound
            An engine does not have it; names close ones.
        """
        if not isinstance(names, Iterable):
            raise TypeError(f"pull takes a name or several names, not {names!r}")
        several = not isinstance(names, str)
        wanted = [names] if isinstance(names, str) else list(names)
        for name in wanted:
            _check_name(name)

        def decode(piece: Piece) -> Any:
            values = decoded(piece)
            return tuple(values) if several else values[0]

        return self._call(m.Pull(wanted), (), targets, block, decode=decode)

    def __contains__(self, name: str) -> bool:
        chosen = self._choose(None)
        every = guarded(
            lambda: self._link.send(ListResult, chosen._replace(single=False), m.Keys(), ()), AsyncResult.get
        )
        return all(name in keys for keys in every)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        self.push({name: value}, block=True)

    def __delitem__(self, name: str) -> None:
        _check_name(name)
        self._call(m.Delete([name]), (), None, True)

    def __getitem__(self, key: Any) -> Any:
        """A variable (for an identifier), or a view (for an index, slice, list, tag or host)."""
        if isinstance(key, str) and ":" not in key:
            return self.pull(key, block=True)
        if isinstance(key, str):
            targets.choose(key, self.ids, self._link.roster().engines)
            return View(self._link, key, self.block, within=self._fixed())
        ids, single = self._chosen(key, self.ids, self._along())
        return View(self._link, ids[0] if single else ids, self.block)

    def _fixed(self) -> list[int] | None:
        """Ids that tags and hosts are looked up among; None: all there are at that moment."""
        return None

    def scatter(self, name: str, sequence: Any, *, targets: Spec | None = None, block: bool | None = None) -> Any:
        """Cut a sequence along its first axis, one piece per target, as ``numpy.array_split`` cuts."""
        _check_name(name)
        chosen = self._choose(targets)
        self._link.need(chosen.ids)
        pieces = sequences.cut(sequence, len(chosen.ids))
        frames = [self._kept(payload.dumps({name: piece}, name=name), block) for piece in pieces]
        kind = SingleResult if chosen.single else ListResult
        return self._give(lambda: self._link.send_each(kind, chosen, m.Push([name]), frames), block)

    def gather(self, name: str, *, targets: Spec | None = None, block: bool | None = None) -> Any:
        """The targets' pieces of a name, joined: arrays, DataFrames (rows), Arrow tables, strings, lists, tuples."""
        _check_name(name)
        chosen = self._choose(targets)._replace(single=False)

        def join(values: list[Any]) -> Any:
            return sequences.join([value[0] for value in values])

        make = functools.partial(JoinedResult, join)
        return self._give(lambda: self._link.send(make, chosen, m.Pull([name]), ()), block)

    def remote_value(self, name: str, *, targets: Spec | None = None) -> RemoteValue:
        """A handle of the targets' variable, which stays where it is: shapes first, items on demand.

        Raises
        ------
        NameNotFound
            An engine does not have it.
        """
        _check_name(name)
        chosen = self._choose(targets)
        self._link.need(chosen.ids)
        return RemoteValue(self, name, chosen)

    def checkpoint(self, path: str | Path, *, targets: Spec | None = None) -> Checkpoint:
        """Save the targets' variables into a file on this machine.

        Each engine's are those of one moment, after what this client has sent before. What cannot be pickled is
        left out; a warning, and ``skipped`` of what this gives, list it with the path inside the object. A file that
        is there already is replaced when the new one is complete.

        Raises
        ------
        FileNotFoundError
            There is no such directory.
        """
        chosen = self._choose(targets)
        self._link.need(chosen.ids)
        return checkpoints.save(self, path, chosen)

    def restore(
        self, path: str | Path, *, redistribute: bool | Iterable[str] = False, targets: Spec | None = None
    ) -> Checkpoint:
        """Bind the variables of a checkpoint on the targets; other variables there stay.

        An engine gets those of the engine that had its id, or, where the ids are others, its place in order.

        Parameters
        ----------
        redistribute : bool or names
            For another number of engines. These names are joined, and cut anew as ``scatter`` cuts; True: all
            sequences that were not the same on all engines. What was the same on all, every target gets. What is
            neither is left out; a warning, and ``skipped`` of what this gives, list it.

        Raises
        ------
        CheckpointError
            The file is no checkpoint, is truncated, or from another version. Nothing was restored.
        ValueError
            It has the variables of another number of engines.
        CompositeError
            Some could not be rebuilt on their engine. All others are restored.
        """
        chosen = self._choose(targets)
        self._link.need(chosen.ids)
        return checkpoints.restore(self, path, chosen, redistribute)

    def _bind(self, names: list[str], frames: Sequence[Frame], id: int) -> AsyncResult:
        """Bind names on an engine to values that are pickled already; nobody changes the frames."""
        return self._link.send(SingleResult, Chosen([id], True), m.Push(names), frames)

    def sync_modules(
        self, what: str | Path | ModuleType | None = None, *, targets: Spec | None = None
    ) -> synced_modules.Synced:
        """Send a module or package of this machine to the targets, and later what was edited.

        It goes as source text, and is imported there before anything on the engine's host. What an engine has
        imported already is loaded anew in place, as IPython's autoreload does it.

        Parameters
        ----------
        what
            A module, the path of one, of a package or of a directory of them, or an importable name. Of a module in a
            package, the whole package. None: only what was edited, or is new, of what was sent before.

        Raises
        ------
        SyntaxError
            A module does not compile; names file and line. Nothing was sent.
        PayloadError
            It has a C extension, or no source.
        FileNotFoundError
            There is no such thing.
        """
        if what is not None:
            self._link.synced.add(what)
        chosen = self._choose(targets)
        self._link.need(chosen.ids)
        return self._link.synced.send(self, chosen, self._link.boots(chosen.ids))

    def _follow_synced(self) -> None:
        """Send engines what they do not have of what was sent."""
        chosen = self._choose("all")
        boots = self._link.boots(chosen.ids)
        if self._link.synced.behind(boots.values()):
            self._link.synced.send(self, chosen, boots)

    def sync_imports(self, *, targets: Spec | None = None) -> imports.SyncImports:
        """``with rc.sync_imports(): import numpy as np`` imports here and on the targets, under the same names.

        Raises
        ------
        ImportError
            Here, or as an engine's error, at the end of the block: the module cannot be imported there.
        """

        def repeat(statements: list[str]) -> None:
            self._apply(imports.repeat, (statements,), {}, self._choose(targets), True)

        return imports.SyncImports(repeat)

    # ------------------------------------------------------------ balanced work

    def submit(
        self,
        f: Callable[..., Any],
        /,
        *args: Any,
        targets: Spec | None = None,
        on: Spec | None = None,
        after: After = None,
        retries: int = 0,
        block: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Call ``f(*args, **kwargs)`` on whichever engine is free first.

        Parameters
        ----------
        targets, on
            The engines that may run it; where both are given, those that both name.
        after
            Results, or ids of tasks, that must have ended without an error before it runs.
        retries : int
            How often it may be started again when its engine dies. An exception is no reason.
        block : bool
            Wait, and give the value.

        Returns
        -------
        AsyncResult
            It is a ``concurrent.futures.Future``.

        Raises
        ------
        DependencyFailed
            From the result: one of ``after`` failed; ``f`` was not called.
        NoEngines
            None of the engines that may run it is here or expected.
        """
        link = self._link
        among = self._among(targets, on)
        subject = conditions(retries, after)
        digest, function = payload.dumps_function(f)
        frames = link.kept(payload.dumps_call(args, kwargs), waits=False)
        work = m.Apply(digest, link.next_seed(), payload.name_of(f))
        return self._give(partial(link.balance, SingleResult, work, frames, among, function, subject), block)

    def map(
        self,
        f: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        ordered: bool = True,
        chunksize: int | str = "auto",
        retries: int = 0,
        timeout: float | None = None,  # seconds
        return_exceptions: bool = False,
        progress: Any = False,
        seed: int | None = None,
        targets: Spec | None = None,
        block: bool | None = None,
    ) -> Any:
        """``[f(x) for x in seq]``, balanced over the engines.

        Parameters
        ----------
        iterables
            One per argument of ``f``; the shortest ends it.
        ordered : bool
            Values in order of the items, or of their arrival.
        chunksize : int or "auto"
            Items per task. "auto" learns from the first ones how long they take.
        retries : int
            How often a chunk may be started again when its engine dies.
        timeout : float
            Seconds that each item has, from its start on an engine. Then it is interrupted, and fails
            with ``TaskTimeout``. If it does not obey within 5 s it fails all the same, while the engine,
            which cannot do anything else, shows the state ``overrun`` until it ends or is killed. Where
            the engine does not answer at all (its process is stopped, or C code keeps Python's lock), what
            it has of the map fails up to 9 s after an item's time.
        return_exceptions : bool
            Failed items give their exception instead of raising it.
        progress : bool or bar of tqdm
            Show a bar while the call waits.
        seed : int
            Each item finds ``random`` and ``numpy.random`` seeded with a stream of its own, which
            depends on this and the item's index alone.

        Raises
        ------
        Exception
            What the first failing item, in order of the items, raised; a note names the item.
        """
        if progress and not self._blocks(block):
            raise ValueError("progress shows a bar while the call waits; with block=False use wait_interactive()")
        options = MapOptions(f, iterables, chunksize, conditions(retries, None, timeout), return_exceptions, seed)
        among = self._among(targets)
        columns = Columns(iterables)
        link = self._link
        now = link.workers(among) if len(columns) else 0
        send_chunk = link.sender(options, among, waits=self._blocks(block))
        forgotten: list[AsyncResult | None] = []

        def make() -> MapResult:
            result = link.map(options, len(columns), ordered)
            forgotten.append(link.history.add("map", payload.name_of(f), result))
            return result

        def send() -> MapResult:
            result = make()
            send_all(result, columns, options.size, now, send_chunk)
            return result

        def engines() -> int:
            return link.workers(among)

        def fed(result: MapResult, bar: Any = None) -> Any:
            show = (lambda done: None) if bar is None else (lambda done: bar.update(done - bar.n))
            feed(result, columns, options.size, engines, send_chunk, show)
            forgotten.clear()  # while engines are at work
            if bar is not None:
                result.show_progress(bar)
            return result.get()

        if not self._blocks(block):
            return guarded(send, _itself)
        with _bar(progress, len(columns)) as bar:
            return guarded(make, lambda result: fed(result, bar))

    def imap(
        self,
        f: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        ordered: bool = True,
        chunksize: int | str = "auto",
        retries: int = 0,
        timeout: float | None = None,  # seconds
        return_exceptions: bool = False,
        progress: Any = False,
        seed: int | None = None,
        targets: Spec | None = None,
    ) -> Generator[Any, None, None]:
        """The values of ``map`` one by one; the input may be endless, and is taken as values are taken.

        A few chunks for each engine are under way, or done and not yet taken; no more. Nothing is
        sent before the first value is asked for. Closing the generator cancels what was sent.

        Parameters
        ----------
        Those of ``map``.
        """
        options = MapOptions(f, iterables, chunksize, conditions(retries, None, timeout), return_exceptions, seed)
        among = self._among(targets)
        return self._stream(options, among, Rows(iterables), ordered, progress)

    def _stream(
        self, options: MapOptions, among: list[int] | None, rows: Rows, ordered: bool, progress: Any
    ) -> Generator[Any, None, None]:
        link = self._link
        pace = link.pace(options.digest)
        flight = Flight(link.channel, link.channel.roster.hosts, ordered, pace)
        send = link.sender(options, among, waits=False)
        wanted = options.return_exceptions
        with _bar(progress) as bar:

            def show(done: int) -> None:
                if bar is not None:
                    bar.update(done - bar.n)

            yield from stream(flight, rows, options.size, lambda: link.workers(among), send, wanted, pace, show)

    def run_graph(
        self, graph: Any, *, return_exceptions: bool = False, progress: Any = False, targets: Spec | None = None
    ) -> dict[Any, Any]:
        """Run a graph of calls, balanced: each node when all before it have ended, with their values as arguments.

        Parameters
        ----------
        graph : networkx.DiGraph
            A node's attributes: ``function`` (a node that is callable needs none), ``args`` and ``kwargs``, which come
            after the values of the nodes before it, ``on`` and ``retries`` as of ``submit``. An edge's attribute
            ``passes``: True, the value is passed by position, in the order of the edges; a name, as that argument;
            False, it is not.
        return_exceptions : bool
            Nodes that fail give their exception, and what comes after them a ``DependencyFailed`` that names the chain.
        progress : bool or bar of tqdm
            Show a bar.

        Returns
        -------
        dict
            Values by node.

        Raises
        ------
        ValueError
            The graph has a cycle, which is named. Nothing was sent.
        Exception
            What the first node raised that failed; notes name the node, and those that are not run because of it. The
            rest is cancelled.
        """
        total = len(graph) if hasattr(graph, "nodes") else None
        with _bar(progress, total) as bar:

            def show(done: int) -> None:
                if bar is not None:
                    bar.update(done - bar.n)

            return graphs.run(self, graph, return_exceptions, targets, show)

    def executor(self, max_workers: int | None = None, targets: Spec | None = None) -> EngineExecutor:
        """These engines as a ``concurrent.futures.Executor``.

        Parameters
        ----------
        max_workers : int or None
            Use so many of them; None: all.

        Raises
        ------
        ValueError
            ``max_workers`` is not greater than 0.
        """
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        among = self._among(targets)
        workers = self._link.workers(among)
        if max_workers is not None and max_workers < workers:
            among = (self.ids if among is None else among)[:max_workers]
            workers = max_workers
        return EngineExecutor(self._link.channel, functools.partial(self._link.call, among), workers)

    def register_joblib_backend(self, name: str = "ipkernel_ext") -> None:
        """Have joblib, and so scikit-learn, run on these engines.

        ``with joblib.parallel_config(backend="ipkernel_ext"):`` around what parallelizes by joblib, such as
        ``GridSearchCV(…).fit(X, y)``. Large arrays among the arguments go to each engine once, and are read-only
        there; what calls on engines parallelize themselves runs there one after the other.

        Raises
        ------
        ImportError
            joblib is not installed.
        """
        extras.needed("joblib", "joblib")
        from ipkernel_ext import joblib_backend

        joblib_backend.register(self, name)

    def become_dask(self, **options: Any) -> Any:
        """Have each of these engines be a worker of Dask too, and give the client of its scheduler.

        The scheduler is in this process, and ends with it. Workers run beside the engine's own work, in the same
        memory: ``rc.remote_value("A").to_dask()`` is a Dask array of what engines have. Called again, engines join
        that have come since.

        Parameters
        ----------
        options
            Of ``distributed.Worker``, such as ``nthreads`` (1) and ``memory_limit``.

        Returns
        -------
        distributed.Client
            Dask's collections use it without being told.

        Raises
        ------
        ImportError
            Dask is not installed, here or on an engine.
        """
        for module in ("distributed", "cryptography"):
            extras.needed(module, "dask")
        from ipkernel_ext.dask_cluster import DaskCluster

        ids = self._choose(None).ids
        self._link.need(ids)
        if self._link.dask is None:
            self._link.dask = DaskCluster(self._link.client)
        try:
            self._link.dask.join(ids, options)
        except BaseException:
            self.stop_dask()
            raise
        return self._link.dask.client

    def stop_dask(self) -> None:
        """End what ``become_dask`` began: workers, scheduler and client. The engines and their variables stay."""
        cluster, self._link.dask = self._link.dask, None
        if cluster is not None:
            cluster.close(engines=True)

    def parallelize(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """A function of sequences: ``parallelize(f)(seq)`` gives ``[f(x) for x in seq]``, balanced."""

        _check_callable(f)

        @functools.wraps(f)
        def parallelized(*iterables: Iterable[Any]) -> Any:
            return self.map(f, *iterables)

        return parallelized

    def remote(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose calls run on the targets."""

        _check_callable(f)

        @functools.wraps(f)
        def remote(*args: Any, **kwargs: Any) -> Any:
            return self._apply(f, args, kwargs, self._choose(None), None)

        return remote

    def seed(self, n: int, *, targets: Spec | None = None, block: bool | None = None) -> Any:
        """Let ``random`` and ``numpy.random`` give streams that are independent, and the same again for the same n.

        Each of the targets gets a stream of its own, by its id. Each balanced call of this client
        from now on gets one by its number, and each of its items one by its index; so what they
        give depends neither on how many engines there are nor on which of them runs what.
        """
        number = natural("seed", n)
        self._link.seed(number)
        return self._call(m.Seed(f"{number}/2"), (), targets, block)

    def _among(self, spec: Spec | None, on: Spec | None = None) -> list[int] | None:
        """The engines that balanced work is kept to; None: any."""
        if on is None and self._any(spec):
            return None
        return self._narrowed(spec, on).ids

    def _any(self, spec: Spec | None) -> bool:
        """Whether this names all engines, also those still to come."""
        return False

    def _narrowed(self, spec: Spec | None, on: Spec | None) -> Chosen:
        """The engines that both specifications name."""
        chosen = self._choose(spec)
        if on is None:
            return chosen
        allowed = set(self._choose(on).ids)
        both = [id for id in chosen.ids if id in allowed]
        if isinstance(on, Iterable) and not isinstance(on, str) and not allowed:
            raise ValueError(f"on={on!r} names no engine at all; leave it out where any may run it")
        if chosen.ids and not both:
            where = targets.summary(chosen.ids)
            raise NoEngines(f"on={on!r} names none of the targets: it is {targets.summary(allowed)}, they are {where}")
        return Chosen(both, chosen.single)

    # ------------------------------------------------------------ control

    def interrupt(self, *, targets: Spec | None = None) -> None:
        """Interrupt what the targets run at this moment; queued tasks go on."""
        ids = self._choose(targets).ids
        if ids:
            self._link.channel.tell(m.Interrupt(ids))

    def cancel(self, results: AsyncResult | Iterable[AsyncResult]) -> None:
        """Take queued tasks of these results away and interrupt running ones."""
        for result in results_of(results, "cancel"):
            result.cancel()

    def clear_queue(self, *, targets: Spec | None = None) -> None:
        """Take away whatever the targets have not started; it raises ``TaskCancelled``."""
        ids = None if self._any(targets) else self._choose(targets).ids
        self._link.ask(lambda request: m.ClearQueue(request, ids))

    def kill(self, *, targets: Spec | None = None) -> None:
        """End the targets' processes now."""
        self._end(self._choose(targets).ids, restart=False)

    def restart(self, *, targets: Spec | None = None) -> None:
        """End the targets' processes and start new ones with the same ids and empty namespaces."""
        ids = self._choose(targets).ids
        self._chosen(ids, self._link.roster().ids)
        boots = {id: engine.boot for id, engine in self._link.roster().engines.items() if id in ids}
        self._end(ids, restart=True)

        def back(roster: Roster) -> bool:
            return all(id in roster.engines and roster.engines[id].boot != boot for id, boot in boots.items())

        if not self._link.channel.wait_roster(back, self._link.restart_timeout):
            raise NoEngines(f"engines did not come back within {self._link.restart_timeout:g} s: {trouble(self._link)}")
        self._link.forget_boots(boots)

    def _end(self, ids: list[int], restart: bool) -> None:
        self._link.need(ids)
        answer = self._link.ask(lambda request: m.EndEngines(request, ids, restart))
        if answer["unsupervised"]:
            listed = targets.summary(answer["unsupervised"])
            raise NoEngines(f"engines {listed} were started by hand: nobody is there to restart them")

    def queue_status(self, *, targets: Spec | None = None) -> dict[Any, Any]:
        """By engine id ``{"queued", "running", "done"}``, and under ``"unassigned"`` how many tasks no engine has."""
        ids = self._choose(targets).ids
        body = self._link.ask(lambda request: m.Ask(request, "queue_status"))
        status: dict[Any, Any] = {
            id: {"queued": queued, "running": running, "done": done}
            for id, queued, running, done in body["engines"]
            if id in ids
        }
        status["unassigned"] = body["unassigned"]
        return status

    def why(self, x: int | str | AsyncResult | None = None) -> str:
        """Why an engine or a task is not running, not here or not answering: one sentence.

        Parameters
        ----------
        x : int, str or AsyncResult, optional
            An engine's id, a task's id, or a result; of a result's tasks the one with the worst news. By
            default all that this client waits for.

        Raises
        ------
        NoSuchEngine
            There is no such engine, there was none, and none is expected.
        LookupError
            Nothing is known of such a task.
        """
        if x is None:
            return self._reason() or "nothing waits"
        if isinstance(x, AsyncResult):
            open = [id for id, result in x.tasks() if result is None]
            ended = [(id, result) for id, result in x.tasks() if result is not None]
            if open:
                return self._reason(tasks=open) or f"{x} is on its way to the controller"
            return outcomes.told(ended)
        if isinstance(x, str):
            return self._why_task(task_id(x))
        if isinstance(x, bool) or not hasattr(x, "__index__"):
            raise TypeError(f"why takes an engine's id, a task's id or a result, not {x!r}")
        x = x.__index__()
        if self._along() or x < 0:
            x = targets.choose(x, self.ids, {}, along=self._along()).ids[0]
        reason = self._reason(engine=x)
        if not reason:
            targets.choose(x, self._link.roster().ids, {})
        return reason

    def _why_task(self, id: TaskId) -> str:
        try:
            ended = dict(self._link.history.get(str(id)).tasks())[id]
        except (LookupError, ResultExpired):
            ended = None
        if ended is not None:
            return outcomes.told([(id, ended)])
        reason = self._reason(tasks=[id])
        if not reason:
            raise LookupError(f"nothing is known of task {id}: its client has its result, or it never was")
        return reason

    def _reason(self, engine: int | None = None, tasks: list[TaskId] | None = None) -> str:
        text: str = self._link.ask(lambda request: m.Why(request, engine, tasks), PATIENCE)["text"]
        return text

    # ------------------------------------------------------------ looking inside

    def peek(self, name: str, *, targets: Spec | None = None, return_exceptions: bool = False) -> Any:
        """The value of a variable while the targets are busy: of the namespace or, else, of the function that runs.

        What cannot be pickled, or has more than some megabytes, comes as its representation (``peeking.InWords``).

        Parameters
        ----------
        return_exceptions : bool
            Of several targets, those that do not have it give their error instead of raising it.

        Raises
        ------
        NameNotFound
            There is no such variable; names close ones.
        NoAnswer
            The engine tells nothing: its process is stopped, or C code keeps Python's lock.
        """
        _check_name(name)
        chosen = self._choose(targets)
        told = self._link.look(chosen.ids, m.Peek(name, peeking.limit(len(chosen.ids))))
        return peeking.given(told, chosen.single, return_exceptions)

    def stacks(self, *, targets: Spec | None = None) -> Any:
        """Where the code of the targets is at this moment; only frames of user code.

        Returns
        -------
        Stack, or StackList over several targets
            Which shows equal ones once. An engine that does not answer has none, and a ``note`` that says why.
        """
        chosen = self._choose(targets)
        found = [stacks.stack_of(*told) for told in self._link.look(chosen.ids, m.Stacks())]
        return found[0] if chosen.single else stacks.StackList(found)

    def profile(self, interval: float = 0.01, *, targets: Spec | None = None) -> Profile:  # seconds
        """Sample where the targets' code spends its time, until ``p.stop()`` or the end of ``with rc.profile() as p:``.

        It samples whatever they run, also what others have sent. ``p`` shows a table; ``p.save("page.html")`` writes
        flame graphs, computing and waiting apart.
        """
        ids = self._choose(targets).ids
        return Profile(functools.partial(self._link.look, ids), interval)

    def debug(self, engine: int | None = None) -> None:
        """Debug, at a prompt of IPython's debugger, what failed last on an engine, or what waits there at a breakpoint.

        Other engines go on, and calls to this one come after it; ``quit`` leaves its variables alone.

        Parameters
        ----------
        engine : int, optional
            By default one on which code of this client waits at a ``breakpoint()`` or, else, the one on which the
            last call failed.

        Raises
        ------
        NothingToDebug
            Nothing has failed there since the engine began, or was reset.
        """
        id = None if engine is None else self._chosen(engine, self.ids, self._along()).ids[0]
        waits = self._link.asking(id, self.ids)
        if waits is not None:
            dialogue.hold(waits, id)
            return
        chosen = targets.Chosen([self._link.failed_on(self.ids) if id is None else id], True)
        guarded(lambda: self._link.send(DebugResult, chosen, m.Debug(), ()), dialogue.attend)

    # ------------------------------------------------------------ the magics

    def activate(self) -> None:
        """Have the magics of the running IPython use this client, and address what its own calls do.

        The client stays yours to close; then the magics go back to what they used before.

        Raises
        ------
        RuntimeError
            This is no IPython session.
        """
        ipython = sys.modules.get("IPython")
        shell = None if ipython is None else ipython.get_ipython()
        if shell is None:
            raise RuntimeError(
                "activate() is for the magics of IPython and Jupyter, and this is no such session; "
                "the calls of RemoteController do the same without it"
            )
        shell.extension_manager.load_extension(__name__.partition(".")[0])
        magics = shell.magics_manager.registry["ParallelMagics"]
        magics.use(self._link.client, targets.as_text(self._activated()), self.block)

    def _activated(self) -> Spec:
        """Whom the magics are to address."""
        return self.targets

    # ------------------------------------------------------------ what was called

    @property
    def history(self) -> list[Call]:
        """What this client has called by ``execute``, ``run``, ``apply`` and ``map``, numbered from 1."""
        return self._link.history.calls

    def get_result(self, which: int | str | None = None) -> AsyncResult:
        """The result of a call of this client, or of any client's task.

        Parameters
        ----------
        which : int or str, optional
            Its number in ``history`` (negative ones count from the end), or a task's id (``AsyncResult.task_ids``);
            the last by default. The task may be another client's that is under way, or whose client has left or
            died: its results are kept for ``ParallelController.result_ttl``. What its client has collected is gone.

        Raises
        ------
        LookupError
            There is no such call of this client.
        ResultExpired
            It was collected, and is not among the latest. Of another client's task, ``get`` raises it. What ``submit``
            gave is kept by whoever has it: here it is found until its task has ended.
        """
        if isinstance(which, str):
            task = task_id(which)
            if task.client != self._link.channel.client:
                return self._fetch_result(task)
            receiver = self._link.channel.receiver(task.number)
            if isinstance(receiver, AsyncResult):
                return receiver
        return self._link.history.get(which)

    def _fetch_result(self, task: m.TaskId) -> AsyncResult:
        link = self._link
        hosts = link.roster().hosts
        numbers = link.channel.next_numbers(1)

        def decode(piece: Piece) -> Any:
            of_code = piece.result is not None and piece.result.execution is not None
            return ExecuteResult(piece, self._fetch) if of_code else decoded(piece)

        result = link.limited(FetchedResult(link.channel, numbers, hosts, task, decode))
        link.submit(Submission(numbers, m.Fetch(task), ()), result)
        return result

    # ------------------------------------------------------------ sending

    def _call(
        self,
        work: m.Work,
        frames: Sequence[Frame],
        spec: Spec | None,
        block: bool | None,
        **options: Any,
    ) -> Any:
        chosen = self._choose(spec)
        kind = SingleResult if chosen.single else ListResult
        kept = self._kept(frames, block)
        return self._give(lambda: self._link.send(kind, chosen, work, kept, **options), block)

    def _give(self, send: Callable[[], AsyncResult], block: bool | None) -> Any:
        return guarded(send, AsyncResult.get if self._blocks(block) else _itself)

    def _blocks(self, block: bool | None) -> bool:
        return self.block if block is None else block

    def _kept(self, frames: Sequence[Frame], block: bool | None) -> Sequence[Frame]:
        """Frames that stay as they are although the caller goes on and may change what they were made of."""
        return self._link.kept(frames, self._blocks(block))


@brief
class View(Engines):
    """A ``RemoteController`` narrowed to some engines.

    By index or list it keeps its ids; by tag or host it is resolved at each call.
    """

    def __init__(self, link: Link, spec: Spec, block: bool, within: list[int] | None = None) -> None:
        super().__init__(link, spec, block)
        self._within = within

    @property
    def ids(self) -> list[int]:
        """Ids of these engines, in order."""
        return self._own(self._link.roster()).ids

    def _own(self, roster: Roster) -> Chosen:
        spec = self.targets
        if isinstance(spec, int):
            return Chosen([spec], True)
        if isinstance(spec, list):
            return Chosen(list(spec), False)
        chosen = targets.choose(spec, roster.ids, roster.engines)
        if self._within is not None:
            return Chosen([id for id in chosen.ids if id in self._within], False)
        return chosen

    def _fixed(self) -> list[int] | None:
        return self.ids

    def _activated(self) -> Spec:
        return self.targets if self._within is None else self.ids

    def shutdown(self) -> None:
        """End these engines' processes."""
        self._end(self.ids, restart=False)

    def __repr__(self) -> str:
        return f"<View of {targets.named(self.ids)}>"


@contextmanager
def _bar(progress: Any, total: int | None = None) -> Iterator[Any]:
    """The bar that is asked for: a new one, the caller's own, or None."""
    if progress is not True:
        yield None if progress is False else progress
        return
    with bars.bar(total) as bar:
        yield bar


def _itself(result: AsyncResult) -> AsyncResult:
    return result


def _check_callable(f: Any) -> None:
    if not callable(f):
        raise TypeError(f"{f!r} is not callable")


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a name is a string, not {name!r}")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"{name!r} is not a name of a variable")
