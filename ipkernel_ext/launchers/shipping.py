"""What a host lacks to run engines: this package and what it depends on, as archives to be unpacked in a cache there.

Nothing is installed. Where Python there is of the same version and kind as here, what is installed
here is packed; else pip is asked for wheels that fit.
"""

from __future__ import annotations

import hashlib
import importlib.metadata as metadata
import io
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ipkernel_ext.launchers.launcher import LaunchError

PACKAGE = __name__.partition(".")[0]
DOWNLOAD = 300.0  # seconds
_REQUIREMENT = re.compile(r"([\w.-]+)[^;]*?(?:>=\s*([\w.]+))?[^;]*(?:;(.*))?$")


class Kind(NamedTuple):
    """A Python, as far as what was built for one runs on another."""

    version: str  # "3.11"
    platform: str  # "linux-x86_64"
    abi: str  # SOABI


HERE = Kind(
    f"{sys.version_info.major}.{sys.version_info.minor}",
    sysconfig.get_platform(),
    str(sysconfig.get_config_var("SOABI")),
)


class Archive:
    """Files, and a name that is another one as soon as one of them is.

    Parameters
    ----------
    name : str
    find
        The files by where they are to be; asked when the archive is packed.
    """

    def __init__(self, name: str, find: Callable[[], Iterable[tuple[str, bytes]]]) -> None:
        self.name = name
        self._find = find

    @cached_property
    def content(self) -> bytes:
        """The archive."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
            for name, content in self._find():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(b"%d " % len(part) + part)
    return digest.hexdigest()


def requirements() -> dict[str, str]:
    """What this package needs, and the least version of each; "" for any."""
    return {name: least for name, least, marker in _required(PACKAGE) if "extra" not in marker}


def _required(name: str) -> Iterator[tuple[str, str, str]]:
    for text in metadata.requires(name) or ():
        found = _REQUIREMENT.match(text)
        assert found is not None, text
        yield found[1], found[2] or "", found[3] or ""


@cache
def own() -> Archive:
    """This package."""
    root = Path(__file__).parent.parent
    files = [(f"{PACKAGE}/{path.relative_to(root).as_posix()}", path.read_bytes()) for path in _files(root)]
    distribution = metadata.distribution(PACKAGE)
    about = (distribution.read_text("METADATA") or "").encode()
    files.append((f"{PACKAGE}-{distribution.version}.dist-info/METADATA", about))
    return Archive(
        f"code-{_digest(part for name, content in files for part in (name.encode(), content))}", lambda: files
    )


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


@cache
def dependencies(roots: frozenset[str], kind: Kind) -> Archive:
    """These and what they need in turn, for that kind of Python; their versions are those that are here.

    Packing it raises LaunchError where they cannot be had for it.
    """
    names = sorted(_closure(roots))
    name = _digest(text.encode() for text in [*kind, *(f"{name}=={metadata.version(name)}" for name in names)])
    if kind == HERE:
        return Archive(f"deps-{name}", lambda: (entry for name in names for entry in _installed(name)))
    return Archive(f"deps-{name}", lambda: _download(roots, kind))


def _closure(roots: Iterable[str]) -> set[str]:
    """Of those that are installed here."""
    found: set[str] = set()
    ahead = list(roots)
    while ahead:
        name = ahead.pop()
        if _normal(name) in found:
            continue
        try:
            needed = [other for other, _, marker in _required(name) if "extra" not in marker]
        except metadata.PackageNotFoundError:
            continue  # wanted on another platform only
        found.add(_normal(name))
        ahead += needed
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> Iterator[tuple[str, bytes]]:
    """The files of an installed distribution, by where they are to be; no commands, no bytecode."""
    for file in metadata.distribution(name).files or ():
        posix = PurePosixPath(file)
        if (
            ".." not in posix.parts
            and "__pycache__" not in posix.parts
            and (path := Path(str(file.locate()))).is_file()
        ):
            yield str(posix), path.read_bytes()


def _download(roots: Iterable[str], kind: Kind) -> Iterator[tuple[str, bytes]]:
    """The files of wheels that fit.

    Raises
    ------
    LaunchError
        There are none.
    """
    wanted = [f"{name}=={metadata.version(name)}" for name in sorted(roots)]
    machine = kind.platform.removeprefix("linux-")
    platforms = [f"manylinux{version}_{machine}" for version in ("2014", "_2_17", "_2_26", "_2_28")]
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "-d", directory]
        command += ["--python-version", kind.version, "--implementation", "cp"]
        command += [f"--platform={platform}" for platform in platforms]
        done = subprocess.run([*command, *wanted], capture_output=True, text=True, timeout=DOWNLOAD)
        if done.returncode:
            said = (done.stderr.strip() or "there is no pip").splitlines()[-1]
            raise LaunchError(
                f"Python {kind.version} there lacks {', '.join(sorted(roots))}, and no wheels for it can be had here: "
                f"{said}; install {PACKAGE} there"
            )
        for wheel in sorted(Path(directory).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                yield from ((name, archive.read(name)) for name in archive.namelist() if not name.endswith("/"))
