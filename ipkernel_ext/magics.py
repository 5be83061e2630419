"""The magics: each parses its line, makes one call on ``RemoteController``, and shows the result.

The docstrings are the help texts of ``%px?`` and kin.
"""

from __future__ import annotations

import atexit
import functools
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence, Sized
from pathlib import Path
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.error import TryNext, UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import observe

from ipkernel_ext import bars, completion, environments, targets
from ipkernel_ext.callers import wants_value
from ipkernel_ext.config import files, profiles, settings, templates
from ipkernel_ext.config.place import Place
from ipkernel_ext.display import Screen, called_from
from ipkernel_ext.errors import AlreadyRunning, NotConnected, TaskTimeout
from ipkernel_ext.execution.inventory import variables
from ipkernel_ext.interruption import guarded
from ipkernel_ext.launcher import Cluster, find, stop_profile
from ipkernel_ext.looking_magics import OPTIONS as LOOKING
from ipkernel_ext.looking_magics import LookingMagics
from ipkernel_ext.magic_options import TARGETS as _TARGETS
from ipkernel_ext.magic_options import Option, function_and_data, help_at_front, names_as, only_options, seconds, split
from ipkernel_ext.overview import Live, engines_table
from ipkernel_ext.pieces import ExecuteResult, ResultList
from ipkernel_ext.remote import RemoteController
from ipkernel_ext.results import AsyncResult
from ipkernel_ext.shown import is_ours, lines_of, shows_errors, was_interrupted
from ipkernel_ext.synced_modules import Follower
from ipkernel_ext.units import a, count
from ipkernel_ext.variables import table
from ipkernel_ext.views import Engines

BAR_AFTER = 0.5  # seconds, after which a map shows its progress

CANCEL = 5.0  # seconds for which a magic waits for what Ctrl-C cancelled; a second Ctrl-C ends that too

Magic = Callable[..., Any]


_NAME = Option(("-o", "--out"), "a name")
_CONFIG = (_TARGETS, Option(("--block",)), Option(("--noblock",)))
_PX = (
    _TARGETS,
    _NAME,
    Option(("-a", "--noblock")),
    Option(("--block",)),
    Option(("--timeout",), "seconds"),
    Option(("--local",)),
    Option(("--expand",)),
    Option(("--no-fold",)),
    Option(("--group-by",), "engine or order"),
    Option(("--push",), "names"),
    Option(("--pull",), "names"),
    Option(("--scatter",), "names"),
    Option(("--gather",), "names"),
)


_OPTIONS = {
    "px": _PX,
    "push": (_TARGETS,),
    "pull": (_TARGETS, Option(("--gather",))),
    "gather": (_TARGETS,),
    "scatter": (_TARGETS,),
    "map": (_TARGETS, _NAME),
    "autopx": (_TARGETS,),
    "interrupt": (_TARGETS, Option(("--kill",))),
    "pxreset": (_TARGETS,),
    "pxseed": (_TARGETS,),
    "pxautoreload": (),
    "pxwhos": (_TARGETS,),
    "pxconfig": _CONFIG,
    "result": (),
    "engines": (Option(("-w", "--watch")), Option(("--env",))),
    "why": (),
    **LOOKING,
}
"""By magic; for its own line and for tab completion."""

_ALONE = frozenset({"start", "stop", "restart", "status"})
"""Actions of %cluster after which only options may come."""

LOOKS = 0.1  # seconds between two looks at what still runs

ANSWERS = 0.5  # seconds in which engines must say their names, for tab completion

FOLLOWS = 0.5  # seconds in which engines that are free load edited modules anew, before a cell

REDRAWN = 1.0  # seconds between two tables of `%engines -w`

OBEYS_SOON = 1.0  # seconds, after which it is said what has not ended although it was asked to

OBEYS = 5.0  # seconds in which interrupted code must end


