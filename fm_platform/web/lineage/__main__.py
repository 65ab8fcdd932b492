"""The lineage page on loopback.

python -m fm_platform.web.lineage --port 3002 --dagster http://127.0.0.1:3000
"""

from __future__ import annotations

import argparse
import sys

from fm_platform.errors import FMError
from fm_platform.web.lineage.server import serve


def main(words: list[str] | None = None) -> int:
    """Parse the command line and serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m fm_platform.web.lineage", description=__doc__)
    parser.add_argument("--port", type=int, default=3002)
    parser.add_argument("--dagster", help="address of the Dagster pages")
    parser.add_argument("--mlflow", help="address of the MLflow pages")
    parser.add_argument("--alerts", help="address of the alerts page")
    given = parser.parse_args(words)
    try:
        serve(given.port, given.dagster, given.mlflow, given.alerts)
    except FMError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
