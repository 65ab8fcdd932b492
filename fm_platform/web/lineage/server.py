"""Serve the lineage page on loopback, and open it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlencode

from fm_platform.home import Home
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import version_name
from fm_platform.web.lineage.app import make_app
from fm_platform.web.lineage.links import Links
from fm_platform.web.opening import LOOPBACK, open_served
from fm_platform.workspace import Workspace

PORT = 3002
"""Where `fm ui` serves the page unless it is told another port."""


def serve(
    port: int, dagster: str | None = None, mlflow: str | None = None, alerts: str | None = None
) -> None:
    """Serve the page of this FM_HOME until interrupted.

    Args:
        port: Where to listen, on loopback only.
        dagster: Address of the Dagster pages, for links.
        mlflow: Address of the MLflow pages, for links.
        alerts: Address of the alerts page, for links.
    """
    ws = Workspace.open(Home.from_environment())
    _ = ws.ledger  # opened and brought up to date before the first question
    _run(ws, Links(dagster, mlflow, alerts=alerts), port)


def address(
    port: int, project: str | None, version: ArtifactVersion | None, at: datetime | None
) -> str:
    """Return the address of a view: everybody who opens it sees the same."""
    said = {
        "project": project,
        "at": at.isoformat() if at else None,
        "v": version_name(version) if version else None,
    }
    query = urlencode({key: value for key, value in said.items() if value is not None})
    return f"http://{LOOPBACK}:{port}/" + (f"?{query}" if query else "")


def open_page(
    ws: Workspace,
    project: str | None,
    version: ArtifactVersion | None,
    at: datetime | None,
    say: Callable[[str], None],
    port: int = PORT,
) -> None:
    """Open a view in the browser; serve it until interrupted where `fm ui` does not.

    Args:
        ws: Whose history.
        project: Which project is shown; None: the first.
        version: Which version is opened; None: none.
        at: The moment that is shown; None: now.
        say: Tells a person what happens.
        port: Where `fm ui` would serve the page.
    """
    open_served(
        ws, port, "/api/about", lambda to: address(to, project, version, at), say,
        "Ctrl-C stops it", lambda at: _run(ws, Links(), at),
    )  # fmt: skip


def _run(ws: Workspace, links: Links, port: int) -> None:
    import uvicorn

    uvicorn.run(
        make_app(ws, links, port, ahead=True), host=LOOPBACK, port=port, log_level="warning"
    )
