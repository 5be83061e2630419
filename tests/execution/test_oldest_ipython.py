"""The oldest IPython that this package says it works with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_cells_run_in_the_oldest_ipython_that_may_be_installed(tmp_path: Path) -> None:
    [oldest] = [found[1] for line in requires("ipkernel_ext") or () if (found := re.match(r"ipython>=([\d.]+)", line))]
    install = [sys.executable, "-m", "pip", "install", "-q", "--target", str(tmp_path), f"ipython=={oldest}.*"]
    subprocess.run(install, check=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    tests = [str(HERE / "test_shell.py"), str(HERE / "test_cells.py")]
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    ended = subprocess.run(run, env=environment, cwd=HERE.parent.parent, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-2000:]
    which = [sys.executable, "-c", "import IPython; print(IPython.__version__)"]
    version = subprocess.run(which, env=environment, check=True, capture_output=True, text=True).stdout
    assert version.startswith(oldest)
