"""Profile directories, and what their config files may and may not do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ipkernel_ext.config import files, profiles


def put(name: str, text: str, file: str = "ipcluster_config.py") -> Path:
    directory = profiles.profile_dir(name)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / file
    path.write_text(text)
    return path


def test_where_profiles_are(ipython_dir: Path) -> None:
    assert profiles.profile_dir() == ipython_dir / "profile_default"
    assert profiles.profile_dir("mpi") == ipython_dir / "profile_mpi"


def test_without_the_variable_it_is_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("IPYTHONDIR")
        else:
            monkeypatch.setenv("IPYTHONDIR", value)
        assert profiles.ipython_dir() == tmp_path / ".ipython"
    monkeypatch.setenv("IPYTHONDIR", "~/elsewhere")
    assert profiles.ipython_dir() == tmp_path / "elsewhere"


def test_same_directory_as_ipython_uses(ipython_dir: Path) -> None:
    from IPython.paths import get_ipython_dir

    assert Path(get_ipython_dir()) == profiles.ipython_dir()


@pytest.mark.parametrize("name", ["../other", "a/b", "/etc", "a\0b"])
def test_a_path_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a profile"):
        profiles.profile_dir(name)


def test_the_name_of_a_directory(ipython_dir: Path, tmp_path: Path) -> None:
    assert profiles.name_of(ipython_dir / "profile_mpi") == "mpi"
    assert profiles.name_of(profiles.profile_dir()) == "default"
    assert profiles.name_of(ipython_dir / "mpi") is None
    assert profiles.name_of(tmp_path / "profile_mpi") is None
    assert profiles.name_of(ipython_dir) is None


def test_names(ipython_dir: Path) -> None:
    assert profiles.profiles() == []
    put("mpi", "")
    put("default", "")
    (ipython_dir / "profile_file").write_text("not a directory")
    (ipython_dir / "extensions").mkdir()
    assert profiles.profiles() == ["default", "mpi"]


def test_no_profile_and_no_file_are_empty() -> None:
    assert files.load("nowhere", "ipcluster_config.py") == {}


def test_a_later_file_wins() -> None:
    put("default", "c.ParallelCluster.n = 3\nc.ParallelCluster.restart = 'never'")
    put("default", "c.ParallelCluster.n = 4", "ipcontroller_config.py")
    config = files.load(None, "ipcluster_config.py", "ipcontroller_config.py")
    assert config.ParallelCluster == {"n": 4, "restart": "never"}


def test_get_config_works_as_in_other_config_files() -> None:
    put("default", "c = get_config()\nc.ParallelCluster.n = 2\nc.Cluster.engines = 'mpi'")
    assert files.load(None, "ipcluster_config.py").ParallelCluster.n == 2


def test_a_misspelt_option_names_its_file() -> None:
    path = put("default", "c.ParallelCluster.restat = 'never'")
    with pytest.raises(ValueError, match=r"did you mean restart\?") as caught:
        files.load(None, "ipcluster_config.py")
    assert str(caught.value).startswith(f"{path}, line 1: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("c.ParallelCluster.n = 2\nc.ParallelCluster.n = = 3", "line 2: SyntaxError"),
        ("\n\nc.ParallelCluster.n = nn", "line 3: NameError: name 'nn' is not defined"),
        ("import no_such_module", "line 1: ModuleNotFoundError"),
    ],
)
def test_a_broken_file_names_its_line(text: str, said: str) -> None:
    path = put("default", text)
    with pytest.raises(ValueError, match=r"ipcluster_config\.py, line") as caught:
        files.load(None, "ipcluster_config.py")
    assert str(caught.value).startswith(f"{path}, {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nc.ParallelCluster.n = 2\nc.ParallelCluster.n = 'x'", "line 3: ParallelCluster.n cannot be 'x'"),
        ("\nc.ParalelCluster.n = 2", "line 2: there is no class 'ParalelCluster': did you mean ParallelCluster?"),
        ("d = c.ParallelCluster\n\nd.n = 'x'", "ipcluster_config.py: ParallelCluster.n cannot be 'x'"),
        ("c.ParallelCluster.restart = 'always'", "line 1: ParallelCluster.restart cannot be 'always'; it takes"),
        ("c.ParallelCluster = 3", "line 1: ValueError"),
    ],
)
def test_a_wrong_option_names_its_line_where_it_can_be_found(text: str, said: str) -> None:
    put("default", text)
    with pytest.raises(ValueError, match=r"ipcluster_config\.py") as caught:
        files.load(None, "ipcluster_config.py")
    assert said in str(caught.value)


def test_ipython_is_not_imported() -> None:
    """Importing it takes longer than all the rest of a command."""
    code = (
        "import sys, ipkernel_ext.config.profiles, ipkernel_ext.config.connection; sys.exit('IPython' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
