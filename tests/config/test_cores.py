"""One engine per core: affinity and quota counted, oversubscription avoided, the user's settings respected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ipkernel_ext.config.cores import THREAD_LIMITS, cores, thread_limits

EIGHT = set(range(8))


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: EIGHT, raising=False)
    for name in THREAD_LIMITS:
        monkeypatch.delenv(name, raising=False)


def count(root: Path, own: str, **files: str) -> int:
    """Cores with these cgroup files, where ``__`` stands for a slash."""
    for name, text in files.items():
        path = root / "cgroup" / name.replace("__", "/").replace("_max", ".max").replace("cfs", ".cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "own").write_text(own)
    return cores(root / "cgroup", root / "own")


def test_affinity(tmp_path: Path) -> None:
    assert cores(tmp_path, tmp_path / "none") == 8


def test_without_affinity_all_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores(tmp_path, tmp_path / "none") == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores(tmp_path, tmp_path / "none") == 1


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 3),
        ("10000 100000", 1),
        ("9900000 100000", 8),
        ("?", 8),
    ],
)
def test_quota_of_version_2(tmp_path: Path, quota: str, expected: int) -> None:
    assert count(tmp_path, "0::/\n", cpu_max=quota) == expected


def test_quota_further_up_counts(tmp_path: Path) -> None:
    own = "0::/user.slice/job/step\n"
    assert count(tmp_path, own, user__cpu_max="100000 100000") == 8  # not above it
    files = {"user.slice__cpu_max": "300000 100000", "user.slice__job__step__cpu_max": "500000 100000"}
    assert count(tmp_path, own, **files) == 3


def test_a_container_sees_its_own_at_the_top(tmp_path: Path) -> None:
    assert count(tmp_path, "0::/../../docker/abc\n", cpu_max="200000 100000") == 2
    assert count(tmp_path, "0::/docker/abc\n") == 2


@pytest.mark.parametrize("own", ["5:cpu,cpuacct:/job\n1:name=systemd:/x\n", "3:cpuacct,cpu:/job\n", "2:cpu:/job\n"])
def test_quota_of_version_1(tmp_path: Path, own: str) -> None:
    controllers = own.split(":")[1]
    files = {f"{controllers}__job__cpucfs_quota_us": "150000\n", f"{controllers}__job__cpucfs_period_us": "100000\n"}
    assert count(tmp_path, own, **files) == 2


def test_no_quota_of_version_1(tmp_path: Path) -> None:
    assert count(tmp_path, "2:cpu:/\n", cpu__cpucfs_quota_us="-1", cpu__cpucfs_period_us="100000") == 8


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= cores() <= (os.cpu_count() or 1)


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize(("engines", "each"), [(1, "8"), (2, "4"), (3, "2"), (8, "1"), (100, "1"), (0, "8")])
def test_engines_share_the_cores(engines: int, each: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipkernel_ext.config.cores._quotas", lambda *_: [])
    assert thread_limits(engines) == dict.fromkeys(THREAD_LIMITS, each)


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    limits = thread_limits(8)
    assert "MKL_NUM_THREADS" not in limits
    assert limits["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("given", ["6", " 6 ", "6,2"])
def test_openmp_goes_for_all(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    others = [name for name in THREAD_LIMITS if name != "OMP_NUM_THREADS"]
    assert thread_limits(8) == dict.fromkeys(others, "6")


@pytest.mark.parametrize("given", ["", "many", "0"])
def test_nonsense_is_not_followed(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert set(thread_limits(8).values()) == {"1"}