@magics_class
class ParallelMagics(Magics, settings.ParallelMagics):
    """The magics of one IPython session."""

    showed_tracebacks: Magic | None = None  # the shell's own way
    _client: RemoteController | None = None
    _had = False  # a cluster, in this session
    _given = False  # the client is the user's own

    def __init__(self, shell: Any) -> None:
        super().__init__(shell=shell)
        self._cluster: Cluster | None = None
        self._auto_targets = "all"
        self._follower = Follower()
        settings.check(self.config)
        self.profile = self.profile or self._own_profile()

    @property
    def _ip(self) -> Any:
        """The session's shell."""
        return self.shell

    def _own_profile(self) -> str:
        """The profile of this session; the default one where it has none of a name."""
        made = getattr(self._ip, "profile_dir", None)
        return profiles.DEFAULT if made is None else profiles.name_of(Path(made.location)) or profiles.DEFAULT

    # ------------------------------------------------------------ the cluster

    @property
    def rc(self) -> RemoteController:
        """The session's client. Connects, and starts a cluster where none runs, when first asked for."""
        return self._connected_client(self.autostart)

    @property
    def there(self) -> RemoteController:
        """The session's client, for magics that look at a cluster or end things: where one has been, none is started.

        Raises
        ------
        NotConnected
            The session's cluster is gone, and its profile has no other.
        """
        return self._connected_client(self.autostart and not self._had)

    def _connected_client(self, autostart: bool) -> RemoteController:
        if self._client is not None and self._client.ended is None:
            return self._client
        lost = not self._given and self._client is not None and _was_ended(self._client)
        self._give_back()
        if self._cluster is not None and self._cluster.poll():
            self._client = self._limited(self._cluster.connect())
            return self._client
        self._drop()
        try:
            self._client = self._connect(profile=self.profile)
        except NotConnected:
            if find(Place.of_profile(self.profile)) is not None:
                raise
            if not autostart and self._had:
                raise NotConnected("no cluster runs; %cluster start, or %px, starts one") from None
            if not autostart:
                raise
        if lost:
            print(f"the cluster this session used has ended; {_instead(self._client)}")
        if self._client is None:
            self._start(self.n, self.profile)
        assert self._client is not None
        return self._client

    def _start(self, n: int, profile: str, engines: str | None = None, *, keep: bool = False) -> None:
        if (made := templates.make_if_missing(profile)) is not None:
            print(made)
        given = settings.settings_of(files.load(profile, *templates.OURS))
        cluster = Cluster(n or None, engines=engines, profile=profile, owned=not keep, settings=given)
        try:
            cluster.start()
        except AlreadyRunning:
            self._client = self._connect(profile=profile)
            print(_connected(profile, self._client))
            return
        try:
            client = self._limited(cluster.connect())
            here = cluster.wait_ready(client, given.cluster.start_timeout, print)
        except BaseException:
            cluster.stop()
            raise
        self._client = client
        self._cluster = None if keep else cluster
        until = "until `%cluster stop`" if keep else "until this session ends"
        of = "" if here == cluster.n else f" of {cluster.n}"
        where = "on this machine" if cluster.where == "local" else f"by {cluster.where}"
        print(f"started {here}{of} {'engine' if here == cluster.n == 1 else 'engines'} {where}, {until}")

    def _connect(self, *args: Any, **options: Any) -> RemoteController:
        return self._limited(RemoteController(*args, **options))

    def _limited(self, client: RemoteController) -> RemoteController:
        self._had = True
        if self.max_result:
            client.max_result = self.max_result
        return client

    @observe("max_result")
    def _set_max_result(self, change: Any) -> None:
        if self._client is not None and not self._given:
            self._limited(self._client)

    def use(self, client: RemoteController, spec: str, block: bool) -> None:
        """Have the magics use a client of the user's, which they do not close.

        What this session started runs on, and is used again when that client is closed.
        """
        if not self._given:
            self._before_given = self.targets, self.block
            if self._client is not None and self._client is not client:
                self._client.close()
        self._client, self._given = client, True
        self.targets, self.block = spec, block

    def _give_back(self) -> None:
        """The user's client is not used any more."""
        if self._given:
            self._client, self._given = None, False
            self.targets, self.block = self._before_given

    def _drop(self) -> None:
        """Disconnect, and end what this session started."""
        self._give_back()
        client, self._client = self._client, None
        cluster, self._cluster = self._cluster, None
        if client is not None:
            client.close()
        if cluster is not None:
            cluster.stop()

    @line_magic
    @shows_errors
    def cluster(self, line: str) -> RemoteController | None:
        """Start, stop or connect to a cluster.

        %cluster start [-n 4] [--profile P] [--keep]   a local one; it ends with this session unless --keep
          [--engines mpi|ssh|slurm|…]                  its engines elsewhere, as the profile's config file says
        %cluster connect [URL or FILE] [--profile P]   one that runs
        %cluster scale N                               so many engines; those with the highest ids end first
        %cluster status                                engines and queues
        %cluster restart                               engines begin anew, with empty namespaces
        %cluster stop                                  end it
        """
        action, _, rest = line.strip().partition(" ")
        if action == "scale" and not rest.strip().isdecimal():
            raise UsageError(f"write: %cluster scale N, where N is a number of engines from 0 on, not {rest.strip()!r}")
        number = Option(("-n",), "a number of engines")
        places = Option(("--engines",), "a place: local, mpi, ssh, slurm, …")
        found, rest = split(rest, (number, places, Option(("--profile",), "a profile"), Option(("--keep",))))
        profile = found.get("profile", self.profile)
        if action in _ALONE and rest:
            raise UsageError(f"%cluster {action} takes no {rest!r}; %cluster? shows what it takes")
        if action == "start":
            n = _count(found.get("n")) or self.n
            if self._client is not None and self._client.ended is None and profile == self.profile:
                print(_connected(profile, self._client))
                return None
            self._change(profile, lambda: self._start(n, profile, found.get("engines"), keep="keep" in found))
        elif action == "connect":
            self._change(profile, lambda: self._reach(rest, profile))
            return self._client
        elif action == "status":
            client = RemoteController(profile=profile) if self._client is None else self._client
            print(engines_table(client.engines, client.queue_status()))
            if client is not self._client:
                client.close()
        elif action == "restart":
            self.there.restart()
            print(f"{targets.named(self.there.ids)} began anew")
        elif action == "scale":
            self.there.cluster.scale(int(rest))
            print(f"the engines are {targets.summary(self.there.ids) or 'none'}")
        elif action == "stop":
            self._stop(profile)
        else:
            raise UsageError("write: %cluster start, stop, restart, scale, status or connect; %cluster? says more")
        return None

    def _reach(self, place: str, profile: str) -> None:
        if "://" in place:
            self._client = self._connect(place)
        elif place:
            self._client = self._connect(connection_file=Path(place).expanduser())
        else:
            self._client = self._connect(profile=profile)

    def _change(self, profile: str, reach: Callable[[], None]) -> None:
        """Have the session use another cluster. The one it uses now is let go of when the other is there, not before.

        Parameters
        ----------
        reach
            Sets the client, and the cluster if it starts one.
        """
        before = client, given, cluster, _ = self._client, self._given, self._cluster, self.profile
        self._client, self._given, self._cluster, self.profile = None, False, None, profile
        try:
            reach()
            stays = cluster is not None and cluster.poll() and _leads_to(self._client, cluster)
        except BaseException:
            if self._client is not None:
                self._client.close()
            if self._cluster is not None:
                self._cluster.stop()
            self._client, self._given, self._cluster, self.profile = before
            raise
        if given:
            self.targets, self.block = self._before_given
        elif client is not None:
            client.close()
        if stays:
            self._cluster = cluster
        elif cluster is not None:
            cluster.stop()

    def _stop(self, profile: str) -> None:
        if self._cluster is not None or self._client is not None:
            client = self._client
            if self._cluster is None and client is not None and client.ended is None:
                client.shutdown()
            self._drop()
        elif not stop_profile(profile):
            raise NotConnected(f"no cluster of profile {profile!r} runs")
        print("the cluster has ended")

    # ------------------------------------------------------------ code

    @no_var_expand
    @line_cell_magic
    @shows_errors
    def px(self, line: str, cell: str | None = None) -> Any:
        """Run code on the engines.

        %px CODE
        w = %px CODE               the values of its last expression, a list in engine order; one for one engine
        %%px [options], and the code in the cell

        Output streams while it runs; each line begins with its engine. The value of the last
        expression is shown as Out[2:5]: engine 2, its fifth. Fails when an engine failed.

        -t, --targets SPEC   all, 0, 0,2, 0:4, ::2, -1, host:NAME, tag:NAME
        -a, --noblock        do not wait; gives the result object
        --timeout S          interrupt it after S seconds, and fail
        -o, --out NAME       keep the result object under this name
        --group-by engine    show one engine's output after the other's, when all are done; order: as it arrives
        --no-fold            show what many engines have alike once for each
        --local              run it here too, when the engines are done
        --push x,y           local variables to the engines, before
        --pull z             engines' variables here, after
        --scatter x,y        local sequences, cut over the engines, before
        --gather z           engines' pieces joined here, after
        --expand             {expr} and $name in the code are replaced first
        --                   ends the options
        """
        found, rest = split(line, _OPTIONS["px"])
        code = rest if cell is None else cell
        if cell is not None and rest:
            raise UsageError(f"%%px takes its code from the cell, not from its first line ({rest!r})")
        if not code.strip():
            raise UsageError("no code: write %px CODE, or %%px and the code below it")
        if "expand" in found:
            code = self._ip.var_expand(code, depth=0)
        spec = self._spec(found)
        group_by = found.get("group-by")
        if group_by not in (None, "engine", "order"):
            raise UsageError(f"--group-by needs engine or order, not {group_by!r}")
        waits = "noblock" not in found and (self.block or "block" in found)
        after = [key for key in ("pull", "gather", "local", "timeout") if key in found]
        if not waits and after:
            raise UsageError(f"--{after[0]} needs the result, so it does not go with --noblock")
        limit = seconds(found["timeout"], "--timeout") if "timeout" in found else None
        self._before(found, spec)

        def send() -> AsyncResult:
            result: AsyncResult = self.rc.execute(code, targets=spec, block=False)
            if "out" in found:
                self._assign(found["out"], result)
            return result

        if not waits:
            result = send()
            return None if "out" in found else result
        screen = Screen(group_by=group_by, fold="no-fold" not in found, late=self.rc.late_output)

        def show(result: AsyncResult) -> None:
            if limit is None:
                screen.follow(result)
            else:
                self._follow_within(screen, result, limit)

        ran = self._wait(send, show).get()
        self._after(found, spec, code)
        if cell is not None or not wants_value(sys._getframe()):
            return None
        return ran.values if isinstance(ran, ResultList) else ran.value

    def _before(self, found: dict[str, str], spec: targets.Spec) -> None:
        if "push" in found:
            self._push(names_as(found["push"], "--push x,y"), spec)
        for name, there in names_as(found["scatter"], "--scatter x,y") if "scatter" in found else ():
            self.rc.scatter(there, self._local(name), targets=spec)

    def _after(self, found: dict[str, str], spec: targets.Spec, code: str) -> None:
        for name, here in names_as(found["pull"], "--pull z") if "pull" in found else ():
            self._assign(here, self.rc.pull(name, targets=spec))
        for name, here in names_as(found["gather"], "--gather z") if "gather" in found else ():
            self._assign(here, self.rc.gather(name, targets=spec))
        if "local" in found:
            self._ip.run_cell(code)

    def _wait(self, send: Callable[[], AsyncResult], show: Callable[[AsyncResult], None]) -> AsyncResult:
        """Send, and show the result until it is done. Ctrl-C cancels it; a second one gives the prompt back at once."""

        def shown(result: AsyncResult) -> AsyncResult:
            show(result)
            return result

        return guarded(send, shown, self._until_ended)

    @staticmethod
    def _until_ended(result: Any) -> None:
        """Cancel a result, and wait a while until it has ended; a second Ctrl-C ends that too."""
        if result.cancel():
            try:
                if result.wait(OBEYS_SOON):
                    return
                running = [r["engine_id"] for r in result.metadata if r["status"] == "pending"]
                ids = [id for id in running if id is not None]
                were = f"{targets.named(ids)} {'was' if len(ids) == 1 else 'were'}" if ids else "what runs was"
                have = "has" if len(ids) < 2 else "have"
                print(
                    f"{were} asked to stop and {have} not yet; Ctrl-C again gives the prompt back, "
                    f"%interrupt --kill ends {'it' if len(ids) < 2 else 'them'}",
                    flush=True,
                )
                if not result.wait(CANCEL - OBEYS_SOON):
                    print(f"cancelled; {result.progress} of {len(result)} have ended, the others do not obey yet")
            except KeyboardInterrupt:
                pass  # the first one goes on

    def _follow_within(self, screen: Screen, result: AsyncResult, limit: float) -> None:
        """Show a result; interrupt it when it runs for too long.

        Raises
        ------
        TaskTimeout
            It did.
        """
        screen.follow(result, limit)
        if result.done():
            return
        running = [r["engine_id"] for r in result.metadata if r["status"] == "pending"]
        result.cancel()
        screen.follow(result, OBEYS)
        obeyed = (
            "it was interrupted" if result.done() else "it does not obey the interrupt; `%interrupt --kill` ends it"
        )
        raise TaskTimeout(f"the cell ran for more than {limit:g} s on engines {targets.summary(running)}: {obeyed}")

    @line_magic
    @shows_errors
    def autopx(self, line: str) -> None:
        """Every cell goes to the engines, until %autopx is said again.

        %autopx [-t SPEC]

        A cell that begins with a magic of this extension still runs here.
        """
        found, rest = split(line, _OPTIONS["autopx"])
        if rest:
            raise UsageError(f"%autopx takes no code ({rest!r}); write the code in the next cell")
        transforms = self._ip.input_transformers_cleanup
        if self._auto in transforms:
            transforms.remove(self._auto)
            print("cells run here again")
            return
        spec = found.get("targets", self.targets)
        targets.parse(spec)
        self._auto_targets = spec
        transforms.append(self._auto)
        on = (
            "all engines"
            if spec == "all"
            else f"{'engine' if spec.rstrip(',').isdecimal() else 'engines'} {spec.rstrip(',')}"
        )
        print(f"cells run on {on}; %autopx ends that")

    def _auto(self, lines: list[str]) -> list[str]:
        """A cell as one for the engines."""
        first = next((line for line in lines if line.strip()), "")
        name = first.strip().lstrip("%").partition(" ")[0].strip()
        if not first.strip() or (first.lstrip().startswith("%") and name in _HERE):
            return lines
        return [f"%%px -t {self._auto_targets}\n", *lines]

    @staticmethod
    def _asks(lines: list[str]) -> list[str]:
        """A cell in which ``%px x?`` asks the engines, not IPython here."""
        if not any(line.rstrip().endswith("?") for line in lines):
            return lines
        return [help_at_front(line, "px", _PX) for line in lines]

    _auto.has_side_effects = True  # type: ignore[attr-defined]  # a cell is complete or not as it stands

    @line_magic
    @shows_errors
    def result(self, line: str) -> Any:
        """The last result again, or the n-th of this session: its output, and its value or error.

        %result [n]          n as in `history`; negative ones count from the end
        """
        name = line.strip()
        which = int(name) if re.fullmatch(r"-?\d+", name) else name or None
        try:
            result = self.there.get_result(which)
        except (LookupError, ValueError) as error:
            raise UsageError(str(error)) from None
        self._wait(lambda: result, _until_done)
        screen = Screen()
        for log in result.logs().values():
            for output in log:
                screen.show(output)
        screen.flush()
        value = result.get()
        return None if isinstance(value, ExecuteResult | ResultList) else value

    # ------------------------------------------------------------ objects

    @line_magic
    @shows_errors
    def push(self, line: str) -> None:
        """Local variables to the engines.

        %push x y
        %push -t 0,1 x as z
        """
        found, rest = split(line, (_TARGETS,))
        self._push(names_as(rest, "%push x y, or %push x as z"), self._spec(found))

    def _push(self, pairs: Sequence[tuple[str, str]], spec: targets.Spec) -> None:
        self.rc.push({there: self._local(name) for name, there in pairs}, targets=spec, block=True)

    @line_magic
    @shows_errors
    def pull(self, line: str) -> None:
        """Engines' variables here: a list by engine, the value itself for one target.

        %pull x y
        %pull -t 0 x as z
        %pull --gather x        the pieces joined
        """
        found, rest = split(line, (_TARGETS, Option(("--gather",))))
        self._pull(rest, self._spec(found), joined="gather" in found, usage="%pull x y, or %pull x as z")

    @line_magic
    @shows_errors
    def gather(self, line: str) -> None:
        """Join the engines' pieces along the first axis and assign them here.

        %gather x
        %gather -t 0:2 x as z
        """
        found, rest = split(line, (_TARGETS,))
        self._pull(rest, self._spec(found), joined=True, usage="%gather x, or %gather x as z")

    def _pull(self, names: str, spec: targets.Spec, *, joined: bool, usage: str) -> None:
        for name, here in names_as(names, usage):
            call = self.rc.gather if joined else self.rc.pull
            self._assign(here, call(name, targets=spec, block=True))

    @line_magic
    @shows_errors
    def scatter(self, line: str) -> None:
        """Cut a local sequence along its first axis, one piece per engine.

        %scatter x
        %scatter -t 0:2 x as z
        """
        found, rest = split(line, (_TARGETS,))
        for name, there in names_as(rest, "%scatter x, or %scatter x as z"):
            self.rc.scatter(there, self._local(name), targets=self._spec(found), block=True)

    # ------------------------------------------------------------ balanced work

    @no_var_expand
    @line_cell_magic
    @shows_errors
    def map(self, line: str, cell: str | None = None) -> Any:
        """Load-balanced map, in order, with a progress bar.

        result = %map F DATA       F is a name, or a function in parentheses; DATA an expression
        %map -o result F DATA
        %%map -o result DATA       the cell is an expression of x, or defines a function of x
        """
        found, rest = split(line, (_TARGETS, _NAME))
        if cell is None:
            name, data = function_and_data(rest)
            function = self._evaluated(name)
        else:
            data = rest.strip()
            if not data:
                raise UsageError("write: %%map -o NAME DATA, and an expression of x below it")
            function = self._cell_function(cell)
        if not callable(function):
            raise UsageError(f"{name} is not a function, it is {a(type(function).__name__)}")
        items = self._evaluated(data)
        if not isinstance(items, Iterable):
            raise UsageError(f"{data} is {a(type(items).__name__)}, not a sequence of items")
        values = self._map(function, items if isinstance(items, Sized) else list(items), self._spec(found))
        if "out" in found:
            self._assign(found["out"], values)
            return None
        return values

    def _map(self, function: Callable[..., Any], items: Any, spec: targets.Spec) -> Any:
        def send() -> _Came:
            with bars.bar(len(items), delay=BAR_AFTER, leave=False) as bar:
                return _Came(self.rc.map(function, items, targets=spec, block=True, progress=bar))

        return guarded(send, lambda came: came.value, self._until_ended)

    def _cell_function(self, cell: str) -> Callable[..., Any]:
        """The function of x that a cell is, or defines."""
        names = self._ip.user_ns
        file = self._ip.compile.cache(cell, self._ip.execution_count)  # tracebacks have its lines from there
        try:
            code = compile(f"lambda x: ({cell}\n)", file, "eval")
        except SyntaxError:
            local: dict[str, Any] = {}
            try:
                exec(compile(cell, file, "exec"), names, local)
            except Exception as error:
                text = f"the cell is neither an expression of x nor one function: {type(error).__name__}: {error}"
                raise UsageError(text) from None
            functions = [value for value in local.values() if callable(value)]
            if len(functions) != 1:
                raise UsageError("the cell is neither an expression of x nor one function") from None
            return functions[0]
        return eval(code, names)

    # ------------------------------------------------------------ watch and control

    @line_magic
    @shows_errors
    def engines(self, line: str) -> None:
        """A table of the engines: who they are, what they run and for how long, what waits, and what they use.

        %engines
        -w, --watch          draw it anew each second, until Ctrl-C
        --env                instead, where their Python and packages differ from those imported here

        cpu is percent of one core since it was asked for last. Whoever does not answer within 3 s is
        unresponsive: its process is stopped, or C code keeps Python's lock. %why says more.
        """
        found, rest = split(line, _OPTIONS["engines"])
        if rest:
            raise UsageError(f"%engines takes no {rest!r}; it shows all engines")
        rc = self.there
        if "env" in found:
            print(environments.compared(rc))
            return
        if "watch" not in found:
            print(engines_table(rc.engines, rc.queue_status()))
            return
        live = Live()
        try:
            while True:
                live.show(engines_table(rc.engines, rc.queue_status()))
                time.sleep(REDRAWN)
        except KeyboardInterrupt:
            pass  # it is how one says that one has seen enough

    @line_magic
    @shows_errors
    def why(self, line: str) -> None:
        """Say in one sentence why an engine or a task is not running, not here or not answering.

        %why                 what this session waits for
        %why 3               an engine
        %why RESULT          a variable that holds the result of a call
        %why 3fa9c0d1e2b3:7  a task, by its id
        """
        name = line.strip()
        if not name:
            print(self.there.why())
        elif re.fullmatch(r"-?\d+", name):
            print(self.there.why(int(name)))
        elif ":" in name:
            print(self.there.why(name))
        else:
            result = self._local(name)
            if not isinstance(result, AsyncResult):
                raise UsageError(f"{name} is {a(type(result).__name__)}; %why takes an engine, a task or a result")
            print(self.there.why(result))

    @line_magic
    @shows_errors
    def interrupt(self, line: str) -> None:
        """Interrupt what the engines run at this moment, and say after a second at most whether it has ended.

        %interrupt [-t SPEC]
        %interrupt --kill [-t SPEC]    end the engines' processes and start them anew: their variables are lost
        """
        found = only_options(line, "%interrupt", _OPTIONS["interrupt"])
        if "kill" in found:
            self.there.restart(targets=self._spec(found))
            return
        rc, begun = self.there, time.monotonic()
        chosen = rc[rc._choose(self._spec(found)).ids]
        chosen.interrupt()
        print(_obeyed(chosen, begun))

    @line_magic
    @shows_errors
    def pxreset(self, line: str) -> None:
        """Empty the engines' namespaces. %pxreset [-t SPEC]"""
        found = only_options(line, "%pxreset", _OPTIONS["pxreset"])
        self.there.reset(targets=self._spec(found), block=True)

    @line_magic
    @shows_errors
    def pxseed(self, line: str) -> None:
        """Have random and numpy.random give the same numbers again, on the engines and in each item of a map.

        %pxseed [-t SPEC] N

        Each engine gets a stream of its own, and so does each item, wherever it runs; the same again for the same N.
        """
        found, rest = split(line, _OPTIONS["pxseed"])
        if not rest.isdecimal():
            raise UsageError(f"write: %pxseed N, where N is an integer from 0 on, not {rest!r}")
        self.rc.seed(int(rest), targets=self._spec(found), block=True)

    @line_magic
    @shows_errors
    def pxautoreload(self, line: str) -> None:
        """Have the engines follow edits of your modules, as IPython's %autoreload does here.

        %pxautoreload            before each cell: what sync_modules sent is sent again, and what engines have imported
                                 of files on their hosts is loaded anew. Functions and classes get the new code in place
        %pxautoreload now        once
        %pxautoreload off
        """
        match line.strip():
            case "" | "on":
                self._follow_edits(0.0)
                self._following(True)
            case "now":
                self._follow_edits(CANCEL)
            case "off":
                self._following(False)
            case other:
                raise UsageError(f"write: %pxautoreload on, now or off, not {other!r}")

    def _following(self, on: bool) -> None:
        events = self._ip.events
        for event, follow in (("pre_run_cell", self._before_cell), ("post_run_cell", self._after_cell)):
            if (follow in events.callbacks[event]) != on:
                (events.register if on else events.unregister)(event, follow)

    def _before_cell(self, info: Any) -> None:
        if self._client is not None and self._client.ended is None:
            self._follow_edits(FOLLOWS)

    def _after_cell(self, result: Any) -> None:
        if self._client is not None and self._client.ended is None:
            self._follow_edits(0.0)  # what the cell imported is known from now on

    def _follow_edits(self, patience: float) -> None:
        for problem in self._follower.follow(self.rc, patience):
            print(problem, file=sys.stderr)

    @line_magic
    @shows_errors
    def pxwhos(self, line: str) -> None:
        """A table of the engines' variables: type, shape, size, and ≠ where engines differ.

        %pxwhos [-t SPEC]
        """
        found = only_options(line, "%pxwhos", _OPTIONS["pxwhos"])
        spec = self._spec(found)
        chosen = self.there if spec == "all" else self.there[spec]
        ids = chosen.ids
        described = chosen.apply(variables, block=True)
        every = [described] if len(ids) == 1 and chosen.targets == ids[0] else described
        print(table(dict(zip(ids, every, strict=True))))

    @line_magic
    @shows_errors
    def pxconfig(self, line: str) -> None:
        """What the magics do unless they are told otherwise.

        %pxconfig                        as it is
        %pxconfig [-t SPEC] [--noblock | --block]
        """
        found, rest = split(line, _CONFIG)
        if rest:
            raise UsageError(f"%pxconfig takes options only, not {rest!r}")
        if "targets" in found:
            self._spec(found)
            self.targets = found["targets"]
        if "block" in found or "noblock" in found:
            self.block = "block" in found
        shown = repr(self.targets) if "," in self.targets else self.targets
        print(f"targets {shown}, {'block' if self.block else 'noblock'}")

    # ------------------------------------------------------------ small things

    def complete(self, _: Any, event: Any) -> list[str]:
        """Tab completion of a line of ours (a hook of IPython's)."""
        found = completion.complete(event.text_until_cursor, _OPTIONS, self._specs, self._names, _NAMING)
        if found is None or id(self._ip) not in _loaded:
            raise TryNext
        return found

    @context_matcher()
    def complete_in_cell(self, context: CompletionContext) -> SimpleMatcherResult:
        """Tab completion of names in a cell for the engines (a matcher of IPython's)."""
        lines = context.full_text.split("\n")[: context.cursor_line]
        name = completion.name_in_cell("\n".join([*lines, context.text_until_cursor]), _CELLS)
        found = [one for one in self._names() if one.startswith(name)] if name else []
        return {"completions": [SimpleCompletion(one, type="variable") for one in found], "matched_fragment": name}

    def _specs(self) -> list[str]:
        roster = [] if self._client is None else self._client.known
        hosts = [f"host:{engine.host}" for engine in roster]
        tags = [f"tag:{tag}" for engine in roster for tag in engine.tags]
        return ["all", *(str(engine.id) for engine in roster), *hosts, *tags]

    def _names(self) -> list[str]:
        """The engines' variables; nothing of those that are busy."""
        if self._client is None or not len(self._client):
            return []
        asked = self._client.keys(block=False)
        if not asked.wait(ANSWERS):
            asked.cancel()
            return []
        return sorted({name for keys in asked.get() for name in keys})

    def _spec(self, found: dict[str, str]) -> targets.Spec:
        if self._client is not None and self._client.ended is not None:
            self._give_back()  # and so the targets that went with it
        try:
            return targets.parse(found.get("targets", self.targets))
        except ValueError as error:
            raise UsageError(str(error)) from None

    def _evaluated(self, text: str) -> Any:
        try:
            return self._ip.ev(text)
        except (NameError, SyntaxError) as error:
            raise UsageError(f"{text}: {error}") from None

    def _local(self, name: str) -> Any:
        try:
            return self._ip.user_ns[name]
        except KeyError:
            raise UsageError(f"there is no local variable {name!r}") from None

    def _assign(self, name: str, value: Any) -> None:
        if not name.isidentifier():
            raise UsageError(f"{name!r} is not a name")
        self._ip.user_ns[name] = value


