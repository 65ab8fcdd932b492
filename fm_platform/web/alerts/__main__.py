"""The alerts page on loopback.

python -m fm_platform.web.alerts --port 3003 --dagster http://127.0.0.1:3000
"""

from __future__ import annotations

import argparse
import sys

from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.web.lineage.links import Links

LOOPBACK = "127.0.0.1"


def main(words: list[str] | None = None) -> int:
    """Parse the command line and serve until interrupted."""
    import uvicorn

    from fm_platform.web.alerts.app import make_app
    from fm_platform.workspace import Workspace

    parser = argparse.ArgumentParser(prog="python -m fm_platform.web.alerts", description=__doc__)
    parser.add_argument("--port", type=int, default=3003)
    parser.add_argument("--dagster", help="address of the Dagster pages")
    parser.add_argument("--lineage", help="address of the lineage page")
    given = parser.parse_args(words)
    try:
        ws = Workspace.open(Home.from_environment())
        app = make_app(ws, Links(given.dagster, lineage=given.lineage), given.port)
    except FMError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    uvicorn.run(app, host=LOOPBACK, port=given.port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
