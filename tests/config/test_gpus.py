"""Which GPUs there are, and which engine sees which."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipkernel_ext.config.gpus import share, visible


def test_what_the_environment_says_counts() -> None:
    assert visible({"CUDA_VISIBLE_DEVICES": "3, GPU-8a1,"}) == ["3", "GPU-8a1"]
    assert visible({"CUDA_VISIBLE_DEVICES": ""}) == []


def test_else_those_that_have_a_device(tmp_path: Path) -> None:
    for name in ("nvidia10", "nvidia0", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert visible({}, tmp_path) == ["0", "2", "10"]
    assert visible({}, tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("devices", "engines", "shares"),
    [
        ("ab", 2, ["a", "b"]),
        ("abcde", 2, ["abc", "de"]),
        ("ab", 4, ["a", "b", "a", "b"]),
        ("a", 3, ["a", "a", "a"]),
        ("", 3, ["", "", ""]),
    ],
)
def test_each_engine_has_its_own_or_shares_one(devices: str, engines: int, shares: list[str]) -> None:
    assert ["".join(share(devices, engines, place)) for place in range(engines)] == shares


def test_an_engine_that_came_later_shares_one() -> None:
    assert share("ab", 2, 2) == ["a"]
    assert share("ab", 0, 0) == []
