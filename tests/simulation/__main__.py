"""``python -m tests.simulation SEED``: one world, with its story if it fails.

``python -m tests.simulation --seeds 1000 --start N``: many worlds on all cores, one line about them.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.running import bunches, live, tell


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("seed", type=int, nargs="?")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--task", help="show only events that name this")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        world, failure = live(arguments.seed)
        if failure is not None:
            tell(world, failure, arguments.lines)
        print(
            f"seed {world.seed}: {'failed' if failure else 'passed'}, {world.clock.steps} steps, "
            f"{world.clock.now:.1f} s simulated, trace {world.trace_hash}"
        )
        return 1 if failure else 0
    began = time.perf_counter()
    seeds = range(arguments.start, arguments.start + arguments.seeds)
    with bunches(seeds) as made:
        lived = []
        for bunch in made:
            lived.append(bunch.result())
            for seed, failure in lived[-1].failed.items():
                print(f"seed {seed}: {failure[:200]}", flush=True)
    seconds = time.perf_counter() - began
    failed = sum(len(bunch.failed) for bunch in lived)
    print(
        f"{len(seeds)} seeds from {arguments.start}: {failed} failed, {sum(bunch.steps for bunch in lived)} steps, "
        f"{sum(bunch.seconds for bunch in lived) / 3600:.1f} h simulated, {seconds:.1f} s, "
        f"{len(seeds) / seconds:.1f} seeds/s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
