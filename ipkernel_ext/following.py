"""How it looks what other clients run and print: each line with who and where. Pure but for what it prints."""

from __future__ import annotations

import sys

from ipkernel_ext import targets
from ipkernel_ext.core import messages as m


def lines(event: m.Followed) -> list[str]:
    """An event as lines, each with the client and the engines."""
    where = targets.label(event.engines) if event.engines else "[any]"
    who = f"{event.host}:{event.pid}" if event.pid else event.client
    sign = {"run": ">>>", "failed": "!!!"}.get(event.kind, "")
    text = event.text.rstrip("\n").split("\n")
    said = [f"{who} {where} {sign} {line}" if sign else f"{who} {where} {line}" for line in text]
    return [f"… {event.left_out} events are not shown …", *said] if event.left_out else said


def write(event: m.Followed) -> None:
    """Print it."""
    sys.stdout.write("".join(f"{line}\n" for line in lines(event)))
    sys.stdout.flush()
