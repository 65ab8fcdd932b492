"""Serve the labeling page on loopback, and open it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from fm_platform.home import Home
from fm_platform.web.labeling.app import make_app
from fm_platform.web.opening import LOOPBACK, open_served
from fm_platform.workspace import Workspace

PORT = 3004
"""Where `fm ui` serves the page unless it is told another port."""


def serve(port: int) -> None:
    """Serve the page of this FM_HOME until interrupted, on loopback only."""
    ws = Workspace.open(Home.from_environment())
    _ = ws.ledger  # opened and brought up to date before the first question
    _run(ws, port)


def address(port: int, project: str, annotator: str) -> str:
    """Return the address at which one person labels the rows of a project."""
    query = urlencode({"project": project, "annotator": annotator})
    return f"http://{LOOPBACK}:{port}/?{query}"


def open_page(
    ws: Workspace, project: str, annotator: str, say: Callable[[str], None], port: int = PORT
) -> None:
    """Open the page in the browser; serve it until interrupted where `fm ui` does not.

    Args:
        ws: Where rows and answers are.
        project: Whose rows.
        annotator: Who labels.
        say: Tells a person what happens.
        port: Where `fm ui` would serve the page.
    """
    open_served(
        ws, port, "/api/session", lambda at: address(at, project, annotator), say,
        "Ctrl-C stops it; every answer is written at once", lambda at: _run(ws, at),
    )  # fmt: skip


def _run(ws: Workspace, port: int) -> None:
    import uvicorn

    uvicorn.run(make_app(ws, port), host=LOOPBACK, port=port, log_level="warning")
