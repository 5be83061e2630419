"""The magics that look into engines: each parses a line, makes one call on ``RemoteController``, shows the result.

The docstrings are the help texts of ``%peek?`` and kin.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from IPython.lib.pretty import pretty

from ipkernel_ext import targets, timing
from ipkernel_ext.blocks import labelled_value
from ipkernel_ext.display import Screen
from ipkernel_ext.errors import NameNotFound, NoAnswer
from ipkernel_ext.interruption import guarded
from ipkernel_ext.magic_options import TARGETS, Option, names_as, seconds, split
from ipkernel_ext.remote import RemoteController
from ipkernel_ext.remote_errors import composite
from ipkernel_ext.results import AsyncResult
from ipkernel_ext.shown import shows_errors

OPTIONS: dict[str, tuple[Option, ...]] = {
    "peek": (TARGETS,),
    "where": (TARGETS,),
    "pxdebug": (),
    "follow": (),
    "pxtime": (
        TARGETS,
        Option(("--push",), "names"),
        Option(("--pull",), "names"),
        Option(("--scatter",), "names"),
        Option(("--gather",), "names"),
    ),
    "pxprofile": (
        TARGETS,
        Option(("-o", "--out"), "a name"),
        Option(("--html",), "a file"),
        Option(("--seconds",), "seconds"),
    ),
}
"""By magic; for its own line and for tab completion."""


@magics_class
class LookingMagics(Magics):
    """The magics of one IPython session that look into its engines.

    Parameters
    ----------
    client
        Gives the session's client.
    there
        The same, for what only looks: it starts no cluster where one has been.
    spec
        The engines that the options of a line name.
    """

    shell: Any

    def __init__(
        self,
        shell: Any,
        client: Callable[[], RemoteController],
        there: Callable[[], RemoteController],
        spec: Callable[[dict[str, str]], targets.Spec],
    ) -> None:
        super().__init__(shell=shell)
        self._client = client
        self._there = there
        self._spec = spec
        self._follows = False

    @line_magic
    @shows_errors
    def peek(self, line: str) -> None:
        """Show the value of a variable of the engines while they are busy.

        %peek NAME
        %peek -t 0,2 NAME

        A variable of the namespace or, else, a local one of the function that runs. Equal values are shown
        once. What cannot be pickled or is large is shown as it looks on its engine.
        """
        found, name = split(line, OPTIONS["peek"])
        if not name.isidentifier():
            raise UsageError(f"write: %peek NAME, where NAME is a variable of the engines, not {name!r}")
        rc, spec = self._there(), self._spec(found)
        ids, single = targets.choose(spec, rc.ids, {engine.id: engine for engine in rc.known})
        engines: dict[str, list[int]] = {}
        failed: list[Exception] = []
        for id, value in zip(ids, rc.peek(name, targets=ids, return_exceptions=True), strict=True):
            if isinstance(value, NameNotFound | NoAnswer):
                failed.append(value)
            else:
                engines.setdefault(_text(value), []).append(id)
        for text, same in engines.items():
            print(labelled_value(targets.label(same), text))
        if failed:
            raise failed[0] if single else composite(failed, len(ids))

    @line_magic
    @shows_errors
    def where(self, line: str) -> None:
        """Show where the code of the engines is at this moment, equal stacks once.

        %where
        %where -t 0,2

        Only frames of your own code and of what it calls. An engine that does not answer within 3 s says so.
        """
        found, rest = split(line, OPTIONS["where"])
        if rest:
            raise UsageError(f"%where takes engines only (-t SPEC), not {rest!r}")
        print(self._there().stacks(targets=self._spec(found)))

    @line_magic
    @shows_errors
    def follow(self, line: str) -> None:
        """Show what the other clients of this cluster run and print, with who and where.

        %follow on
        %follow off
        %follow            the one or the other, in turn

        Each line begins with the host and process of the client, and the engines. Of what was missed while the
        connection was lost the latest is shown too.
        """
        word = line.strip()
        if word not in ("", "on", "off"):
            raise UsageError(f"write: %follow on, or %follow off, not {word!r}")
        on = not self._follows if not word else word == "on"
        self._there().follow(on)
        self._follows = on
        print("other clients are followed; %follow off ends that" if on else "other clients are not followed any more")

    @line_magic
    @shows_errors
    def pxdebug(self, line: str) -> None:
        """Debug what failed on an engine, at a prompt of IPython's debugger there.

        %pxdebug               where the last call failed, or code waits at a breakpoint()
        %pxdebug 3             on engine 3

        up, down, p, !x = 1, interact, completion, help; quit keeps the engine's variables. Other engines go on.
        Ctrl-C ends a command that runs; twice at the prompt leaves the debugger. The engine waits for a command
        for ParallelEngine.input_timeout.
        """
        name = line.strip()
        if name and not re.fullmatch(r"-?\d+", name):
            raise UsageError(f"write: %pxdebug ENGINE, where ENGINE is an engine's id, not {name!r}")
        self._there().debug(int(name) if name else None)

    @no_var_expand
    @line_cell_magic
    @shows_errors
    def pxtime(self, line: str, cell: str | None = None) -> None:
        """Run code on the engines, and show where its time went on each.

        %pxtime CODE
        %%pxtime [options], and the code in the cell

        computing is time on processors, of all threads; waiting is time in the code but on no processor; moving
        data is what calls and data were on their way, and idle the time until the slowest engine was done too.
        Load imbalance says how much longer than the mean the slowest engine took.

        -t, --targets SPEC   which engines
        --push x,y           local variables to the engines, before
        --pull z             engines' variables here, after
        --scatter x,y        local sequences, cut over the engines, before
        --gather z           engines' pieces joined here, after
        """
        found, code = self._code("pxtime", line, cell)
        rc, spec = self._client(), self._spec(found)
        begun = time.perf_counter()
        moves = []

        def move(send: Callable[[], AsyncResult]) -> Any:
            result = guarded(send, _finished)
            moves.append(result.times)
            return result.get()

        for name, there in self._pairs(found, "push"):
            value = self._local(name)
            move(lambda: rc.push({there: value}, targets=spec, block=False))  # noqa: B023 - called at once
        for name, there in self._pairs(found, "scatter"):
            value = self._local(name)
            move(lambda: rc.scatter(there, value, targets=spec, block=False))  # noqa: B023
        ran = guarded(lambda: rc.execute(code, targets=spec, block=False), self._shown)
        if ran.successful():
            for name, here in self._pairs(found, "pull"):
                self.shell.user_ns[here] = move(lambda: rc.pull(name, targets=spec, block=False))  # noqa: B023
            for name, here in self._pairs(found, "gather"):
                self.shell.user_ns[here] = move(lambda: rc.gather(name, targets=spec, block=False))  # noqa: B023
        print(timing.table(ran.times, moves, time.perf_counter() - begun))
        ran.get()

    @no_var_expand
    @line_cell_magic
    @shows_errors
    def pxprofile(self, line: str, cell: str | None = None) -> None:
        """Run code on the engines, and show in which functions they spent their time.

        %pxprofile CODE
        %%pxprofile [options], and the code in the cell
        %pxprofile --seconds 5           what they run now, for so long

        A table of functions over all engines: seconds of computing and of waiting, and with what they called.

        -t, --targets SPEC   which engines
        -o, --out NAME       keep the profile under this name
        --html FILE          write a page of flame graphs, with waiting apart
        """
        found, code = self._code("pxprofile", line, cell, needed=False)
        rc, spec = self._client(), self._spec(found)
        if bool(code) == ("seconds" in found):
            raise UsageError("write: %pxprofile CODE, or %pxprofile --seconds 5 for what runs already")
        ran: AsyncResult | None = None
        with rc.profile(targets=spec) as profile:
            if code:
                ran = guarded(lambda: rc.execute(code, targets=spec, block=False), self._shown)
            else:
                time.sleep(seconds(found["seconds"], "--seconds"))
        print(profile.table())
        if "out" in found:
            self.shell.user_ns[found["out"]] = profile
        if "html" in found:
            print(f"written: {profile.save(found['html'])}")
        if ran is not None:
            ran.get()

    def _code(self, magic: str, line: str, cell: str | None, needed: bool = True) -> tuple[dict[str, str], str]:
        found, rest = split(line, OPTIONS[magic])
        if cell is not None and rest:
            raise UsageError(f"%%{magic} takes its code from the cell, not from its first line ({rest!r})")
        code = rest if cell is None else cell
        if needed and not code.strip():
            raise UsageError(f"no code: write %{magic} CODE, or %%{magic} and the code below it")
        return found, code

    def _shown(self, result: AsyncResult) -> AsyncResult:
        Screen(late=self._client().late_output).follow(result)
        return result

    def _pairs(self, found: dict[str, str], option: str) -> list[tuple[str, str]]:
        return names_as(found[option], f"--{option} x,y") if option in found else []

    def _local(self, name: str) -> Any:
        try:
            return self.shell.user_ns[name]
        except KeyError:
            raise UsageError(f"there is no local variable {name!r}") from None


def _finished(result: AsyncResult) -> AsyncResult:
    result.wait()
    return result


def _text(value: Any) -> str:
    text: str = pretty(value)  # type: ignore[no-untyped-call]
    return text
