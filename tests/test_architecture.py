"""Imports point one way, the core is pure, and what never unpickles cannot.

Everything is read from the source; nothing of the package is imported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "ipkernel_ext"
PACKAGE = ROOT.name

MAY_IMPORT = {
    "errors": set(),
    "core": {"errors", "units"},
    "config": {"errors"},
    "blobs": {"errors"},
    "payload": {"advice", "blobs", "classes", "modules", "snapshots", "versions", "errors"},
    "snapshots": {"modules"},
    "classes": set(),
    "modules": set(),
    "versions": set(),
    "advice": set(),
    "units": set(),
    "sequences": {"units", "errors"},
    "targets": {"core", "errors"},
    "blocks": {"targets", "core"},
    "execution": {"modules", "payload", "sequences", "core", "units", "errors"},
    "atomic": set(),
    "held": set(),
    "bars": set(),
    "net": {"atomic", "held", "blobs", "openssh", "core", "config", "errors"},
    "nursery": {"blobs", "launchers", "net", "execution", "versions", "config", "core", "errors"},
    "tracebacks": set(),
    "chunks": set(),
    "futures": {"atomic", "net"},
    "brief": {"remote_errors", "errors"},
    "pieces": {"payload", "core"},
    "waiting": {"core", "net", "errors"},
    "remote_errors": {"payload", "pieces", "targets", "tracebacks", "core", "units", "errors"},
    "results": {
        "advice",
        "bars",
        "brief",
        "chunks",
        "dialogue",
        "futures",
        "interruption",
        "net",
        "payload",
        "pieces",
        "remote_errors",
        "waiting",
        "core",
        "units",
        "errors",
    },
    "interruption": set(),
    "dialogue": {"core"},
    "following": {"core", "targets"},
    "outcomes": {"core"},
    "timing": {"pieces", "display", "units"},
    "profiling": {"core", "display", "flame", "tracebacks", "units", "errors"},
    "flame": set(),
    "stacks": {"core", "targets", "tracebacks"},
    "peeking": {"core", "payload", "remote_errors", "errors"},
    "overview": {"display", "units", "core"},
    "history": {"results", "errors"},
    "conditions": {"results", "payload", "core", "units", "errors"},
    "executor": {"atomic", "futures", "net", "pieces", "remote_errors", "results", "payload", "core", "errors"},
    "mapping": {"atomic", "chunks", "net", "pieces", "remote_errors", "results", "payload", "core", "errors"},
    "imports": set(),
    "callers": set(),
    "checkpoints": {"advice", "execution", "payload", "results", "sequences", "targets", "units", "core", "errors"},
    "synced_modules": {"execution", "modules", "results", "targets", "errors"},
    "environments": {"execution", "results", "targets", "units", "core"},
    "extras": set(),
    "graphs": {"results", "targets", "units", "errors"},
    "dask_cluster": {"execution", "targets"},
    "joblib_backend": {"execution", "modules", "results"},
    "remote_values": {"execution", "payload", "sequences", "targets", "units"},
    "link": {
        "futures",
        "environments",
        "payload",
        "synced_modules",
        "advice",
        "chunks",
        "conditions",
        "executor",
        "history",
        "mapping",
        "net",
        "results",
        "targets",
        "versions",
        "config",
        "core",
        "errors",
    },
    "embedding": {"extras", "errors"},
    "running": {"embedding", "units", "core", "errors"},
    "views": {
        "bars",
        "brief",
        "checkpoints",
        "chunks",
        "conditions",
        "dask_cluster",
        "dialogue",
        "executor",
        "extras",
        "graphs",
        "history",
        "joblib_backend",
        "mapping",
        "imports",
        "interruption",
        "link",
        "net",
        "outcomes",
        "peeking",
        "profiling",
        "pieces",
        "results",
        "stacks",
        "remote_values",
        "synced_modules",
        "payload",
        "sequences",
        "targets",
        "units",
        "core",
        "errors",
    },
    "remote": {
        "brief",
        "advice",
        "asynchronous",
        "conditions",
        "following",
        "interruption",
        "link",
        "net",
        "pieces",
        "results",
        "running",
        "targets",
        "units",
        "views",
        "waiting",
        "config",
        "core",
        "errors",
    },
    "asynchronous": {"results", "core"},
    "clean": {"config", "nursery", "errors"},
    "doctor": {"clean", "remote", "config", "core", "units", "errors"},
    "openssh": set(),
    "dashboard": {"remote", "targets", "config", "core", "units", "errors"},
    "top": {"dashboard", "units", "errors"},
    "watching": {"dashboard", "top", "extras"},
    "launchers": {"openssh", "config", "units", "errors"},
    "launcher": {"launchers", "nursery", "remote", "config", "units", "errors"},
    "reach": {"openssh", "doctor"},
    "upkeep": {"reach", "clean", "doctor", "launcher", "nursery", "config", "errors"},
}
"""What each part may import of the package, itself apart. Parts at the top are not named."""

ALSO = {"net/engine_server.py": {"execution"}}
"""More, for single files."""

AT_THE_TOP = {"magics", "commands", "testing", "pytest_plugin"}
"""Nobody imports these; loading the extension is how IPython reaches the magics."""

IMPURE = {"asyncio", "os", "random", "secrets", "select", "signal", "socket", "subprocess", "threading", "time", "uuid"}
"""Of the standard library; the core has no clock, no chance, no threads and no environment."""

WALL_CLOCK = {"net/controller_server.py", "net/store.py", "link.py", "clean.py", "launchers/far.py"}
"""Those that stamp results, and what looks at files: how old one is, only that clock says."""

UNPICKLERS = {"pickle", "cloudpickle", "_pickle", "dill", "shelve", f"{PACKAGE}.payload"}


def sources() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py"))


@cache
def tree(source: str) -> ast.Module:
    return ast.parse((ROOT / source).read_text(), source)


def name_of(source: str) -> str:
    """Dotted name of a module."""
    parts = [PACKAGE, *Path(source).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part(name: str) -> str:
    """The part of the package that a dotted name is in; "" for the package itself."""
    return name.split(".")[1] if "." in name else ""


@cache
def imports(source: str, *, lazy: bool = True) -> frozenset[str]:
    """Dotted names that a file imports. Those for type checkers only are left out.

    ``lazy`` includes imports inside functions.
    """
    modules = {name_of(other) for other in sources()}
    found: set[str] = set()
    for node in nodes(tree(source), lazy):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{source}:{node.lineno}: imports are absolute here"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in modules else node.module)
    return frozenset(found)


def nodes(node: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        if not lazy and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from nodes(child, lazy)


def ours(names: frozenset[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == PACKAGE}


@pytest.mark.parametrize("source", sources())
def test_imports_point_one_way(source: str) -> None:
    own = part(name_of(source))
    if own in AT_THE_TOP or source == "__init__.py" or own not in MAY_IMPORT:
        return
    allowed = MAY_IMPORT[own] | ALSO.get(source, set()) | {own, ""}
    wrong = {name for name in ours(imports(source)) if part(name) not in allowed}
    assert not wrong, f"{source} may import of this package {sorted(allowed - {''})} only"


@pytest.mark.parametrize("source", sources())
def test_nobody_imports_the_top(source: str) -> None:
    wrong = {name for name in ours(imports(source)) if part(name) in AT_THE_TOP - {part(name_of(source))}}
    if source == "__init__.py":
        assert not {name for name in ours(imports(source, lazy=False)) if part(name) in AT_THE_TOP}
        wrong.discard(f"{PACKAGE}.magics")
    if source == "pytest_plugin.py":
        wrong.discard(f"{PACKAGE}.testing")
    assert not wrong


@pytest.mark.parametrize("source", [s for s in sources() if s.startswith("core/")])
def test_core_is_pure(source: str) -> None:
    foreign = {name.split(".")[0] for name in imports(source)} - {PACKAGE, "msgspec"}
    assert foreign <= sys.stdlib_module_names, "the core needs the standard library and msgspec only"
    assert not foreign & IMPURE


@pytest.mark.parametrize("source", [s for s in sources() if s not in ("payload.py", "versions.py")])
def test_only_payload_imports_cloudpickle(source: str) -> None:
    """And what asks for its version."""
    assert "cloudpickle" not in {name.split(".")[0] for name in imports(source)}


@pytest.mark.fault("a result runs code as it is rebuilt")
def test_the_controller_cannot_unpickle() -> None:
    """Nothing that its module brings with it, however far away, can."""
    by_name = {name_of(source): source for source in sources()}
    seen: set[str] = set()
    ahead = [f"{PACKAGE}.nursery.controller"]
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        seen.add(name)
        parents = [name.rpartition(".")[0]] if "." in name else []
        ahead += [found for found in parents + sorted(imports(by_name[name], lazy=False)) if found in by_name]
        reached = imports(by_name[name], lazy=name != PACKAGE) & UNPICKLERS
        assert not reached, f"{name} imports {reached}"
    assert f"{PACKAGE}.core.controller" in seen


@pytest.mark.fault("the wall clock jumps")
@pytest.mark.parametrize("source", [s for s in sources() if s not in WALL_CLOCK])
def test_time_is_monotonic(source: str) -> None:
    """The wall clock jumps; nothing that waits or counts as alive may look at it."""
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"time.time", "datetime.now", "datetime.datetime.now"}, node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            assert not {alias.name for alias in node.names} & {"time", "time_ns"}, node.lineno


@pytest.mark.parametrize("source", [s for s in sources() if (ROOT / s).stat().st_size])
def test_modules_say_what_they_are_for(source: str) -> None:
    assert ast.get_docstring(tree(source)), f"{source} opens with a paragraph on what it is for"
