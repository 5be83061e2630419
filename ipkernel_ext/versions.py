"""Which versions of Python, and of what pickles, two sides have, and what cannot get from one to the other.

Who the sides are, and how they say their versions, must not be known here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import cloudpickle


class Versions(NamedTuple):
    """Of one side; "" where it does not say, or does not have it."""

    python: str
    cloudpickle: str
    numpy: str = ""


HERE = Versions(".".join(map(str, sys.version_info[:3])), cloudpickle.__version__)
"""This process's, without NumPy's."""


def here(*, search: bool) -> Versions:
    """This process's.

    Parameters
    ----------
    search : bool
        Whether to find out NumPy's version also where it is not loaded, which takes time.
    """
    loaded = sys.modules.get("numpy")
    if loaded is not None:
        return HERE._replace(numpy=str(loaded.__version__))
    return HERE._replace(numpy=_installed_numpy()) if search else HERE


@cache
def _installed_numpy() -> str:
    from importlib import metadata

    try:
        return metadata.version("numpy")
    except metadata.PackageNotFoundError:
        return ""


def differences(mine: Versions, theirs: Versions) -> Iterator[str]:
    """What does not get from one side to the other, and what to do about it; nothing where both are alike enough."""
    if _differ(mine.python, theirs.python, 2):
        yield (
            f"Python {theirs.python} there, {mine.python} here: functions and classes that go by value cannot get "
            "across, which are those of __main__, notebooks and modules that the other side does not have; code as "
            "text, plain data, and what both sides can import do. "
            f"Use Python {minor(mine.python)} on both sides"
        )
    if _differ(mine.cloudpickle, theirs.cloudpickle, 1):
        yield (
            f"cloudpickle {theirs.cloudpickle} there, {mine.cloudpickle} here: functions and classes that go by value "
            f"cannot get across. `pip install cloudpickle=={mine.cloudpickle}` there"
        )
    elif _differ(mine.cloudpickle, theirs.cloudpickle, 2):
        yield (
            f"cloudpickle {theirs.cloudpickle} there, {mine.cloudpickle} here: functions that go by value may not get "
            f"across. `pip install cloudpickle=={mine.cloudpickle}` there"
        )
    if _differ(mine.numpy, theirs.numpy, 1):
        yield (
            f"NumPy {theirs.numpy} there, {mine.numpy} here: NumPy before 1.26 cannot read arrays of NumPy 2. "
            "Use the same major version on both sides"
        )


def _differ(mine: str, theirs: str, parts: int) -> bool:
    return bool(mine and theirs) and mine.split(".")[:parts] != theirs.split(".")[:parts]


def minor(version: str) -> str:
    """Major and minor version."""
    return ".".join(version.split(".")[:2])
