"""Generated pages are current, and say what their sources say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.faults import NAMES, Fault

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "tools" / "generate_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_current(generate: ModuleType) -> None:
    old = [
        name
        for name, text in generate.pages().items()
        if not (ROOT / "docs" / name).exists() or (ROOT / "docs" / name).read_text() != text
    ]
    assert not old, "`make docs` writes them"


def test_protocol_has_every_message(generate: ModuleType) -> None:
    from ipkernel_ext.core import messages

    page = generate.pages()["protocol.md"]
    for union, _ in generate.DIRECTIONS:
        for message in getattr(messages, union).__args__:
            assert f"### {message.__name__}\n" in page


def test_a_field_brings_its_comment_and_its_default(generate: ModuleType) -> None:
    source = '"""Doc."""\nclass A:\n    """An A."""\n    x: int | None = 3  # what for\n'
    source += "".join(f"{union} = A | A\n" for union, _ in generate.DIRECTIONS)
    assert "| `x` | `int \\| None` | `3` | what for |" in generate.protocol(source)


def test_every_fault_has_a_test_and_every_test_a_fault(generate: ModuleType) -> None:
    tests = generate.injections(ROOT / "tests")
    assert len(NAMES) == len(set(NAMES))
    assert set(tests) == set(NAMES)
    page = generate.pages()["reliability.md"]
    for name in NAMES:
        assert f"| {name} |" in page


def test_a_fault_is_told_with_its_tests(generate: ModuleType, tmp_path: Path) -> None:
    text = 'import pytest\n@pytest.mark.fault("a | b")\n@pytest.mark.slow\ndef test_it(): ...\ndef test_other(): ...\n'
    (tmp_path / "test_x.py").write_text(text)
    tests = generate.injections(tmp_path)
    assert tests == {"a | b": ["test_x.py::test_it"]}
    page = generate.reliability({"A group": [Fault("a | b", "an error", "1 s")]}, tests)
    assert "| a \\| b | an error | 1 s | `test_x.py::test_it` |" in page


def test_magics_of_every_kind(generate: ModuleType) -> None:
    source = 'class M:\n    @line_magic\n    def a(self, line):\n        """Does a."""\n'
    source += '    @line_cell_magic("bb")\n    def b(self, line, cell=None):\n        """Does b."""\n'
    source += "    def helper(self): ...\n"
    page = generate.magics(source)
    assert "## %a\n" in page
    assert "## %bb, %%bb\n" in page
    assert "Does b." in page
    assert "helper" not in page


def test_check_writes_nothing_and_says_what_is_old(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main(["--check"]) == 1
    assert "protocol.md" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
