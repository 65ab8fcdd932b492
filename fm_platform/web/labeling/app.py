"""The server of the labeling page: it hands out rows and writes answers, guarded."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from fm_platform.errors import AnsweredError, FMError
from fm_platform.spec.load import discover
from fm_platform.web.guard import Guard, loopback_hosts
from fm_platform.web.labeling.desk import Desk
from fm_platform.web.lineage.app import STATIC as SHARED
from fm_platform.web.lineage.inert import inert
from fm_platform.web.pages import in_words, with_policy
from fm_platform.workspace import Workspace, find_project, project_root

STATIC = Path(__file__).parent / "static"
_MOST_TAB_CHARS = 64
_log = logging.getLogger(__name__)
Given = dict[str, Any]


def make_app(ws: Workspace, port: int, root: Path | None = None) -> ASGIApp:
    """Return the page and its answers behind the guard.

    Args:
        ws: Where rows are read and answers written.
        port: Where it listens: the guard answers to that name only.
        root: Where the projects are; None: `project_root()`.
    """
    # a page of another site cannot read it, so it cannot write either
    token = secrets.token_urlsafe(32)
    page = _Page(ws, root, token)
    reads = {"session": page.session, "next": page.next, "votes": page.votes}
    writes = {
        "answer": page.answer, "skip": page.skip, "again": page.again, "undo": page.undo,
    }  # fmt: skip
    app = Starlette(
        routes=[
            Route("/", _index),
            *(Route(f"/api/{name}", _reads(ask)) for name, ask in reads.items()),
            *(Route(f"/api/{n}", _writes(do), methods=["POST"]) for n, do in writes.items()),
            Mount("/static", StaticFiles(directory=STATIC)),
            Mount("/shared", StaticFiles(directory=SHARED)),
        ]
    )
    return Guard(with_policy(app), loopback_hosts(port), token, writes=True)


class _Page:
    """What the page asks and says. A project file that changed is read again."""

    def __init__(self, ws: Workspace, root: Path | None, token: str) -> None:
        self._ws, self._root, self._token = ws, root, token
        self._desks: dict[str, tuple[int, Desk]] = {}
        self._lock = threading.Lock()

    def session(self, given: Given) -> Any:
        """Return the token, the projects, and what is declared of one of them."""
        names = sorted(file.parent.name for file in discover(self._root or project_root()))
        common = {"home": str(self._ws.home.root), "token": self._token, "projects": names}
        if not given.get("annotator") or not names:
            return common
        given = {**given, "project": given.get("project") or names[0]}
        return {**common, "project": given["project"], **self._desk(given).session(_who(given))}

    def next(self, given: Given) -> Any:
        """Return the row that a tab shows."""
        return self._desk(given).next(_who(given), _tab(given))

    def votes(self, given: Given) -> Any:
        """Return the votes on one row."""
        return self._desk(given).votes(str(given.get("text_key")))

    def answer(self, given: Given) -> Any:
        """Keep an answer; return the next row."""
        return self._desk(given).answer(_who(given), _tab(given), given)

    def skip(self, given: Given) -> Any:
        """Put a row after all others; return the next."""
        return self._desk(given).skip(_who(given), _tab(given), str(given.get("text_key")))

    def again(self, given: Given) -> Any:
        """Ask what was skipped."""
        return self._desk(given).skipped_again(_who(given), _tab(given))

    def undo(self, given: Given) -> Any:
        """Take an answer back; return its row."""
        return self._desk(given).take_back(_who(given), _tab(given), str(given.get("text_key")))

    def _desk(self, given: Given) -> Desk:
        name = str(given.get("project"))
        with self._lock:
            root = self._root or project_root()
            file = root / "assets" / "defs" / name / "defs.yaml"
            known = {found.parent.name for found in discover(root)}
            changed = file.stat().st_mtime_ns if name in known else 0
            if name not in self._desks or self._desks[name][0] != changed:
                self._desks[name] = (changed, Desk(self._ws, find_project(name, root)))
            return self._desks[name][1]


def _who(given: Given) -> str:
    return str(given.get("annotator") or "")


def _tab(given: Given) -> str:
    return str(given.get("tab") or "")[:_MOST_TAB_CHARS]


def _reads(ask: Callable[[Given], Any]) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        return _answered(ask, dict(request.query_params), request.url.path)

    return answer


def _writes(do: Callable[[Given], Any]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        try:
            given = await request.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            given = None
        if not isinstance(given, dict):
            return JSONResponse({"error": {"message": "the body is no JSON object"}}, 400)
        return await run_in_threadpool(_answered, do, given, request.url.path)

    return answer


def _answered(do: Callable[[Given], Any], given: Given, path: str) -> Response:
    try:
        # the desk has made inert what comes from rows; texts are longer than `inert` lets them be
        return JSONResponse(do(given))
    except FMError as error:
        status = 409 if isinstance(error, AnsweredError) else 422
        return JSONResponse({"error": in_words(error)}, status)
    except Exception:
        _log.exception("%s failed", path)
        failed = {"message": "the server failed at this", "next": "its log tells why"}
        return JSONResponse({"error": inert(failed)}, 500)


def _index(request: Request) -> Response:
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")
