"""An engine of another Python, as on a host with another environment."""

import subprocess
import sys
from pathlib import Path

import pytest

import ipkernel_ext
from ipkernel_ext import RemoteController
from ipkernel_ext.errors import VersionMismatch

ROOT = Path(ipkernel_ext.__file__).parent.parent


@pytest.fixture
def other():
    """Another Python that has what an engine needs: one of those that tools/test-all makes."""
    look = "import sys, cloudpickle, IPython, msgspec, zmq; print(*sys.version_info[:2], sep='.')"
    mine = ".".join(map(str, sys.version_info[:2]))
    for python in sorted(ROOT.glob(".venv*/bin/python")):
        answer = subprocess.run([python, "-c", look], capture_output=True, text=True)
        if answer.returncode == 0 and answer.stdout.strip() != mine:
            return str(python), answer.stdout.strip()
    pytest.skip(f"no environment beside this one has another Python than {mine}; tools/test-all makes some")


def _ids(rc):
    rc.wait_for_engines(1, 30)
    return rc.ids


@pytest.mark.fault("two sides have different Pythons")
def test_what_works_and_what_does_not(command, other):
    python, version = other
    controller = command("ipcontroller")
    while "Ctrl-C" not in (line := controller.stdout.readline()):
        assert line, controller.stderr.read()
    command("ipengine", python=python)
    with RemoteController() as rc:
        with pytest.warns(UserWarning, match=rf"Python {version}\.\d+ there.*\n?.*on both sides"):
            ids = _ids(rc)
        assert ids == [0]
        [ran] = rc.execute("import sys; sys.version_info[:2]")
        assert ".".join(map(str, ran.value)) == version
        rc.push({"a": {"b": [1, 2.5, "c"]}})
        assert rc.pull("a") == [{"b": [1, 2.5, "c"]}]
        assert rc[0].apply(divmod, 7, 2) == (3, 1)
        with pytest.raises(VersionMismatch, match=rf"made by Python 3\.\d+ .*this is Python {version} .* on host"):
            rc[0].apply(lambda: 1)
        with pytest.raises(VersionMismatch, match="both sides can import"):
            rc.map(lambda x: x, [1])
        with pytest.raises(VersionMismatch):
            rc[0].push({"f": lambda: 1})
        rc.execute("f = lambda: 1")
        with pytest.raises(VersionMismatch, match=rf"made by Python {version} "):
            rc[0].pull("f")
        assert rc[0].apply(len, "abc") == 3