class _Came:
    """A value that is here, in the place of a result that Ctrl-C would cancel."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def done(self) -> bool:
        """It is."""
        return True

    def cancel(self) -> bool:
        """There is nothing to cancel."""
        return False


def _connected(profile: str, client: RemoteController) -> str:
    return f"a cluster of profile {profile!r} runs already: connected to its {count(len(client), 'engine')}"


def _was_ended(client: RemoteController) -> bool:
    """Whether its cluster has ended, rather than that somebody has closed it."""
    return client.ended is not None and client.ended.startswith("the cluster has ended")


def _instead(client: RemoteController | None) -> str:
    """What is used in place of a cluster that has ended."""
    if client is None:
        return "another one is started"
    return f"another one runs: connected to its {count(len(client), 'engine')}"


def _leads_to(client: RemoteController | None, cluster: Cluster) -> bool:
    """Whether a client is one of this cluster's."""
    assert client is not None
    controller = client._link.status()["controller"]
    return controller["host"] == socket.gethostname() and controller["pid"] == cluster.place.controller_pid()


def _obeyed(engines: Engines, begun: float) -> str:
    """What became of an interrupt, sent when the monotonic clock said ``begun``; waits a moment for it."""
    while True:
        passed = time.monotonic() - begun
        records = engines.engines
        still = [e.id for e in records if e.state == "unresponsive" or (e.task and (e.seconds or 0.0) >= passed)]
        if not still or passed >= OBEYS_SOON:
            break
        time.sleep(LOOKS)
    ended = [engine.id for engine in records if engine.id not in still]
    lines = [f"{targets.named(ended)}: what ran has ended"] if ended or not still else []
    if still:
        runs, it = ("runs", "it") if len(still) == 1 else ("run", "them")
        lines.append(f"{targets.named(still)} still {runs}; %where says where, `%interrupt --kill` ends {it}")
    return "\n".join(lines)


