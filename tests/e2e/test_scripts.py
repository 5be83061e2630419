"""Scripts: everything of theirs goes along, and they need no ``__main__`` guard."""

import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
import dataclasses
import functools
import pathlib
import sys

from ipkernel_ext import launch
import beside

SCALE = 3

@dataclasses.dataclass
class Point:
    x: int
    def scaled(self):
        return Point(self.x * SCALE)

def again(f):
    @functools.wraps(f)
    def twice(x):
        return f(f(x))
    return twice

@again
def more(x):
    return x + 1

def walk(n):
    return 0 if n == 0 else 1 + walk(n - 1)

rc = launch(n=2, start_method=sys.argv[1])
assert rc.apply(Point(2).scaled) == [Point(6)] * 2
assert rc.map(more, range(4)) == [2, 3, 4, 5]
assert rc.map(walk, [3, 4]) == [3, 4]
assert rc.submit(beside.double, 4).result() == 8
assert type(rc[0].apply(beside.Box)) is beside.Box
assert rc.apply(lambda: (sys.executable, sys.path, str(pathlib.Path.cwd()))) == [
    (sys.executable, sys.path, str(pathlib.Path.cwd()))
] * 2
sys.path.insert(0, "later")
import only_later
assert rc[0].apply(only_later.f) == "sent"
rc.close()
print("ended well")
"""


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_script_without_a_guard(tmp_path, start_method):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "beside.py").write_text("class Box: pass\ndef double(x): return 2 * x\n")
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "only_later.py").write_text(
        textwrap.dedent(
            """
            def f():
                return text()
            def text():
                return "sent"
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "script.py", start_method], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert (done.stdout, done.stderr) == ("ended well\n", "")


FAILING = """
import logging
import sys

from ipkernel_ext import launch

def fails(x):
    raise ValueError(f"no {x}")

with launch(n=3) as rc:
    try:
        rc.apply(fails, 1)
    except Exception:
        logging.exception("as logged")
    rc.execute("me = 'even'")
    rc[1].execute("me = 'odd'")
    rc.execute("raise ValueError(me) if me == 'odd' else KeyError(me)")
"""


def test_an_error_that_nobody_catches_is_told_once_for_all_engines(tmp_path):
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    _, logged, uncaught = ran.stderr.split("Exception Group Traceback")
    assert logged.count("RemoteTraceback") == 1
    assert logged.count('raise ValueError(f"no {x}")') == 1
    assert "3 of 3 engines failed: 3 × ValueError: no 1 on [0-2]" in logged
    assert uncaught.count("RemoteTraceback") == 2
    assert "2 × KeyError: 'even' on [0, 2]; 1 × ValueError: odd on [1]" in uncaught
    assert "_value" not in uncaught
    assert [f"on engine {n} of host" in uncaught for n in range(4)] == [True, True, True, False]


GENERATING = """
from ipkernel_ext import launch

def fails(x):
    raise ValueError(f"no {x}")

def items(rc):
    yield rc[0].apply(fails, 1)

with launch(n=1) as rc:
    CALL
"""


CALLS = [
    "rc[0].apply(fails, 1)",
    "rc.map(fails, [1])",
    "rc[9]",
    "rc.submit(fails, 1).get()",
    "rc.submit(fails, 1).r",
    "rc[0].apply(fails, 1, block=False)[0]",
    "rc.map(abs, items(rc))",
]


@pytest.mark.parametrize("call", CALLS)
def test_a_traceback_ends_where_the_users_code_does(tmp_path, call):
    script = tmp_path / "failing.py"
    script.write_text(GENERATING.replace("CALL", call))
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    here = ran.stderr.rpartition("Traceback (most recent call last)")[2]
    lines = [line.strip() for line in here.splitlines() if line.startswith("  File ")]
    assert lines[0] == f'File "{script}", line 11, in <module>'
    assert lines[1:] == ([f'File "{script}", line 8, in items'] if "items" in call else [])
