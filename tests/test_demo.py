"""The demo, as `make demo` runs it."""

import subprocess
import sys
from pathlib import Path


def test_the_demo_prices_its_options():
    script = Path(__file__).parent.parent / "demo" / "options.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agree with Black-Scholes" in done.stdout
    assert "engine 3:" in done.stdout
