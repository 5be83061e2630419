"""Actions of ``ipcluster`` that watch a cluster: ``dashboard`` and ``top``.

Each takes the options that ``commands`` has read, and gives the exit code.
"""

from __future__ import annotations

import argparse
import sys

from ipkernel_ext.dashboard.looking import at, title
from ipkernel_ext.extras import needed


def dashboard(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    for module in ("starlette", "uvicorn"):
        needed(module, "dashboard")
    from ipkernel_ext.dashboard.serving import Dashboard

    looker = at(options.profile)
    looker.client()  # no cluster is an error now
    served = Dashboard(looker, title(options.profile), ip=options.ip, port=options.port, allowed=options.allow_host)
    print(f"the dashboard is at {served.url}")
    print("Who has this address may do with the cluster what you may. Ctrl-C ends the dashboard.", flush=True)
    try:
        served.serve()
    finally:
        served.close()
    return 0


def top(options: argparse.Namespace) -> int:
    """Show the engines in the terminal until q."""
    needed("rich", "dashboard")
    from ipkernel_ext import top

    looker = at(options.profile)
    looker.client()
    try:
        if options.once or not (sys.stdin.isatty() and sys.stdout.isatty()):
            top.once(looker)
        else:
            top.run(looker)
    finally:
        looker.close()
    return 0
