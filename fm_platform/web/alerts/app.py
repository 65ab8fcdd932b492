"""The server of the alerts page: it reads the ledger, and records what people say of an alert.

It starts nothing: an approved repair is a record, and the sensor of the project runs it. What
changes something is asked by POST with JSON and with the token that the page got from this very
server; the guard has refused other hosts and other sites before.
"""

from __future__ import annotations

import getpass
import hmac
import json
import secrets
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from fm_platform.errors import FMError
from fm_platform.lineage.database import now
from fm_platform.spec.load import discover
from fm_platform.stages.alerts import Desk
from fm_platform.web.alerts.payload import alert_json, listed
from fm_platform.web.guard import TOKEN_HEADER, Guard, loopback_hosts
from fm_platform.web.lineage.links import Links
from fm_platform.web.lineage.moments import stamp
from fm_platform.web.pages import answer, told, with_policy
from fm_platform.workspace import Workspace, find_project, project_root

STATIC = Path(__file__).parent / "static"
SHARED = Path(__file__).parents[1] / "lineage" / "static"
_RULINGS = {"accept": "accepted", "snooze": "snoozed", "raise": "raised", "lower": "lowered"}
_MOST_BYTES = 16_384
_MOST_DAYS = 365.0


def make_app(ws: Workspace, links: Links, port: int, root: Path | None = None) -> ASGIApp:
    """Return the page and its answers behind the guard.

    Args:
        ws: Whose alerts.
        links: Where Dagster and the lineage page are.
        port: Where it listens: the guard answers to that name only.
        root: Folder whose `assets/defs` holds the projects; None: the usual one.
    """
    page = _Page(ws, links, root)
    answers: dict[str, Callable[[Request], Any]] = {
        "about": page.about,
        "list": page.listing,
        "alert": page.alert,
    }
    app = Starlette(
        routes=[
            Route("/", _index),
            *(Route(f"/api/{name}", answer(ask)) for name, ask in answers.items()),
            Route("/api/act", page.act, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
            Mount("/shared", StaticFiles(directory=SHARED)),
        ]
    )
    return Guard(with_policy(app), loopback_hosts(port), token=page.token)


class _Page:
    """What the page asks for, and what people say on it."""

    def __init__(self, ws: Workspace, links: Links, root: Path | None) -> None:
        self._ws, self._links, self._root = ws, links, root
        self.token = secrets.token_urlsafe(24)

    def about(self, request: Request) -> Any:
        """Return which projects there are, and whether anything is new."""
        return {
            "home": str(self._ws.home.root),
            "projects": self._projects(),
            "stamp": stamp(self._ws.ledger),
            "token": self.token,
        }

    def listing(self, request: Request) -> Any:
        """Return the alerts of a project, open ones first."""
        desk = self._desk(request.query_params.get("project"))
        return {"project": desk.name, "alerts": listed(desk), "policy": _policy(desk)}

    def alert(self, request: Request) -> Any:
        """Return all that is known of one alert."""
        desk = self._desk(request.query_params.get("project"))
        return alert_json(desk, desk.find(request.query_params.get("id", "")), self._links)

    async def act(self, request: Request) -> Response:
        """Record what a person says of an alert."""
        given = request.headers.get(TOKEN_HEADER, "")
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return _refused(401, "open the page of this server: it holds the token")
        if kind != "application/json":
            return _refused(415, "this is asked by POST with a JSON body")
        body = await request.body()
        if len(body) > _MOST_BYTES:
            return _refused(413, f"a body may hold {_MOST_BYTES} bytes")
        try:
            said = json.loads(body)
        except ValueError:
            return _refused(400, "the body is no JSON")
        if not isinstance(said, dict):
            return _refused(400, "the body is no JSON object")
        return await run_in_threadpool(told, request, lambda: self._act(said))

    def _act(self, said: dict[str, Any]) -> dict[str, Any]:
        desk = self._desk(_text(said, "project"))
        life = desk.find(_text(said, "id"))
        what, reason, who = _text(said, "what"), _text(said, "reason"), getpass.getuser()
        if what == "approve":
            number = said.get("repair")
            if not isinstance(number, int) or isinstance(number, bool):
                raise FMError("say which repair", expected="its number")
            desk.approve(life, number, reason or "approved", who)
        elif what in _RULINGS:
            days = said.get("days", 7)
            if not isinstance(days, (int, float)) or not 0 < days <= _MOST_DAYS:
                raise FMError("say for how long", expected=f"days, up to {_MOST_DAYS:g}")
            until = now() + timedelta(days=float(days)) if what == "snooze" else None
            desk.rule(life, _RULINGS[what], reason, who, until)
        else:
            raise FMError("there is no such answer", found=what, expected="approve, accept, ...")
        return alert_json(desk, desk.find(life.alert.id), self._links)

    def _projects(self) -> list[str]:
        return [file.parent.name for file in discover(self._root or project_root())]

    def _desk(self, named: str | None) -> Desk:
        known = self._projects()
        if not named and known:
            with_alerts = [n for n in known if self._ws.ledger.alert_events(n)]
            named = (with_alerts or known)[0]
        return Desk(self._ws, find_project(named or "", self._root))


def _policy(desk: Desk) -> dict[str, Any]:
    policy = desk.policy
    return {
        "declared": desk.project.spec.alerts is not None, "automatic": list(policy.automatic),
        "least": policy.least, "runs_per_day": policy.runs_per_day,
    }  # fmt: skip


def _text(said: dict[str, Any], name: str) -> str:
    value = said.get(name, "")
    if not isinstance(value, str) or len(value) > 2_000:
        raise FMError(f"`{name}` must be a text of at most 2,000 characters")
    return value


def _refused(status: int, words: str) -> Response:
    return JSONResponse({"error": {"message": words}}, status)


def _index(request: Request) -> Response:
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")
