"""``python -m ipkernel_ext.nursery.outpost FILE NUMBERS``: an agent where no controller is.

A batch system or ssh starts it. Its orders are those that any agent of the cluster gets elsewhere, as
JSON in a file; what depends on the host it finds out here. It starts its engines, watches and restarts
them, and ends with them: when they have left, when it is told to, and when it has found no controller
for too long.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
from pathlib import Path

from ipkernel_ext.config import gpus
from ipkernel_ext.config.cores import thread_limits
from ipkernel_ext.config.place import Place
from ipkernel_ext.nursery import open_files
from ipkernel_ext.nursery.orders import Orders
from ipkernel_ext.nursery.starters import Forker


def numbers_of(text: str) -> list[int]:
    """``0-3,7`` as a list of numbers."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def settle(orders: Orders, numbers: list[int], place: Place) -> Orders:
    """Orders as they are on this host, at this place.

    Engines begin where the cluster was started if that directory is here too, else in the home.
    """
    setup = orders["setup"]
    found = [name for name in setup["preload"] if name != "numpy" or importlib.util.find_spec(name)]
    return {
        **orders,
        "directory": str(place.directory),
        "logs": str(place.logs),
        "numbers": numbers,
        "start_method": orders["start_method"] if len(numbers) > 1 else "spawn",
        "setup": {
            **setup,
            "cwd": setup["cwd"] if os.path.isdir(setup["cwd"]) else os.path.expanduser("~"),
            "open_files": open_files.allowed(),
            "preload": found,
            "threads": {**thread_limits(len(numbers)), **setup["threads"]},
            "gpus": None if setup["gpus"] is None else gpus.visible(os.environ),
            "begun": str(place.engines),
        },
    }


def main() -> None:
    """Entry of its process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("groups", help="numbers of its engines; of several outposts with / between them")
    parser.add_argument("--index", type=int, default=0, help="which of them this one is")
    parser.add_argument("--directory", type=Path, help="its place; a new one otherwise")
    given = parser.parse_args()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a batch system may send it to all at once; they inherit this
    place = Place.private() if given.directory is None else Place(given.directory, None)
    place.make()
    numbers = numbers_of(given.groups.split("/")[given.index])
    orders = settle(json.loads(given.file.read_text()), numbers, place)
    forker = Forker(orders) if orders["start_method"] == "fork" else None
    from ipkernel_ext.nursery import agent

    agent.main(orders, None, forker)


if __name__ == "__main__":
    main()
