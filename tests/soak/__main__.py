"""``python -m tests.soak --seconds 1800``: random work, random deaths, and one account of it all."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.soak.soak import Soak


def main() -> int:
    """Run it; 0 if all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(options.seed, options.seconds, Path(directory))
        soak.run()
    if soak.problems:
        print(soak.story())
        print("\n".join(soak.problems))
    print(f"{soak.started} tasks began; calls ended so: {dict(soak.outcomes)}")
    print(f"killed: {dict(soak.deaths)}")
    for who, growth in soak.growth.items():
        print(f"{who}: {growth:.1f} MB more after 100,000 small tasks")
    return int(bool(soak.problems))


if __name__ == "__main__":
    sys.exit(main())
