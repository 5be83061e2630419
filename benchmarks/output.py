"""``python -m benchmarks.output``: engines that print all at once, in lines a second until all is shown and kept."""

from __future__ import annotations

import io
import statistics
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import psutil

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.display import Screen

ENGINES = 4
LINES = 100_000
ROUNDS = 5

WAYS = {
    "print": f"for i in range({LINES}): print('line', i)",
    "os.write": f"import os\nfor i in range({LINES}): n = os.write(1, b'line %d\\n' % i)",
    "a child process": f"import os; code = os.system('seq -f \"line %.0f\" 0 {LINES - 1}')",
}


def _round(rc: RemoteController, code: str) -> tuple[float, int]:
    """Seconds until all is shown, and how many lines were shown."""
    begun = time.perf_counter()
    result = rc.execute(code, block=False)
    with redirect_stdout(io.StringIO()) as shown, redirect_stderr(io.StringIO()):
        Screen().follow(result)
    seconds = time.perf_counter() - begun
    expected = "".join(f"line {i}\n" for i in range(LINES))
    assert all(text == expected for text in result.stdout), "something is lost, or not in order"
    return seconds, shown.getvalue().count("\n")


def main() -> None:
    """Print the table."""
    with launch(n=ENGINES) as rc:
        for name, code in WAYS.items():
            before = psutil.Process().memory_info().rss
            rounds = [_round(rc, code) for _ in range(ROUNDS)]
            grown = (psutil.Process().memory_info().rss - before) / 2**20
            speed = ENGINES * LINES / statistics.median(seconds for seconds, _ in rounds)
            print(
                f"{ENGINES} engines × {LINES:,} lines by {name:<16} {speed:>10,.0f} lines/s, "
                f"{rounds[-1][1]:,} shown, client {grown:+.0f} MB"
            )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
