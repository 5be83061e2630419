"""The wheel, installed where there is neither NumPy nor this checkout."""

import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parent.parent

WITHOUT_NUMPY = """
import ipkernel_ext
from ipkernel_ext import launch

print(ipkernel_ext.__file__)
with launch(n=2) as rc:
    rc.push({"a": 3, "b": [1, 2]})
    assert rc.pull("a") == [3, 3]
    assert rc.pull(("a", "b")) == [(3, [1, 2])] * 2
    rc.scatter("part", list(range(5)))
    assert rc["part"] == [[0, 1, 2], [3, 4]]
    rc.execute("part = [10 * x for x in part]")
    assert rc.gather("part") == [0, 10, 20, 30, 40]
    rc.scatter("text", "abcde")
    assert rc.gather("text") == "abcde"
    assert rc.map(lambda x, y: x * y, range(100), range(100)) == [x * x for x in range(100)]
    assert rc.apply(sum, [1, 2, 3]) == [6, 6]
    assert rc[1].apply(len, bytearray(1_000_000)) == 1_000_000
    assert rc.submit(sorted, [3, 1, 2]).result() == [1, 2, 3]
    assert [result.value for result in rc.execute("a + 1")] == [4, 4]
    assert "numpy" not in rc[0].execute("import sys; list(sys.modules)").value
print("good")
"""


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=100, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", directory, ROOT)
    (wheel,) = directory.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Of a virtual environment with the wheel and what it depends on."""
    home = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", home)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", wheel)
    return python


def test_what_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = next(archive.read(name).decode() for name in names if name.endswith("/entry_points.txt"))
    top = {name.split("/")[0] for name in names}
    version = wheel.name.split("-")[1]
    assert top == {"ipkernel_ext", f"ipkernel_ext-{version}.dist-info"}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "ipkernel_ext").rglob("*.py")}
    assert {*sources, "ipkernel_ext/py.typed"} <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    for command in ("ipcontroller", "ipengine", "ipcluster"):
        assert f"{command} = ipkernel_ext.commands:{command}" in entry_points


def test_numpy_is_not_needed(python, tmp_path):
    missing = run(python, "-c", "import importlib.util as u; print(u.find_spec('numpy'))", cwd=tmp_path)
    assert missing.strip() == "None"
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(WITHOUT_NUMPY))
    where, good = run(python, script, cwd=tmp_path).splitlines()
    assert Path(where).is_relative_to(python.parent.parent)
    assert good == "good"


def test_the_demo_runs_with_it(python, tmp_path):
    script = shutil.copy(ROOT / "demo" / "options.py", tmp_path)
    assert "agree with Black-Scholes" in run(python, script, cwd=tmp_path)


def test_its_commands_are_installed(python, tmp_path):
    for command in ("ipcontroller", "ipengine", "ipcluster"):
        assert run(python.parent / command, "--version", cwd=tmp_path).strip()
