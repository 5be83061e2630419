"""The table of ``%pxwhos``: variables over engines, with those marked that differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ipkernel_ext import targets
from ipkernel_ext.display import columns
from ipkernel_ext.execution.inventory import Variable
from ipkernel_ext.units import bytes_text


def table(engines: Mapping[int, Sequence[Variable]]) -> str:
    """One line for each variable and type; ``≠`` where values differ, or an engine lacks it.

    Parameters
    ----------
    engines
        Variables by engine id.
    """
    everywhere = set(engines)
    groups: dict[tuple[str, str, str], dict[int, Variable]] = {}
    for engine, variables in engines.items():
        for variable in variables:
            groups.setdefault((variable.name, variable.type, variable.shape), {})[engine] = variable
    if not groups:
        return "no variables"
    rows: list[tuple[str, ...]] = [("", "name", "type", "shape", "size", "engines")]
    for (name, kind, shape), there in sorted(groups.items()):
        differ = set(there) != everywhere or len({variable.digest for variable in there.values()}) > 1
        sizes = sorted({variable.size for variable in there.values()})
        size = bytes_text(sizes[0]) if len(sizes) == 1 else f"{bytes_text(sizes[0])} to {bytes_text(sizes[-1])}"
        rows.append(("≠" if differ else "", name, kind, shape, size, targets.summary(there)))
    return columns(rows)
