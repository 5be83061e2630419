"""Fuzz for as long as you like: ``python -m tests.fuzzing --seconds 60 [TARGET …]``.

With atheris, guided by what of the package a run reached; where that cannot be had, the same targets on random
bytes, which is much weaker, and said to be.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import subprocess
import sys
import time
from pathlib import Path

FOUND = Path("build")  # where an input that fails is kept, for --input
SIZES = (5, 20, 60, 200, 600)  # bytes


def main() -> int:
    """Run the targets one after the other; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="decode, join or converse (default: all)")
    parser.add_argument("--seconds", type=float, default=60, help="in all")
    parser.add_argument("--seed", type=int, help="of random bytes (default: another one each time)")
    parser.add_argument("--input", type=Path, help="run one target on what this file holds")
    parser.add_argument("--guided", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.guided:
        _guided(options.guided, options.seconds)
        return 0

    from tests.fuzzing.targets import TARGETS

    chosen = options.targets or list(TARGETS)
    unknown = [name for name in chosen if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    if options.input:
        TARGETS[chosen[0]](options.input.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        print(f"atheris is not installed (is there one for Python {version}?): random bytes instead, which find less")
        seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
        return sum(_random(name, seed, options.seconds / len(chosen)) for name in chosen)
    failed = 0
    for name in chosen:
        print(f"{name}, guided by atheris", flush=True)
        command = [sys.executable, "-m", "tests.fuzzing", "--guided", name, "--seconds"]
        failed += subprocess.run([*command, str(options.seconds / len(chosen))]).returncode != 0
    return failed


def _random(name: str, seed: int, seconds: float) -> int:
    from tests.fuzzing.targets import TARGETS

    begun = time.monotonic()
    count = 0
    while time.monotonic() < begun + seconds:
        chance = random.Random(seed + count)
        data = chance.randbytes(chance.choice(SIZES))
        try:
            TARGETS[name](data)
        except Exception:
            print(f"{name} --seed {seed + count} fails on {data!r}")
            raise
        count += 1
    print(f"{name}: {count} inputs from seed {seed}, nothing found")
    return 0


def _guided(name: str, seconds: float) -> None:
    import atheris

    with atheris.instrument_imports(include=["ipkernel_ext.core", "ipkernel_ext.net.pieces"]):
        from tests.fuzzing.targets import TARGETS

    FOUND.mkdir(exist_ok=True)
    limits = [f"-max_total_time={int(max(1, seconds))}", "-max_len=1024", "-len_control=10", "-rss_limit_mb=1024"]
    atheris.Setup([name, *limits, f"-artifact_prefix={FOUND}/{name}-"], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
