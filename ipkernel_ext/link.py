"""What a client and its views share: the channel, and what was agreed on over it.

Work becomes a submission here: with numbers for its tasks, and with the lives of the engines that it is meant for.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ipkernel_ext import futures, payload, targets, versions
from ipkernel_ext.advice import advise
from ipkernel_ext.chunks import Pace
from ipkernel_ext.conditions import NONE, Conditions, MapOptions
from ipkernel_ext.config import memory
from ipkernel_ext.core import messages as m
from ipkernel_ext.core.client import Submission
from ipkernel_ext.core.failures import how
from ipkernel_ext.core.wire import Frame, is_one_small
from ipkernel_ext.environments import Newcomers
from ipkernel_ext.errors import NoEngines, NotConnected, NothingToDebug
from ipkernel_ext.executor import PickledCall
from ipkernel_ext.history import History
from ipkernel_ext.mapping import SendChunk
from ipkernel_ext.net.client_channel import Channel, Receiver, Roster
from ipkernel_ext.results import AsyncResult, ListResult, MapResult
from ipkernel_ext.synced_modules import SyncedModules
from ipkernel_ext.versions import Versions

if TYPE_CHECKING:
    from ipkernel_ext.dask_cluster import DaskCluster
    from ipkernel_ext.remote import RemoteController

PATIENCE = 3.0
"""Seconds that engines have to say what they run and use."""

PACES = 256  # functions of which it is remembered how long their items take

R = TypeVar("R", bound=AsyncResult)


class Link:
    """What a ``RemoteController`` shares with its views: the channel, and which lives of the engines it has used."""

    client: RemoteController

    def __init__(self, channel: Channel, timeout: float) -> None:
        self.channel = channel
        self.timeout = timeout
        self.restart_timeout = 30.0  # seconds
        self.max_result = memory.available() // 2
        self.history = History()
        self.synced = SyncedModules()
        self.dask: DaskCluster | None = None
        self._boots: dict[int, str] = {}
        self._compared: Roster | None = None  # the latest whose engines' versions were looked at
        self._alike: set[tuple[str, Versions]] = set()  # by host
        self._different: set[str] = set()  # hosts that the user knows of
        self._paces: dict[str, Pace] = {}
        self._seed: int | None = None
        self._seeded = 0  # balanced calls since then
        self._started: dict[int, float] = {}  # when the controller did, by its epoch; seconds since the epoch
        self._lock = threading.Lock()
        self._newcomers = Newcomers(self._ask_newcomer)

    def roster(self) -> Roster:
        """Who is there. Waits for a controller that is away."""
        futures.let_go()
        roster = self.channel.roster
        if roster.connected:
            if roster is not self._compared or self._newcomers.asked:
                self._compare(roster)
            return roster
        self.channel.wait_roster(lambda r: r.connected or r.ended is not None or r.hopeless, self.timeout)
        roster = self.channel.roster
        if roster.ended is not None:
            raise NotConnected(roster.ended)
        if roster.hopeless and roster.why is not None:
            raise roster.why
        if not roster.connected:
            why = roster.why or f"{roster.address} does not answer; `ipcluster list` shows what runs"
            kind = type(roster.why) if isinstance(roster.why, NotConnected) else NotConnected
            raise kind(f"no controller after {self.timeout:g} s: {why}")
        self._compare(roster)
        return roster

    def _compare(self, roster: Roster) -> None:
        """Warn, once for each host, of engines whose versions are too different from this client's."""
        for news in self._newcomers.news():
            advise(news)
        if roster is self._compared:
            return
        self._compared = roster
        for engine in roster.engines.values():
            theirs = Versions(engine.python, engine.cloudpickle, engine.numpy)
            if engine.host in self._different or (engine.host, theirs) in self._alike:
                continue
            mine = versions.here(search=engine.host != socket.gethostname())
            found = list(versions.differences(mine, theirs))
            if found:
                self._different.add(engine.host)
                advise("\n".join([f"engine {engine.id} of host {engine.host} is not like this client:", *found]))
            else:
                self._alike.add((engine.host, theirs))
        self._newcomers.look(roster.engines.values())

    def _ask_newcomer(self, f: Callable[..., Any], args: tuple[Any, ...], engine: int) -> AsyncResult:
        """Call a function of this package's on an engine, in whichever life that is."""
        digest, function = payload.dumps_function(f)
        numbers = self.channel.next_numbers(1)
        result = ListResult(self.channel, numbers, [engine], self._hosts())
        self.submit(
            Submission(numbers, m.Apply(digest), payload.dumps_call(args, {}), [engine], function=function), result
        )
        return result

    def need(self, ids: Sequence[int]) -> None:
        """Raise NoEngines where there are none to address."""
        there = self.channel.roster.ids
        if not ids and there:
            raise NoEngines(f"these targets are no engine at all; there are {targets.summary(there)}")
        if not ids:
            raise NoEngines(f"there are no engines: {trouble(self)}")

    def boots(self, ids: Iterable[int]) -> dict[int, str]:
        """The lives that engines have now; "" where one is not here."""
        engines = self.roster().engines
        return {id: engines[id].boot if id in engines else "" for id in ids}

    def forget_boots(self, ids: Iterable[int]) -> None:
        """The user knows that these engines began anew."""
        with self._lock:
            for id in ids:
                self._boots.pop(id, None)

    def _lives(self, ids: Sequence[int]) -> list[str]:
        """The boots that a call addresses. The first call after an engine was restarted says so."""
        engines = self.channel.roster.engines
        boots = []
        with self._lock:
            for id in ids:
                used = self._boots.get(id)
                engine = engines.get(id)
                restarting = engine is not None and engine.state == "restarting"
                there = "" if engine is None or restarting else engine.boot
                boots.append(used or there)
                self._boots[id] = "" if restarting else there or used or ""
        return boots

    def kept(self, frames: Sequence[Frame], waits: bool) -> Sequence[Frame]:
        """Frames to be sent, which stay as they are although a caller who does not wait may change their objects."""
        if is_one_small(frames) and type(frames[0]) is bytes:
            return (frames[0],)  # of which the garbage collector loses sight, unlike a list
        shared = self.channel.share(frames)
        return shared if waits else payload.own(shared)

    def send(
        self,
        make: Callable[..., AsyncResult],
        chosen: targets.Chosen,
        work: m.Work,
        frames: Sequence[Frame],
        function: Sequence[Frame] | None = None,
        subject: Conditions = NONE,
        **options: Any,
    ) -> AsyncResult:
        """Send the same work to each of the engines."""
        self.need(chosen.ids)
        numbers = self.channel.next_numbers(len(chosen.ids))
        result = self.limited(make(self.channel, numbers, chosen.ids, self._hosts(), **options))
        boots = self._lives(chosen.ids)
        retries, after, unmet, timeout = subject
        submission = Submission(
            numbers, work, frames, chosen.ids, boots, retries, function, None, after, unmet, timeout
        )
        self.submit(submission, result)
        return result

    def send_each(
        self, make: Callable[..., AsyncResult], chosen: targets.Chosen, work: m.Work, each: Sequence[Sequence[Frame]]
    ) -> AsyncResult:
        """Send each engine work with frames of its own."""
        numbers = self.channel.next_numbers(len(chosen.ids))
        result = self.limited(make(self.channel, numbers, chosen.ids, self._hosts()))
        boots = self._lives(chosen.ids)
        for number, engine, boot, frames in zip(numbers, chosen.ids, boots, each, strict=True):
            self.submit(Submission([number], work, frames, [engine], [boot]), result)
        return result

    def balance(
        self,
        make: Callable[..., AsyncResult],
        work: m.Work,
        frames: Sequence[Frame],
        among: Sequence[int] | None,
        function: Sequence[Frame] | None,
        subject: Conditions,
    ) -> AsyncResult:
        """Send work to whichever engine is free; ``among`` keeps it to some."""
        if among is None:
            hosts = self.roster().hosts
        else:
            self.need(among)
            hosts = self._hosts()
        channel = self.channel
        numbers = channel.next_numbers(1)
        result = self.limited(make(channel, numbers, None, hosts))
        retries, after, unmet, timeout = subject
        submission = Submission(numbers, work, frames, None, None, retries, function, among, after, unmet, timeout)
        self.submit(submission, result)
        return result

    def map(self, options: MapOptions, items: int, ordered: bool) -> MapResult:
        """The result of a map, of which nothing has been sent yet."""
        first = self.channel.next_numbers(max(1, items))[0]
        pace = self.pace(options.digest)
        return self.limited(
            MapResult(self.channel, self._hosts(), items, first, ordered, options.return_exceptions, pace)
        )

    def sender(self, options: MapOptions, among: Sequence[int] | None, waits: bool) -> SendChunk:
        """What sends the chunks of a map, whose caller may or may not wait for it."""
        retries, after, unmet, timeout = options.subject
        seed = self.next_seed() if options.seed is None else f"{options.seed}/0"

        def send(receiver: Receiver, number: int, start: int, frames: Sequence[Frame]) -> None:
            work = m.Map(options.digest, start, options.return_exceptions, seed, options.name)
            function = options.function
            submission = Submission(
                (number,), work, self.kept(frames, waits), None, None, retries, function, among, after, unmet, timeout
            )
            self.submit(submission, receiver)

        return send

    def call(self, among: Sequence[int] | None, receiver: Receiver, call: PickledCall) -> None:
        """Send a call to whichever engine is free."""
        numbers = self.channel.next_numbers(1)
        work = m.Apply(call.digest, self.next_seed(), call.name)
        self.submit(Submission(numbers, work, call.frames, function=call.function, among=among), receiver)

    def submit(self, submission: Submission, receiver: Receiver) -> None:
        """Send tasks, with what this client takes of each."""
        submission.max_result = self.max_result
        self.channel.submit(submission, receiver)

    def limited(self, result: R) -> R:
        """The result, with what this client takes of all of it."""
        result.max_result = self.max_result
        return result

    def workers(self, among: Sequence[int] | None) -> int:
        """How many engines there are for balanced work. NoEngines where it is kept to none."""
        if among is None:
            return len(self.roster().ids)
        self.need(among)
        return len(among)

    def pace(self, digest: str) -> Pace:
        """What is known of a function's items."""
        with self._lock:
            pace = self._paces.pop(digest, None) or Pace()
            self._paces[digest] = pace
            if len(self._paces) > PACES:
                del self._paces[next(iter(self._paces))]
            return pace

    def next_seed(self) -> str | None:
        """For the next balanced call, after ``seed``."""
        if self._seed is None:
            return None
        with self._lock:
            self._seeded += 1
            return f"{self._seed}/1/{self._seeded}"

    def seed(self, n: int) -> None:
        """Balanced calls are seeded from now on."""
        with self._lock:
            self._seed, self._seeded = n, 0

    def ask(self, make: Callable[[int], m.Question], patience: float = 0.0) -> dict[str, Any]:
        """The controller's answer to a question.

        Parameters
        ----------
        patience : float
            Seconds that the controller waits for engines before it answers.
        """
        self.roster()
        limit = self.timeout + patience
        try:
            return self.channel.ask(make).result(limit)
        except TimeoutError:
            raise NotConnected(f"the controller does not answer; waited {limit:g} s") from None

    def asking(self, engine: int | None, ids: Sequence[int]) -> AsyncResult | None:
        """A result of which a task waits for a line on this engine; None: on any of these."""
        for result in list(self.channel.asking):
            if any(wanted.engine in (ids if engine is None else [engine]) for wanted in result.asked.values()):
                found: AsyncResult = result
                return found
        return None

    def failed_on(self, ids: Sequence[int]) -> int:
        """The engine on which the last call failed, of these."""
        self.need(ids)
        if len(ids) == 1:
            return ids[0]
        failed = self.channel.failed
        if failed is None or failed[1] not in ids:
            raise NothingToDebug("no call of this client has failed on these engines: say which one to debug")
        return failed[1]

    def look(self, ids: Sequence[int], inspection: m.Inspection) -> list[tuple[int, dict[str, Any]]]:
        """What each of the engines tells, though it may be busy."""
        self.need(ids)
        engines: list[tuple[int, dict[str, Any]]] = self.ask(
            lambda request: m.Inspect(request, list(ids), inspection, PATIENCE), PATIENCE
        )["engines"]
        return engines

    def status(self) -> dict[str, Any]:
        """What the controller says of itself, the clients and the queue; times in seconds since the epoch."""
        body = self.ask(lambda request: m.Ask(request, "status"))
        controller = body["controller"]
        now = time.time() - controller.pop("uptime")
        with self._lock:  # the first estimate stands, so that one moment is told alike each time
            started = controller["started"] = self._started.setdefault(controller["epoch"], now)
        for client in body["clients"]:
            client["since"] += started
            client["me"] = client["id"] == self.channel.client
        return body

    def _hosts(self) -> dict[int, str]:
        return self.channel.roster.hosts


def trouble(link: Link) -> str:
    """Why engines are not there, as far as known."""
    roster = link.channel.roster
    ended = [f"the last that ended: {how(exit)}" for exit in list(roster.lost.values())[-1:]]
    return roster.trouble or roster.waits or "; ".join([*ended, "start some with `ipengine` or `ipcluster start`"])
