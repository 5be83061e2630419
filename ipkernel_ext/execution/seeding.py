"""Random streams that depend on a seed and an item's index, and on nothing else.

A seed is text: numbers with slashes between, the entropy first. ``numpy.random`` follows NumPy's
``SeedSequence`` with the other numbers as spawn key; ``random`` a hash of the text, so that it is
the same where NumPy is not installed.
"""

from __future__ import annotations

import hashlib
import random
from types import ModuleType
from typing import Any


class Streams:
    """Seeds the global generators anew for each item; afterwards they go on as they were before.

    Parameters
    ----------
    seed : str
        What all items have in common.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        entropy, *path = map(int, seed.split("/"))
        self._entropy, self._path = entropy, path
        self._numpy = _numpy_random()
        self._before: tuple[Any, Any] | None = None

    def begin(self, index: int) -> None:
        """From now on the generators give this item's stream."""
        digest = hashlib.blake2b(f"{self._seed}/{index}".encode(), digest_size=32).digest()
        random.seed(int.from_bytes(digest, "big"))
        if self._numpy is not None:
            sequence = self._numpy.SeedSequence(self._entropy, spawn_key=(*self._path, index))
            self._numpy.seed(sequence.generate_state(8))

    def __enter__(self) -> Streams:
        self._before = random.getstate(), None if self._numpy is None else self._numpy.get_state()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._before is not None
        ours, numpys = self._before
        random.setstate(ours)
        if self._numpy is not None:
            self._numpy.set_state(numpys)


def _numpy_random() -> ModuleType | None:
    try:
        import numpy.random
    except ImportError:
        return None
    return numpy.random
