"""The fixtures, as a user's tests find them; the examples of the page are run as they stand there."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipkernel_ext.errors import TaskInterrupted
from ipkernel_ext.testing import InProcessCluster

PAGE = Path(__file__).parent.parent / "docs" / "testing.md"


def test_the_fixtures_are_there(ipkernel_client, ipkernel_cluster):
    assert ipkernel_client.ids == ipkernel_cluster.client().ids == [0, 1, 2, 3]
    assert ipkernel_client.keys() == [[]] * 4


@pytest.mark.parametrize("ipkernel_cluster", [1, 7], indirect=True)
def test_other_numbers_of_engines(ipkernel_client):
    assert len(ipkernel_client) in (1, 7)


def test_the_examples_of_the_page(tmp_path):
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 4
    head = "import pytest\nfrom ipkernel_ext import Ref, launch\n"
    use = "def test_a_real_one(rc):\n    assert rc.ids == [0, 1]\n"
    (tmp_path / "test_examples.py").write_text("\n".join([head, *examples, use]))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=tmp_path)
    assert "5 passed" in ran.stdout, ran.stdout + ran.stderr


def test_ctrl_c_ends_the_tests_and_not_only_what_runs_in_them(ipkernel_client):
    with pytest.raises(TaskInterrupted):
        ipkernel_client[0].execute("import signal; signal.raise_signal(signal.SIGINT)")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_it_costs_nothing_where_it_is_not_used():
    code = (
        "import sys, ipkernel_ext.pytest_plugin; print([m for m in sys.modules if m in ('zmq', 'IPython', 'msgspec')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_cluster_is_made_in_milliseconds():
    InProcessCluster(4).client()

    def seconds():
        begin = time.process_time()
        InProcessCluster(4).client().execute("1")
        return time.process_time() - begin

    assert min(seconds() for _ in range(5)) < 0.25
