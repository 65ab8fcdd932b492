"""Open a page in the browser, and serve it where nobody does."""

from __future__ import annotations

import socket
import threading
import webbrowser
from collections.abc import Callable

from fm_platform.workspace import Workspace

LOOPBACK = "127.0.0.1"


def open_served(
    ws: Workspace,
    port: int,
    about: str,
    address: Callable[[int], str],
    say: Callable[[str], None],
    hint: str,
    run: Callable[[int], None],
) -> None:
    """Open a page in the browser; serve it until interrupted where nobody does.

    Args:
        ws: Whose page.
        port: Where it would be served already.
        about: Path that tells of which home a page is, as JSON.
        address: Port -> address of the view.
        say: Tells a person what happens.
        hint: Said with the address where the page is served from here.
        run: Serves at a port until interrupted.
    """
    if _serves(ws, port, about):
        there = address(port)
        say(there)
        webbrowser.open(there)
        return
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = int(probe.getsockname()[1])
    there = address(port)
    say(f"{there}\n{hint}")
    opening = threading.Timer(1.0, webbrowser.open, [there])
    opening.daemon = True
    opening.start()
    run(port)


def _serves(ws: Workspace, port: int, about: str) -> bool:
    """Whether the page of this very home is served there."""
    import httpx

    try:
        told = httpx.get(f"http://{LOOPBACK}:{port}{about}", timeout=2).json()
    except (httpx.HTTPError, ValueError):
        return False
    return isinstance(told, dict) and told.get("home") == str(ws.home.root)
