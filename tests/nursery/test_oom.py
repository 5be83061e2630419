"""Whether the kernel ended a process because memory ran out, by its counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipkernel_ext.nursery.oom import OomWatch


class Kernel:
    """Its files, in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.watch = OomWatch(root / "cgroup", root / "vmstat", root / "proc")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def process(self, pid: int, cgroups: str) -> None:
        self.write(f"proc/{pid}/cgroup", cgroups)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


VERSIONS = {
    "2": ("0::/a\n", "cgroup/a/memory.events", "low 0\noom 9\noom_kill {}\noom_group_kill 0\n"),
    "1": (
        "4:memory:/a\n0::/\n",
        "cgroup/memory/a/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
    ),
    "none": ("0::/\n", "vmstat", "oom_kill_disable 3\noom_kill {}\n"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_counter_that_rose_since_the_last_look(kernel: Kernel, version: str) -> None:
    cgroup, file, text = VERSIONS[version]
    kernel.write(file, text.format(3))
    for pid in range(5, 10):
        kernel.process(pid, cgroup)
        kernel.watch.look(pid)
    assert not kernel.watch.has_ended(5)
    kernel.write(file, text.format(5))
    assert [kernel.watch.has_ended(pid) for pid in range(6, 10)] == [True, True, False, False]


def test_what_happened_to_others_meanwhile_is_over_at_the_next_look(kernel: Kernel) -> None:
    cgroup, file, text = VERSIONS["2"]
    kernel.process(5, cgroup)
    kernel.write(file, text.format(0))
    kernel.watch.look(5)
    kernel.write(file, text.format(1))
    kernel.watch.look(5)
    assert not kernel.watch.has_ended(5)


def test_another_cgroup_is_another_count(kernel: Kernel) -> None:
    for pid, name in ((5, "a"), (6, "b")):
        kernel.process(pid, f"0::/{name}\n")
        kernel.write(f"cgroup/{name}/memory.events", "oom_kill 0\n")
        kernel.watch.look(pid)
    kernel.write("cgroup/b/memory.events", "oom_kill 1\n")
    assert not kernel.watch.has_ended(5)
    assert kernel.watch.has_ended(6)


def test_nothing_is_said_where_the_kernel_says_nothing(kernel: Kernel) -> None:
    kernel.watch.look(5)
    assert not kernel.watch.has_ended(5)
