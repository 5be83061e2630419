"""Config files as they are first written: current, harmless, and never over what a user wrote."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from traitlets import Float, Integer, List, Unicode
from traitlets.config import Configurable

from ipkernel_ext.config import files, profiles, settings, templates


def kinds(path: Path) -> list[str]:
    return re.findall(r"^# c\.(\w+)\.", path.read_text(), re.MULTILINE)


def test_every_class_has_one_file() -> None:
    placed = [kind for kinds in templates.FILES.values() for kind in kinds]
    assert sorted(kind.__name__ for kind in placed) == sorted(kind.__name__ for kind in settings.CLASSES)


@pytest.mark.parametrize("file", templates.FILES)
def test_every_option_is_there_with_its_default(file: str) -> None:
    text = templates.section(file)
    for kind in templates.FILES[file]:
        made = kind()
        for name, trait in kind.class_own_traits(config=True).items():
            (line,) = re.findall(rf"^# c\.{kind.__name__}\.{name} = (.*)$", text, re.MULTILINE)
            assert ast.literal_eval(line) == getattr(made, name)
            assert str(trait.help).split()[0] in text


@pytest.mark.parametrize("file", templates.FILES)
def test_a_section_is_comments_only(file: str) -> None:
    assert all(line.startswith("#") or not line for line in templates.section(file).splitlines())


def test_what_an_option_takes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Example(Configurable):
        """An example."""

        n = Integer(1, min=0, max=9, help="A number.\n  In two lines.").tag(config=True)
        seconds = Float(1.0, min=0, help="A time.").tag(config=True)
        names = List(Unicode(), ["a"], help="Names.").tag(config=True)

    monkeypatch.setitem(templates.FILES, "ipcluster_config.py", (Example,))
    text = templates.section("ipcluster_config.py")
    assert "# A number. In two lines. Takes an int, at least 0, at most 9.\n# c.Example.n = 1\n" in text
    assert "# A time. Takes a float, at least 0.\n" in text
    assert "Takes a list, each item a unicode string.\n# c.Example.names = ['a']\n" in text


def test_a_new_profile_is_one_of_ipython_and_its_files_load(ipython_dir: Path) -> None:
    said = list(templates.create("mpi"))
    directory = ipython_dir / "profile_mpi"
    assert "made profile 'mpi'" in said[0]
    assert [line.split()[0] for line in said[1:]] == ["wrote"] * 3
    assert (directory / "startup").is_dir()
    assert profiles.profiles() == ["mpi"]
    assert files.load("mpi", *templates.OURS) == {}
    assert kinds(directory / "ipengine_config.py") == ["ParallelEngine"] * len(
        settings.ParallelEngine.class_own_traits(config=True)
    )


def test_an_uncommented_line_takes_effect() -> None:
    list(templates.create("mpi"))
    path = profiles.profile_dir("mpi") / "ipcluster_config.py"
    path.write_text(path.read_text().replace("# c.ParallelCluster.n = 0", "c.ParallelCluster.n = 3"))
    assert settings.cluster_settings(files.load("mpi", *templates.OURS)).n == 3
    text = path.read_text()
    assert "left as it is" in list(templates.create("mpi"))[3]
    assert path.read_text() == text


@pytest.mark.parametrize("old", [b"c.IPEngine.x = 1\n", b"c.IPEngine.x = 1", b"", b"# \xe9 in another encoding\n"])
def test_a_file_of_another_package_gets_our_section_at_its_end_once(old: bytes) -> None:
    path = profiles.profile_dir("default") / "ipengine_config.py"
    path.parent.mkdir(parents=True)
    path.write_bytes(old)
    assert "added our options" in list(templates.create("default"))[2]
    new = path.read_bytes()
    assert new.startswith(old)
    assert templates.section("ipengine_config.py").encode() in new
    assert "left as it is" in list(templates.create("default"))[2]
    assert path.read_bytes() == new


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "-x", " x", "x\n", "a\0b", "x y"])
def test_what_is_no_name_is_refused(name: str, ipython_dir: Path) -> None:
    with pytest.raises(ValueError, match="is no name for a profile"):
        list(templates.create(name))
    assert not ipython_dir.exists()


def test_making_a_profile_for_a_cluster_says_so_once(ipython_dir: Path) -> None:
    (ipython_dir / "profile_mpi").mkdir(parents=True)
    assert templates.make_if_missing("mpi") is None
    assert templates.make_if_missing("default") is None
    said = templates.make_if_missing("mpj")
    assert said is not None
    assert "'mpj' is new" in said
    assert "Did you mean 'mpi'?" in said
    assert templates.make_if_missing("mpj") is None


def test_a_missing_profile_names_those_that_are_near(ipython_dir: Path) -> None:
    assert profiles.missing(None) is profiles.missing("default") is None
    assert "There are none yet. `ipcluster profile create gpu` makes it" in str(profiles.missing("gpu"))
    for name in ("mpi", "slurm"):
        (ipython_dir / f"profile_{name}").mkdir(parents=True)
    assert profiles.missing("mpi") is None
    assert "'mip'. Did you mean 'mpi'?" in str(profiles.missing("mip"))
    assert "There are mpi, slurm." in str(profiles.missing("gpu"))
