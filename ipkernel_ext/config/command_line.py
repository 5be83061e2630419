"""Options of our classes on a command line, as ``--Class.option=value``: parted from the rest, and read.

Knows nothing of the commands but which classes each of them uses.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Sequence

from traitlets import Container
from traitlets.config import Config, Configurable
from traitlets.config.loader import DeferredConfigList, DeferredConfigString

from ipkernel_ext.config import settings
from ipkernel_ext.config.templates import file_of

_OPTION = re.compile(r"--(\w+)\.(\w+)(=|$)")


def part(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options of classes, each as one ``--Class.option=value``, and all the rest.

    The value may also be an argument of its own, as in IPython's commands.
    """
    options: list[str] = []
    rest: list[str] = []
    ahead = list(arguments)
    while ahead:
        argument = ahead.pop(0)
        found = _OPTION.match(argument)
        if found is None:
            rest.append(argument)
            if argument == "--":
                return options, rest + ahead
        elif found[3] or not ahead or ahead[0].startswith("--"):
            options.append(argument)
        else:
            options.append(f"{argument}={ahead.pop(0)}")
    return options, rest


def read(options: Sequence[str], used: Sequence[type[Configurable]]) -> Config:
    """What ``part`` found, as a configuration.

    An option that holds a list takes it with commas, as a Python list, or by being given several times.

    Parameters
    ----------
    used
        The classes that the command has a use for.

    Raises
    ------
    ValueError
        A class that is not ours or that the command does not use, an option that does not exist, or one
        without a value; says what is right.
    """
    given: dict[tuple[str, str], list[str]] = {}
    for argument in options:
        name, equals, value = argument.removeprefix("--").partition("=")
        kind, _, option = name.partition(".")
        _check_class(argument, kind, used)
        if not equals:
            raise ValueError(f"{argument!r} needs a value: --{name}=VALUE")
        given.setdefault((kind, option), []).append(value)
    config = Config()
    traits = {kind.__name__: kind.class_traits(config=True) for kind in used}
    for (name, option), values in given.items():
        trait = traits[name].get(option)
        config[name][option] = _listed(values) if isinstance(trait, Container) else DeferredConfigString(values[-1])
    settings.check(config)
    return config


def _check_class(argument: str, name: str, used: Sequence[type[Configurable]]) -> None:
    if name in {kind.__name__ for kind in used}:
        return
    for kind in settings.CLASSES:
        if kind.__name__ == name:
            program, file = file_of(kind).partition("_")[0], file_of(kind)
            raise ValueError(f"{argument!r} has no effect here: {name} is for {program}, or for the profile's {file}")
    ours = [kind.__name__ for kind in settings.CLASSES]
    near = settings.near_class(name) or next(iter(difflib.get_close_matches(name, ours, 1)), None)
    hint = f"; did you mean {near}?" if near else ""
    raise ValueError(f"{argument!r} is not an option of ours; the classes are {', '.join(ours)}{hint}")


def _listed(values: list[str]) -> DeferredConfigList | list[object]:
    if len(values) > 1:
        return DeferredConfigList(values)
    try:
        literal = ast.literal_eval(values[0])
    except (ValueError, SyntaxError):
        literal = None
    if isinstance(literal, list | tuple | set):
        return list(literal)
    return DeferredConfigList([value for value in values[0].split(",") if value])
