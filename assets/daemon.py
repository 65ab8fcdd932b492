"""The Dagster daemon, once an instance.

    python -m assets.daemon

The lock is taken before Dagster is imported, so that a second daemon is refused at once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.web.single import SingleInstance


def main(words: list[str] | None = None) -> int:
    """Take the lock and run the daemon until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m assets.daemon", description=__doc__)
    parser.add_argument("--workspace", type=Path)
    given = parser.parse_args(words)
    home = Home.from_environment()
    url = home.ledger_url if home.ledger_url.startswith("postgresql") else None
    try:
        with SingleInstance(home.ensure().dagster / "daemon.lock", "daemon", url):
            from dagster._daemon.cli import create_dagster_daemon_cli

            from assets.instance import WORKSPACE, open_instance

            open_instance(home).dispose()  # the daemon opens it by itself; now its tables are there
            create_dagster_daemon_cli().main(
                ["run", "-w", str(given.workspace or WORKSPACE)], standalone_mode=False
            )
    except FMError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
