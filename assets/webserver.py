"""The Dagster web server behind the guard, on loopback.

python -m assets.webserver --port 3000
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.web.guard import Guard, loopback_hosts

if TYPE_CHECKING:
    from dagster import DagsterInstance

STATEMENT_TIMEOUT_MS, POOL_RECYCLE_S = 15_000, 3_600
"""What Dagster's own command gives a database server; SQLite has neither."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def report_token(home: Home) -> str:
    """Return the token of the report endpoints, made once and readable by the owner only."""
    path = home.keys / "report.token"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32), "utf-8")
    return path.read_text("utf-8").strip()


def for_pages(instance: DagsterInstance) -> None:
    """Give the storage of an instance the limits of a web server."""
    instance.optimize_for_webserver(STATEMENT_TIMEOUT_MS, POOL_RECYCLE_S, max_overflow=20)


def serve(
    workspace: Path | None, host: str, port: int, behind_auth_proxy: bool, public_hosts: list[str]
) -> None:
    """Serve the UI until interrupted; the workspace is that of the checkout where none is named.

    Raises:
        FMError: If asked to listen beyond loopback without an authenticating proxy in front.
    """
    if host not in LOOPBACK and not behind_auth_proxy:
        raise FMError(
            "the Dagster web server has no login and is served on loopback only",
            found=f"--host {host}",
            next_step="put an authenticating proxy in front and add --i-have-auth-proxy",
        )
    import uvicorn
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    from assets.instance import WORKSPACE, open_instance

    home = Home.from_environment().ensure()
    with open_instance(home) as instance:
        for_pages(instance)
        with WorkspaceProcessContext(
            instance, WorkspaceFileTarget([str(workspace or WORKSPACE)]), version=__version__
        ) as context:
            app = create_app_from_workspace_process_context(context)
            hosts = [*loopback_hosts(port), *public_hosts]
            uvicorn.run(
                Guard(app, hosts, report_token(home)), host=host, port=port, log_level="warning"
            )


def main(words: list[str] | None = None) -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m assets.webserver", description=__doc__)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--i-have-auth-proxy", action="store_true")
    parser.add_argument("--public-host", action="append", default=[])
    given = parser.parse_args(words)
    try:
        serve(given.workspace, given.host, given.port, given.i_have_auth_proxy, given.public_host)
    except FMError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
