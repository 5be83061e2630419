"""Which files a module of the user's consists of, and what is not sent."""

import sys
from importlib.machinery import EXTENSION_SUFFIXES

import numpy
import pytest

from ipkernel_ext.errors import PayloadError
from ipkernel_ext.synced_modules import SyncedModules, collected, root_of


@pytest.fixture
def tree(tmp_path):
    """A directory with a module, and a package with another one in it."""
    made = {
        "helpers.py": "x = 1",
        "notes.txt": "no code",
        "not-a-module.py": "also = 'no'",
        "shop/__init__.py": "",
        "shop/prices.py": "y = 2",
        "shop/data.json": "{}",
        "shop/sub/__init__.py": "",
        "shop/sub/deep.py": "# -*- coding: latin-1 -*-\nz = 'ä'".encode("latin-1"),
        "shop/__pycache__/prices.cpython-311.pyc": b"\0",
        "other/no_init.py": "w = 4",
        ".hidden/__init__.py": "",
    }
    for name, content in made.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path / "tree"


SHOP = ["shop", "shop.prices", "shop.sub", "shop.sub.deep"]


def names(what):
    return [source.name for source in collected(root_of(what))]


def test_paths(tree):
    assert names(tree / "helpers.py") == ["helpers"]
    assert names(tree / "shop") == names(str(tree / "shop" / "sub" / "deep.py")) == SHOP
    assert names(tree) == ["helpers", *SHOP]
    assert names(tree / "other") == ["no_init"]
    deep = next(source for source in collected(tree / "shop") if source.name == "shop.sub.deep")
    assert (deep.is_package, deep.file) == (False, str(tree / "shop" / "sub" / "deep.py"))
    assert "ä" in deep.text


def test_modules_and_names(tree, monkeypatch):
    monkeypatch.syspath_prepend(str(tree))
    import shop.sub.deep

    assert names(shop.sub.deep) == names(shop) == names("shop") == names("shop.prices") == SHOP
    assert names("helpers") == ["helpers"]
    assert "helpers" not in sys.modules, "it was not run here"
    for name in SHOP:
        sys.modules.pop(name, None)


@pytest.mark.fault("a module that is sent has a C extension")
def test_compiled_modules_are_refused_in_words(tree):
    library = tree / "shop" / f"_fast{EXTENSION_SUFFIXES[0]}"
    library.write_bytes(b"\x7fELF")
    with pytest.raises(PayloadError, match=r"package shop has a C extension, _fast\S+, .* cannot be sent: install it"):
        SyncedModules().add(tree / "shop")
    with pytest.raises(PayloadError, match="C extension"):
        root_of(library)
    with pytest.raises(PayloadError, match=r"numpy\S* has a C extension"):
        root_of(sys.modules["numpy._core._multiarray_umath"])
    with pytest.raises(PayloadError, match="C extension"):
        SyncedModules().add(numpy)


@pytest.mark.fault("a module that is sent does not compile")
def test_a_syntax_error_names_file_and_line(tree):
    (tree / "shop" / "prices.py").write_text("x = 1\n\ndef broken(:\n    pass\n")
    with pytest.raises(SyntaxError) as caught:
        SyncedModules().add(tree / "shop")
    assert (caught.value.filename, caught.value.lineno) == (str(tree / "shop" / "prices.py"), 3)
    assert f"in {tree}/shop/prices.py, line 3; nothing was sent" in caught.value.__notes__[0]


def test_what_is_no_module(tree):
    (tree / "empty").mkdir()
    for what, error, words in [
        (tree / "nothing.py", FileNotFoundError, "no module, package or directory"),
        ("no_such_module_anywhere", FileNotFoundError, "neither a file nor a module"),
        (tree / "notes.txt", PayloadError, r"does not end in \.py"),
        (sys, PayloadError, "no source file"),
        (tree / "empty", PayloadError, "no Python module"),
    ]:
        with pytest.raises(error, match=words):
            SyncedModules().add(what)


def test_edits_are_seen_once(tree):
    synced = SyncedModules()
    synced.add(tree / "shop")
    assert synced.edited()
    assert not synced.edited()
    (tree / "shop" / "more.py").write_text("")
    assert synced.edited()
    assert not synced.edited()
