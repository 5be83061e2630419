"""What IPython shows when a magic fails: what engines raised, and what we have to say; nothing of how it came here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ipkernel_ext.display import came_through, describe, is_refusal
from ipkernel_ext.errors import CompositeError, ParallelError
from ipkernel_ext.remote_errors import RemoteTraceback

Magic = Callable[..., Any]


def shows_errors(magic: Magic) -> Magic:
    """Have a magic's errors shown as what they are, without the frames that brought them here.

    Engines' errors: each distinct one once, with the engines it came from. Ours: what they say.
    """

    @functools.wraps(magic)
    def shown(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return magic(self, *args, **kwargs)
        except KeyboardInterrupt as error:
            error._render_traceback_ = functools.partial(lines_of, error, self.shell)  # type: ignore[attr-defined]
            raise
        except Exception as error:
            if is_ours(error):
                error._render_traceback_ = functools.partial(lines_of, error, self.shell)  # type: ignore[attr-defined]
            raise

    return shown


def lines_of(error: BaseException, shell: Any) -> list[str]:
    """The lines that a shell shows of such an error."""
    if not isinstance(error, Exception):
        return [type(error).__name__]
    lines = describe(error, shell.colors)
    return [*lines, f"CompositeError: {error.message}"] if isinstance(error, CompositeError) else lines


def is_ours(error: Any) -> bool:
    """Whether an error came from an engine, or is this package's own."""
    if isinstance(error, ParallelError) or isinstance(getattr(error, "__cause__", None), RemoteTraceback):
        return True
    return isinstance(error, TypeError | ValueError | LookupError | OSError) and is_refusal(error)


def was_interrupted(error: Any) -> bool:
    """Whether Ctrl-C ended a call of this package."""
    return isinstance(error, KeyboardInterrupt) and came_through(error.__traceback__)
