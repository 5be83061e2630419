"""An environment of the peers' own, so that none of them is a dependency of ours.

It is made once, in a folder that git ignores, and made anew when the list of peers changes. A peer that
cannot be installed is left out, and the reason is kept to be said in the table.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "peers"

PEERS = {
    "ipyparallel": ["ipyparallel"],
    "distributed": ["distributed", "dask"],
    "ray": ["ray"],
    "loky": ["loky"],
    "joblib": ["joblib"],
    "mpi4py": ["mpi4py", "mpich"],
}
"""What is installed for each."""

ALWAYS = ["numpy", "psutil"]
_LIMIT = 900  # seconds that an installation may take


class Environment(NamedTuple):
    """Where peers are.

    Attributes
    ----------
    python : str
        Its interpreter.
    versions : dict
        Of the peers that are there.
    missing : dict
        Why the others are not.
    """

    python: str
    versions: dict[str, str]
    missing: dict[str, str]


def prepare(folder: Path = FOLDER, say: Callable[[str], object] = print) -> Environment:
    """The environment, made if it is not there.

    Parameters
    ----------
    say
        Told what takes a while.
    """
    python = folder / "bin" / "python"
    made = folder / "made.json"
    wanted = hashlib.sha256(f"{sys.version} {PEERS} {ALWAYS}".encode()).hexdigest()
    if made.exists():
        known = json.loads(made.read_text())
        if known["wanted"] == wanted:
            return Environment(str(python), known["versions"], known["missing"])
    say(f"making an environment for the peers in {folder}; this takes some minutes, once")
    venv.create(folder, clear=True, with_pip=True, symlinks=True)
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    _install(python, ALWAYS)
    for name, packages in PEERS.items():
        reason = _install(python, packages)
        if reason is None:
            versions[name] = _version(python, name)
        else:
            missing[name] = reason
            say(f"{name} is left out: {reason}")
    made.write_text(json.dumps({"wanted": wanted, "versions": versions, "missing": missing}))
    return Environment(str(python), versions, missing)


def _install(python: Path, packages: list[str]) -> str | None:
    """None, or why not."""
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT)
    except subprocess.TimeoutExpired:
        return f"pip did not end within {_LIMIT} s"
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return (errors or ["pip failed"])[-1].removeprefix("ERROR: ")


def _version(python: Path, name: str) -> str:
    code = f"import importlib.metadata; print(importlib.metadata.version({name!r}))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()
