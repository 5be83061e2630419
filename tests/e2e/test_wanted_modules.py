"""Imports that fail on an engine ask the client for the module."""

import os
import sys
import textwrap
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

from ipkernel_ext import launch


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A directory of the user's modules, which is on the client's path and on no engine's."""
    with launch(n=2) as rc:
        directory = tmp_path / "own"
        directory.mkdir()
        monkeypatch.syspath_prepend(str(directory))
        yield rc, directory
    for name in [name for name in sys.modules if name.partition(".")[0] in ("shop", "helpers")]:
        del sys.modules[name]


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text))


def test_a_cell_a_function_and_a_module_import(own):
    rc, directory = own
    write(directory / "helpers.py", "import shop.prices\ndef twice(x): return 2 * shop.prices.total(x)\n")
    write(directory / "shop" / "__init__.py", "")
    write(directory / "shop" / "prices.py", "def total(x): return 100 * x\n")
    assert rc.execute("from helpers import twice; twice(3)").values == [600, 600]
    rc.restart()

    def imports(x):
        from importlib import import_module

        return import_module("helpers").twice(x)

    assert rc.map(imports, [1, 2]) == [200, 400]
    assert "helpers" not in sys.modules, "it was not run here"


def test_what_is_sent_is_followed(own):
    rc, directory = own
    write(directory / "helpers.py", "def f(): return 1\n")
    rc.execute("from helpers import f")
    write(directory / "helpers.py", "def f(): return 2222\n")
    assert rc.sync_modules().reloaded == ["helpers"]
    assert rc.execute("f()").values == [2222, 2222]


def test_what_nobody_has_is_not_found_as_ever(own):
    rc, _ = own
    with pytest.raises(ModuleNotFoundError) as caught:
        rc[0].execute("import no_such_module_at_all")
    assert str(caught.value) == "No module named 'no_such_module_at_all'"
    assert caught.value.name == "no_such_module_at_all"
    assert rc[0].execute("try:\n    import no_such\nexcept ImportError:\n    found = False\nfound").value is False


def test_why_it_cannot_be_sent(own):
    rc, directory = own
    write(directory / "shop" / "__init__.py", "")
    (directory / "shop" / f"_fast{EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF")
    with pytest.raises(
        ModuleNotFoundError, match=r"No module named 'shop' here: its client has it.*C extension, _fast"
    ):
        rc[0].execute("import shop")
    write(directory / "helpers.py", "x = 1\ndef broken(:\n")
    with pytest.raises(ModuleNotFoundError, match=r"'helpers' here: .*helpers\.py, line 2"):
        rc[0].execute("import helpers")


def test_installed_packages_are_not_sent(own, monkeypatch):
    rc, _ = own
    rc.execute(
        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; sys.modules.pop('tqdm', 0)"
    )
    with pytest.raises(ModuleNotFoundError, match=r"'tqdm' here: its client has installed it .*; install it where"):
        rc[0].execute("import tqdm")


def test_what_installed_packages_try_is_not_asked_for(own):
    rc, _ = own
    asked = []
    rc._link.channel.on_module = lambda name: (asked.append(name), (None, ""))[1]
    rc[0].execute("import json.tool, concurrent.futures.process")
    rc[0].execute("import importlib; json = importlib.import_module('json')")
    with pytest.raises(ModuleNotFoundError):
        rc[0].execute("import wanted\n")
    assert asked == ["wanted"]
    rc[0].execute("import threading\nt = threading.Thread(target=lambda: __import__('wanted')); t.start(); t.join()")
    assert asked == ["wanted"], "only in the thread that runs the task"


def test_an_import_that_waits_can_be_interrupted(own):
    rc, _ = own
    waits = []
    rc._link.channel.on_module = lambda name: (waits.append(name), __import__("time").sleep(3), (None, ""))[2]
    running = rc[0].execute("import slow_to_come", block=False)
    while not waits:
        os.sched_yield()
    running.cancel()
    assert running.wait(20)
    assert rc[0].execute("1").value == 1
