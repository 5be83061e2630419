"""Job scripts: templates with fields in double braces. A line whose field is empty is left out.

The templates of this package are in ``templates``; a user may have others.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
_FIELD = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


def render(path: Path, fields: Mapping[str, str]) -> str:
    """The script.

    Raises
    ------
    ValueError
        There is no such file, or it has a field that does not exist; names the line and the nearest one.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise ValueError(f"the template {path} cannot be read: {error.strerror}") from None
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        names = _FIELD.findall(line)
        for name in names:
            if name not in fields:
                near = difflib.get_close_matches(name, fields, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(fields))}"
                raise ValueError(f"{path}, line {number}: there is no field {{{{{name}}}}}: {hint}")
        if all(fields[name] for name in names):
            lines.append(_FIELD.sub(lambda found: fields[found[1]], line))
    return "\n".join(lines) + "\n"
