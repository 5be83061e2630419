"""A dashboard that belongs to a client: one line of JSON in, one out, and the end of its input is its end."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from ipkernel_ext.dashboard import looking
from ipkernel_ext.dashboard.serving import Dashboard


def main() -> None:
    """Serve until the owner ends or lets go."""
    found: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    try:
        dashboard = Dashboard(looking.at(**found), looking.title(**found))
    except OSError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    print(json.dumps({"url": dashboard.url}), flush=True)

    def wait() -> None:
        while os.read(0, 4096):
            pass
        dashboard.stop()

    threading.Thread(target=wait, name="ipkernel_ext dashboard's owner", daemon=True).start()
    dashboard.serve()


if __name__ == "__main__":
    main()
