"""The labeling page on loopback.

python -m fm_platform.web.labeling --port 3004
"""

from __future__ import annotations

import argparse
import sys

from fm_platform.errors import FMError
from fm_platform.web.labeling.server import PORT, serve


def main(words: list[str] | None = None) -> int:
    """Parse the command line and serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m fm_platform.web.labeling", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT)
    given = parser.parse_args(words)
    try:
        serve(given.port)
    except FMError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
