"""``with rc.sync_imports():`` imports here and there."""

import builtins
import sys

import pytest

from ipkernel_ext import modules
from ipkernel_ext.errors import CompositeError

BLOCK = """
with rc.sync_imports():
    import json
    import os.path
    import xml.dom.minidom as dom
    import collections as c, string
    from math import pi as p, tau
    from xml.etree import ElementTree
    from itertools import (chain,
        count as counter)
"""


@pytest.mark.parametrize("indent", ["", "    "], ids=["module", "function"])
def test_the_same_names_are_bound_here_and_there(rc, indent):
    source = BLOCK.replace("\n", "\n" + indent)
    if indent:
        source = f"def f():{source}\n    return locals()\nnames = f()"
    here = {"rc": rc}
    exec(compile(source, "<cell>", "exec"), here)
    here = here.get("names", here)
    wanted = ["json", "os", "dom", "c", "string", "p", "tau", "ElementTree", "chain", "counter"]
    assert set(wanted) <= here.keys()
    rc.execute(f"names = {wanted}; found = [globals()[name] for name in names]; ok = os.path.join('a', 'b')")
    for found, ok in rc.pull(("found", "ok")):
        assert found[5:7] == [here["p"], here["tau"]]
        assert [getattr(thing, "__name__", thing) for thing in found] == [
            getattr(here[name], "__name__", here[name]) for name in wanted
        ]
        assert ok == "a/b"


def test_names_that_are_used_at_once(rc):
    with rc.sync_imports():
        import json

        first = json
        from json import dumps, loads

        pair = (dumps, loads)
    assert first.dumps is pair[0]
    assert rc[0].keys() == ["dumps", "json", "loads"]


def test_star_and_some_targets(rc):
    exec("with rc.sync_imports(targets=1):\n    from math import *", {"rc": rc})
    assert "tau" in rc[1]
    assert "tau" not in rc[0]


def test_only_imports_of_the_block_are_repeated(rc):
    def helper():
        import this_is_not_there  # noqa: F401

    with rc.sync_imports():
        with pytest.raises(ImportError):
            helper()
        import json  # noqa: F401
    assert rc[0].keys() == ["json"]
    assert builtins.__import__.__module__ == "builtins"


def test_nothing_is_sent_when_an_import_fails_here(rc):
    block = "with rc.sync_imports():\n    import json\n    import no_such_module"
    with pytest.raises(ImportError, match="no_such_module"):
        exec(block, {"rc": rc})
    assert rc[0].keys() == []
    assert builtins.__import__.__module__ == "builtins"


@pytest.mark.parametrize("rc", ["forked", "spawned"], indirect=True)
def test_what_an_engine_cannot_import_names_engine_and_module(rc, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(modules, "_installed", lambda: (str(tmp_path),))  # a module of the user's own would be sent
    with pytest.raises(CompositeError) as raised, rc.sync_imports():
        import only_here
    sys.modules.pop("only_here")
    assert only_here.x == 1
    for id, error in enumerate(raised.value.exceptions):
        assert isinstance(error, ModuleNotFoundError)
        assert error.name == "only_here"
        assert f"engine {id}" in "".join(error.__notes__)


def test_relative_imports(rc):
    names = {"rc": rc, "__package__": "xml.etree", "__name__": "xml.etree.x"}
    exec("with rc.sync_imports():\n    from . import ElementTree as tree\n    from .ElementPath import find", names)
    assert rc[0].keys() == ["find", "tree"]
