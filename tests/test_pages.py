"""The code blocks of the pages do what the comments beside them say."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(path.name for path in (ROOT / "docs").glob("coming-from-*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Page:
    """A page's blocks, run one after the other.

    Attributes
    ----------
    checked : int
        Values that were compared with the comment beside them.
    """

    def __init__(self, file: str) -> None:
        self.checked = 0
        self._file = file
        self._names: dict[str, Any] = {"__name__": "__main__", "_checked": self._check}

    def run(self, code: str) -> None:
        """Run a block."""
        self._lines = code.splitlines()
        tree = ast.fix_missing_locations(_Checking(self._lines).visit(ast.parse(code)))
        exec(compile(tree, self._file, "exec"), self._names)

    def close(self) -> None:
        """End the cluster that a page began."""
        if "rc" in self._names:
            self._names["rc"].close()

    def _check(self, value: Any, line: int) -> None:
        said = self._lines[line - 1].rpartition("  # ")[2]
        assert repr(value) == said, f"{self._file}: {self._lines[line - 1]}"
        self.checked += 1


class _Checking(ast.NodeTransformer):
    """Has expressions checked that have a comment."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        assert node.end_lineno is not None
        if "  # " not in self._lines[node.end_lineno - 1]:
            return node
        call = ast.Call(ast.Name("_checked", ast.Load()), [node.value, ast.Constant(node.end_lineno)], [])
        return ast.copy_location(ast.Expr(call), node)


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_shows_is_so(name: str) -> None:
    page = Page(name)
    blocks = BLOCK.findall((ROOT / "docs" / name).read_text())
    try:
        for block in blocks:
            page.run(block)
    finally:
        page.close()
    assert len(blocks) >= 2
    assert page.checked >= 4


def test_a_comment_that_says_something_else_is_found_out() -> None:
    page = Page("example")
    with pytest.raises(AssertionError, match="1 \\+ 1  # 3"):
        page.run("x = 1\nif x:\n    1 + 1  # 3\n")
    page.run("1 + 1  # 2\nprint(1)\n")
    assert page.checked == 1
