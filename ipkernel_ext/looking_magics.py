"""The magics that look into engines: each parses a line, makes one call on ``RemoteController``, shows the result.

The docstrings are the help texts of ``%peek?`` and kin.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.lib.pretty import pretty

from ipkernel_ext import targets
from ipkernel_ext.blocks import labelled_value
from ipkernel_ext.errors import NameNotFound, NoAnswer
from ipkernel_ext.magic_options import TARGETS, Option, split
from ipkernel_ext.remote import RemoteController
from ipkernel_ext.results import composite
from ipkernel_ext.shown import shows_errors

OPTIONS: dict[str, tuple[Option, ...]] = {"peek": (TARGETS,), "where": (TARGETS,), "pxdebug": ()}
"""By magic; for its own line and for tab completion."""


@magics_class
class LookingMagics(Magics):
    """The magics of one IPython session that look into its engines.

    Parameters
    ----------
    client
        Gives the session's client.
    spec
        The engines that the options of a line name.
    """

    shell: Any

    def __init__(
        self, shell: Any, client: Callable[[], RemoteController], spec: Callable[[dict[str, str]], targets.Spec]
    ) -> None:
        super().__init__(shell=shell)
        self._client = client
        self._spec = spec

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
        rc, spec = self._client(), self._spec(found)
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
        print(self._client().stacks(targets=self._spec(found)))

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
        self._client().debug(int(name) if name else None)


def _text(value: Any) -> str:
    text: str = pretty(value)  # type: ignore[no-untyped-call]
    return text