def _until_done(result: AsyncResult) -> None:
    result.wait()


def _count(text: str | None) -> int:
    if text is None:
        return 0
    if not text.isdigit() or text == "0":
        raise UsageError(f"-n needs a positive number, not {text!r}")
    return int(text)


def _showing_engines_errors(shell: Any) -> Magic:
    """The shell's ``showtraceback``, which also shows what engines raised as it should be shown.

    IPython would show the way from the user's call to the place where the error was rebuilt, and of a
    group all members, where one in a hundred is enough; a group it cannot show again in ``%tb``.
    """
    otherwise: Magic = shell.showtraceback

    @functools.wraps(otherwise)
    def showtraceback(exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
        error = exc_tuple[1] if exc_tuple else sys.exc_info()[1] or getattr(sys, "last_value", None)
        if kwargs.get("exception_only") or not (is_ours(error) or was_interrupted(error)):
            otherwise(exc_tuple, *args, **kwargs)
            return
        kind, error, trace = shell._get_exc_info(exc_tuple)
        here = [] if hasattr(error, "_render_traceback_") else called_from(trace, shell.colors)
        shell._showtraceback(kind, error, [*here, *lines_of(error, shell)])
        if shell.call_pdb:
            shell.debugger(force=True)

    return showtraceback


_HERE = frozenset({*_OPTIONS, "cluster", "load_ext", "unload_ext", "reload_ext"})
"""Magics that run here although cells go to the engines."""

_NAMING = frozenset({"px", "pull", "gather", "peek"})
"""Magics whose arguments may be names of engines' variables."""

_CELLS = frozenset({"px", "pxprofile", "pxtime"})
"""Magics whose cells go to the engines."""

_loaded: dict[int, ParallelMagics] = {}


def load(shell: Any) -> None:
    """Register the magics in a shell."""
    if id(shell) in _loaded:
        return
    magics = ParallelMagics(shell)
    shell.register_magics(magics, LookingMagics(shell, lambda: magics.rc, lambda: magics.there, magics._spec))
    _loaded[id(shell)] = magics
    for name in _OPTIONS:
        for prefix in ("%", "%%"):
            shell.set_hook("complete_command", magics.complete, str_key=prefix + name)
    shell.input_transformers_cleanup.append(magics._asks)
    shell.Completer.custom_matchers.append(magics.complete_in_cell)
    magics.showed_tracebacks = shell.showtraceback
    shell.showtraceback = _showing_engines_errors(shell)
    atexit.register(magics._drop)


def unload(shell: Any) -> None:
    """Disconnect, end what autostart began, and take the magics away."""
    magics = _loaded.pop(id(shell), None)
    if magics is None:
        return
    for registered in (magics, shell.magics_manager.registry["LookingMagics"]):
        for kind, names in registered.magics.items():
            for name in names:
                shell.magics_manager.magics[kind].pop(name, None)
    for transform in (magics._auto, magics._asks):
        if transform in shell.input_transformers_cleanup:
            shell.input_transformers_cleanup.remove(transform)
    shell.Completer.custom_matchers.remove(magics.complete_in_cell)
    magics._following(False)
    if getattr(shell.showtraceback, "__wrapped__", None) == magics.showed_tracebacks:
        shell.showtraceback = magics.showed_tracebacks
    atexit.unregister(magics._drop)
    magics._drop()
