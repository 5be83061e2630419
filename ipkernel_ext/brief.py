"""Tracebacks of calls that end where the user's code does: how this package passed an error on helps nobody.

Of errors of engines and of this package's own; what is a mistake in the package keeps its frames.
"""

from __future__ import annotations

import functools
import os
import types
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ipkernel_ext.errors import ParallelError
from ipkernel_ext.remote_errors import RemoteTraceback

_PACKAGE = os.path.dirname(__file__) + os.sep
_OPERATORS = frozenset({"__contains__", "__delitem__", "__getitem__", "__setitem__"})

C = TypeVar("C", bound=Callable[..., Any])
K = TypeVar("K", bound=type)


def brief(kind: K) -> K:
    """Have the public calls of a class raise such errors with the user's frames alone."""
    for name, call in list(vars(kind).items()):
        if isinstance(call, types.FunctionType) and (not name.startswith("_") or name in _OPERATORS):
            setattr(kind, name, briefly(call))
    return kind


def briefly(call: C) -> C:
    """Have a call raise such errors with the user's frames alone."""

    @functools.wraps(call)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except Exception as error:
            if isinstance(error, ParallelError) or isinstance(error.__cause__, RemoteTraceback):
                error.__traceback__ = users_frames(error.__traceback__)
            raise

    return cast("C", called)


def users_frames(trace: types.TracebackType | None) -> types.TracebackType | None:
    """A traceback without the frames of this package."""
    kept = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            kept.append(trace)
        trace = trace.tb_next
    made = None
    for part in reversed(kept):
        made = types.TracebackType(made, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return made
