"""``python -m tests.simulation SEED``: one world, with its story if it fails.

``python -m tests.simulation --seeds 1000 --start N``: many worlds, one line about them.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation.world import World


def live(seed: int) -> tuple[World, str | None]:
    """One world, and how it failed."""
    world = World(seed)
    try:
        world.run()
    except Exception:
        return world, traceback.format_exc()
    return world, None


def tell(world: World, failure: str, lines: int) -> None:
    """A failing world's story."""
    print(f"---- seed {world.seed}: the last {lines} events")
    print("\n".join(list(world.lines)[-lines:]))
    print(failure)
    print(f"replay: python -m tests.simulation {world.seed}")


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
    steps = 0
    simulated = 0.0
    failed: dict[int, str] = {}
    for seed in range(arguments.start, arguments.start + arguments.seeds):
        world, failure = live(seed)
        steps += world.clock.steps
        simulated += world.clock.now
        if failure is not None:
            failed[seed] = failure.strip().splitlines()[-1]
            print(f"seed {seed}: {failed[seed][:200]}", flush=True)
    seconds = time.perf_counter() - began
    print(
        f"{arguments.seeds} seeds from {arguments.start}: {len(failed)} failed, {steps} steps, "
        f"{simulated / 3600:.1f} h simulated, {seconds:.1f} s, {arguments.seeds / seconds:.1f} seeds/s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
