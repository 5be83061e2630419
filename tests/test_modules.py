"""Which modules are the user's own."""

import sys
import types

import numpy
import pytest

import ipkernel_ext.payload
import tests.objects
from ipkernel_ext.modules import is_own


@pytest.mark.parametrize(
    "name", ["json", "os.path", "zipimport", "sys", "numpy", numpy.linalg.__name__, "ipkernel_ext.payload", "__main__"]
)
def test_what_others_have_too(name):
    assert name in sys.modules or name == "zipimport"
    assert not is_own(name)


def test_the_users_own(monkeypatch):
    assert is_own(tests.objects.__name__)
    monkeypatch.setitem(sys.modules, "made_by_hand", types.ModuleType("made_by_hand"))
    assert is_own("made_by_hand")


@pytest.mark.parametrize("name", [None, "", 3, "no_such_module"])
def test_no_module_at_all(name):
    assert not is_own(name)
    assert ipkernel_ext.payload
