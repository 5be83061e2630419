"""The profile's own code, which each engine runs before it takes any task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from ipkernel_ext.errors import EngineStartError
from ipkernel_ext.execution.output import StreamName
from ipkernel_ext.execution.shell import EngineShell


def start_up(shell: EngineShell, files: Sequence[str], lines: Sequence[str], log: TextIO) -> None:
    """Run files and lines as cells, in the user's namespace. The user's first cell is number 1 all the same.

    Parameters
    ----------
    log : text file
        Where goes what they print, as no client has asked for it.

    Raises
    ------
    EngineStartError
        One of them failed; with its traceback.
    """
    if not files and not lines:
        return
    shell.output.through = _Log(log)
    try:
        for file in files:
            path = Path(file).expanduser()
            try:
                code = path.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise EngineStartError(f"the start-up file {path} of ParallelEngine.exec_files: {error}") from None
            _run(shell, code, str(path.resolve()), f"the start-up file {path}")
        for line in lines:
            _run(shell, line, "", f"the start-up line {line!r}")
    finally:
        shell.output.through = None
    shell.begin_anew()


def _run(shell: EngineShell, code: str, filename: str, what: str) -> None:
    if shell.run(code, filename) is not None:
        raise EngineStartError(f"{what} failed:\n{shell.problem_text.rstrip()}")


class _Log:
    """Takes text past the output buffer."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, name: StreamName, text: str) -> None:
        self._file.write(text)

    def flush(self) -> None:
        self._file.flush()
