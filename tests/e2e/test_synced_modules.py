"""Modules that only the client has, on engines that cannot see its files."""

import os
import sys
import textwrap

import pytest

from ipkernel_ext import launch
from ipkernel_ext.errors import PayloadError
from ipkernel_ext.synced_modules import Follower


@pytest.fixture
def package(tmp_path):
    """A package that no engine can import."""
    directory = tmp_path / "shop"
    directory.mkdir()
    write(directory / "__init__.py", "from shop.prices import total")
    write(
        directory / "prices.py",
        """
        RATE = 2
        def total(x):
            return RATE * x
        class Price:
            def __init__(self, x):
                self.x = x
            def doubled(self):
                return 2 * self.x
        """,
    )
    return directory


def write(path, text):
    """Write a file that is surely seen to be another one."""
    path.write_text(textwrap.dedent(text))
    later = path.stat().st_mtime + write.edits
    write.edits += 10
    os.utime(path, (later, later))


write.edits = 10


def test_a_package_gets_there_and_its_edits_too(cluster, package):
    synced = cluster.sync_modules(package)
    assert synced.sent == ["shop", "shop.prices"]
    assert synced.reloaded == []
    cluster.execute("from shop import total\nimport shop.prices\nprice = shop.prices.Price(5)")
    assert cluster.execute("total(3), price.doubled()").values == [(6, 10)] * 2
    assert cluster.sync_modules() == ([], [])
    write(
        package / "prices.py",
        """
        RATE = 100
        def total(x):
            return RATE * x
        class Price:
            def __init__(self, x):
                self.x = x
            def doubled(self):
                return -2 * self.x
        """,
    )
    assert cluster.sync_modules() == (["shop.prices"], ["shop.prices"])
    assert cluster.execute("total(3), price.doubled()").values == [(300, -10)] * 2, "in place, as autoreload does it"
    assert not {"shop", "shop.prices"} & set(sys.modules), "it did not have to be imported here"


def test_tracebacks_show_its_lines(cluster, package):
    write(package / "prices.py", "def total(x):\n    return x.nothing  # here\n")
    cluster.sync_modules(package)
    with pytest.raises(AttributeError) as caught:
        cluster[0].execute("import shop; shop.total(1)")
    story = str(caught.value.__cause__)
    assert f"{package}/prices.py" in story
    assert "return x.nothing  # here" in story


def test_an_engine_that_came_later_gets_it_with_the_next_call(cluster, package):
    cluster.sync_modules(package)
    cluster.restart(targets=1)
    assert cluster.sync_modules().sent == ["shop", "shop.prices"]
    assert cluster.execute("from shop import total; total(1)").values == [2, 2]


def test_functions_of_it_travel_by_name(cluster, package, monkeypatch):
    monkeypatch.syspath_prepend(str(package.parent))
    import shop.prices

    cluster.sync_modules(shop)
    try:
        cluster.execute("import shop.prices; shop.prices.RATE = 7")
        assert cluster.map(shop.prices.total, [1, 2]) == [7, 14], "the engine's module, not a copy of ours"
    finally:
        sys.modules.pop("shop.prices")
        sys.modules.pop("shop")


def test_an_edit_that_does_not_compile_or_load_changes_nothing(cluster, package):
    cluster.sync_modules(package)
    cluster.execute("from shop import total")
    write(package / "prices.py", "def total(x):\n    return (x\n")
    with pytest.raises(SyntaxError, match=r"prices\.py, line 2"):
        cluster.sync_modules()
    write(package / "prices.py", "def total(x):\n    return 0\n1 / 0\n")
    with pytest.raises(ExceptionGroup, match="could not load") as caught:
        cluster.sync_modules()
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError] * 2
    assert cluster.execute("total(3)").values == [6, 6]
    with pytest.raises(PayloadError, match="no source"):
        cluster.sync_modules(sys)


def test_edits_are_followed(cluster, package):
    follower = Follower()
    cluster.sync_modules(package)
    cluster.execute("from shop import total")
    assert follower.follow(cluster, 20) == []
    write(package / "prices.py", "def total(x):\n    return 0\n")
    assert follower.follow(cluster, 20) == []
    assert cluster.execute("total(3)").values == [0, 0]
    write(package / "prices.py", "def total(x:\n    return 0\n")
    (problem,) = follower.follow(cluster, 20)
    assert "prices.py" in problem and "line 1" in problem
    cluster.restart(targets=0)
    write(package / "prices.py", "def total(x):\n    return 1\n")
    assert follower.follow(cluster, 20) == []
    assert cluster[0].execute("from shop import total; total(3)").value == 1


def test_edits_of_files_that_engines_see_are_followed(package, monkeypatch):
    monkeypatch.syspath_prepend(str(package.parent))
    with launch(n=2) as cluster:
        follower = Follower()
        cluster.execute("from shop import total")
        assert follower.follow(cluster, 20) == []
        write(package / "prices.py", "def total(x):\n    return 0\n")
        assert follower.follow(cluster, 20) == []
        assert cluster.execute("total(3)").values == [0, 0]
        write(package / "prices.py", "def total(x):\n    return 1\nunknown\n")
        (problem,) = follower.follow(cluster, 20)
        assert problem.startswith("shop.prices stays as it was:")
        assert "NameError" in problem
        assert cluster.execute("total(3)").values == [0, 0]
