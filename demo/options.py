"""Prices European call options by Monte Carlo on four engines, and checks them against Black-Scholes."""

import sys

from IPython.core.interactiveshell import InteractiveShell

CELLS = [
    ("The extension, a controller and four engines.", "%load_ext ipkernel_ext"),
    ("", "%cluster start -n 4"),
    ("Code runs on all engines; the value of the last expression comes back.", "%px import math, os, random, time"),
    ("", "%px os.getpid()"),
    ("Local variables go to the engines.", "spot, rate, volatility, paths = 100.0, 0.03, 0.2, 40_000"),
    ("", "%push spot rate volatility paths"),
    (
        "A cell runs on all engines at once; its output streams. Each defines the pricer and a list of what it did.",
        """%%px
did = []

def price(strike, maturity, seed):
    begun = time.perf_counter()
    draw = random.Random(seed).gauss
    drift = (rate - volatility**2 / 2) * maturity
    width = volatility * math.sqrt(maturity)
    payoffs = [max(spot * math.exp(drift + width * draw(0, 1)) - strike, 0.0) for _ in range(paths)]
    mean = sum(payoffs) / paths
    variance = sum((x - mean) ** 2 for x in payoffs) / (paths - 1)
    discount = math.exp(-rate * maturity)
    did.append((strike, maturity, time.perf_counter() - begun))
    return discount * mean, discount * math.sqrt(variance / paths)

print(f"ready in process {os.getpid()}")""",
    ),
    (
        "A grid of strikes and maturities, balanced over the engines. `price` is found where it runs.",
        "grid = [(strike, years, seed) for seed, (strike, years) in"
        " enumerate((k, t) for k in (80, 90, 100, 110, 120) for t in (0.25, 0.5, 1.0, 2.0))]",
    ),
    ("", "import time; begun = time.perf_counter()"),
    ("", "prices = %map (lambda option: price(*option)) grid"),
    ("", "took = time.perf_counter() - begun"),
    ("What each engine did, and how long it took.", "%pull did"),
    (
        "",
        """for engine, options in enumerate(did):
    print(f"engine {engine}: {len(options):2} options in {sum(o[2] for o in options):5.2f} s")
print(f"all {len(grid)} in {took:.2f} s")""",
    ),
    (
        "Against Black-Scholes: each price within four standard errors.",
        """import math
from statistics import NormalDist

def black_scholes(strike, maturity):
    width = volatility * math.sqrt(maturity)
    d = (math.log(spot / strike) + (rate + volatility**2 / 2) * maturity) / width
    normal = NormalDist().cdf
    return spot * normal(d) - strike * math.exp(-rate * maturity) * normal(d - width)

print("strike  years  Monte Carlo  Black-Scholes  standard errors apart")
apart = []
for (strike, years, _), (value, error) in zip(grid, prices):
    exact = black_scholes(strike, years)
    apart.append(abs(value - exact) / error)
    print(f"{strike:6}  {years:5}  {value:11.4f}  {exact:13.4f}  {apart[-1]:6.2f}")
assert max(apart) < 4, max(apart)""",
    ),
    ("", "%engines"),
    ("", "%cluster stop"),
]


def main() -> int:
    """Run the cells in an IPython shell, as if they had been typed."""
    shell = InteractiveShell.instance(colors="nocolor")
    for number, (remark, cell) in enumerate(CELLS, 1):
        if remark:
            print(f"\n# {remark}")
        first, *rest = cell.split("\n")
        print(f"In [{number}]: {first}")
        for line in rest:
            print(f"{'...: '.rjust(len(str(number)) + 7)}{line}")
        result = shell.run_cell(cell, store_history=True)
        if not result.success:
            print("the demo failed", file=sys.stderr)
            return 1
    print("\nThe engines' prices agree with Black-Scholes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
