"""The documentation builds without a warning, and has every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ipkernel_ext
from ipkernel_ext.remote import RemoteController

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(place)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return place


def test_every_page_is_in_the_navigation(site: Path) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"- {page.name}\n" in navigation, page.name


def test_every_picture_is_small_and_said_in_words() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    words = {file: text for text, file in re.findall(r"!\[([^]]*)\]\(images/([^)]+)\)", pages)}
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert {picture.name for picture in pictures} == set(words)
    for picture in pictures:
        assert picture.stat().st_size < 150_000, picture.name
        assert len(words[picture.name]) > 20, picture.name


def test_every_public_call_is_in_the_reference(site: Path) -> None:
    anchors = set(re.findall(r'id="([^"]+)"', (site / "reference" / "index.html").read_text()))
    calls = {name for name in dir(RemoteController) if not name.startswith("_")}
    assert {f"ipkernel_ext.RemoteController.{name}" for name in calls} <= anchors
    assert {f"ipkernel_ext.{name}" for name in ipkernel_ext.__all__} <= anchors
