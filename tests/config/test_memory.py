"""What is available is what the machine has left, within the limits around this process."""

from __future__ import annotations

from pathlib import Path

import psutil

from ipkernel_ext.config.memory import available

GIB = 2**30


def found(root: Path, machine: str, own: str = "", **files: int | str) -> int:
    """What is available with these files of cgroups, where ``__`` stands for a slash."""
    (root / "meminfo").write_text(machine)
    (root / "own").write_text(own)
    for name, text in files.items():
        path = root / "cgroup" / name.replace("__", "/").replace("memory_", "memory.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return available(root / "meminfo", root / "cgroup", root / "own")


MACHINE = "MemTotal:       9999999 kB\nMemAvailable:    8388608 kB\n"


def test_the_machines(tmp_path: Path) -> None:
    assert found(tmp_path, MACHINE) == 8 * GIB


def test_where_the_kernel_does_not_say_psutil_does(tmp_path: Path) -> None:
    there = found(tmp_path, "MemTotal: 1 kB\n")
    assert 0 < there <= psutil.virtual_memory().total
    assert available(tmp_path / "none", tmp_path, tmp_path / "none") > 0


def test_a_cgroup_allows_less(tmp_path: Path) -> None:
    assert found(tmp_path, MACHINE, "0::/a/b\n", a__memory_max=3 * GIB, a__memory_current=GIB) == 2 * GIB


def test_a_cgroup_without_a_limit(tmp_path: Path) -> None:
    assert found(tmp_path, MACHINE, "0::/a\n", a__memory_max="max", a__memory_current=GIB) == 8 * GIB


def test_version_1(tmp_path: Path) -> None:
    files = {"memory__memory_limit_in_bytes": 2 * GIB, "memory__memory_usage_in_bytes": 3 * GIB}
    assert found(tmp_path, MACHINE, "4:memory:/\n", **files) == 0
