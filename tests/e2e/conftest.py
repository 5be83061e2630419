"""Real processes, each test with its own."""

import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager

import pytest

from ipkernel_ext import launch


@pytest.fixture
def cluster():
    """A private cluster of two engines, which the test may mistreat."""
    with launch(n=2) as rc:
        yield rc


@pytest.fixture
def shortened(tmp_path, monkeypatch):
    """Have each controller that starts from now on wait for less long; a function."""

    def shorten(module, name, seconds):
        text = f"""
            import sys
            if "ipkernel_ext.nursery.controller" in sys.orig_argv:
                import {module}
                assert isinstance({module}.{name}, float)
                {module}.{name} = {seconds}
        """
        (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(text))
        monkeypatch.syspath_prepend(tmp_path)

    return shorten


@pytest.fixture
def command():
    """Start one of our commands; it is ended, and has ended, at the end of the test."""
    running = []

    def start(program, *arguments, python=sys.executable, **options):
        process = subprocess.Popen(
            [python, "-m", "ipkernel_ext.commands", program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=dict(os.environ, PYTHONUNBUFFERED="1"),
            **options,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        with _closing(process):
            if process.poll() is None:
                process.terminate()
            process.wait(15)


@contextmanager
def _closing(process):
    try:
        yield
    finally:
        process.stdout.close()
        process.stderr.close()
