"""The server of the lineage page: it reads, and answers with JSON; it changes nothing."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from fm_platform.errors import FMError, RefError
from fm_platform.home import MAIN
from fm_platform.lineage.graph import Graph, graph_at
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import parse, parse_time, projects, resolve, version_name
from fm_platform.stages.diff import Wanted
from fm_platform.stages.diff import diff as compare
from fm_platform.stages.trace import row_finder, trace
from fm_platform.web.functions.page import function_routes
from fm_platform.web.guard import Guard, loopback_hosts
from fm_platform.web.lineage.inert import inert
from fm_platform.web.lineage.links import Links
from fm_platform.web.lineage.moments import extent, moments, stamp
from fm_platform.web.lineage.payload import decided, graph_json, record_json, with_named
from fm_platform.web.lineage.world import beside, world
from fm_platform.web.pages import answer, prepared, with_policy
from fm_platform.workspace import Workspace

STATIC = Path(__file__).parent / "static"
_KEPT = 48
_log = logging.getLogger(__name__)


def make_app(ws: Workspace, links: Links, port: int, *, ahead: bool = False) -> ASGIApp:
    """Return the page and its answers behind the guard.

    Args:
        ws: Whose history.
        links: Where Dagster and MLflow are shown.
        port: Where it listens: the guard answers to that name only.
        ahead: Whether what the first opening asks for is made before anybody asks.
    """
    page = _Page(ws, links)
    if ahead:
        threading.Thread(target=page.look_ahead, name="lineage-ahead", daemon=True).start()
    answers: dict[str, Callable[[Request], Any]] = {
        "about": page.about,
        "timeline": page.timeline,
        "graph": page.graph,
        "world": page.world,
        "record": page.record,
        "diff": page.diff,
        "trace": page.trace,
    }
    routes = [Route(f"/api/{name}", answer(ask)) for name, ask in answers.items()]
    app = Starlette(
        routes=[
            Route("/", _index),
            *routes,
            *function_routes(page.universe, page.project, answer),
            Route("/go/mlflow/{run_id}", page.go_to_mlflow),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
    )
    return Guard(with_policy(app), loopback_hosts(port), token="")


class _Page:
    """What the page asks for. Graphs are kept for as long as nothing is added to the ledger."""

    def __init__(self, ws: Workspace, links: Links) -> None:
        self._ws, self._links = ws, links
        self._kept: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._lock = threading.Lock()
        self._making = threading.RLock()
        self._comparing = threading.Lock()

    def about(self, request: Request) -> Any:
        """Return which home this is, which projects it holds, and whether anything is new."""
        return {
            "home": str(self._ws.home.root),
            "projects": projects(self._ws.ledger),
            "branch": self._ws.home.branch or MAIN,
            "branches": [
                {"project": b.project, "name": b.name, "at": b.at}
                for b in self._ws.ledger.branches()
            ],
            "stamp": stamp(self._ws.ledger),
        }

    def timeline(self, request: Request) -> Any:
        """Return the stops of the slider."""
        return self._timeline(self.universe(request), self.project(request))

    def graph(self, request: Request) -> Any:
        """Return the graph of a moment."""
        return self._columns(self.universe(request), self.project(request), _time(request))

    def world(self, request: Request) -> Any:
        """Return the graph of now with what the files of the project say, where that differs."""
        ws, project = self.universe(request), self.project(request)
        seen = world(ws, self._graph(ws, project, None))
        told = graph_json(seen.graph, decided(ws.ledger, project, None)) if seen.graph else None
        return {"graph": told, "note": seen.note}

    def record(self, request: Request) -> Any:
        """Return all that is known of one version."""
        ws, at = self.universe(request), _time(request)
        version = self._version(request, "ref")
        node = self._graph(ws, version.project, at).by_id.get(version.id)
        told = record_json(ws.ledger, version, at, node)
        told["links"] = self._links.of(version)
        for alert in told["alerts"]:
            alert["link"] = self._links.alert(version.project, alert["id"])
        return told

    def diff(self, request: Request) -> Any:
        """Return what differs between two versions; only what the ledger tells unless `all`."""
        after = self._version(request, "b")
        if request.query_params.get("a"):
            before = self._version(request, "a")
        else:
            before = _before(self.universe(request), after)
        if before.created_at > after.created_at and before.slot == after.slot:
            before, after = after, before
        everything = request.query_params.get("all") == "1"
        with self._comparing:  # one at a time: it may read whole models
            told = compare(self.universe(request), before, after, Wanted(contents=everything))
        return told.to_json()

    def trace(self, request: Request) -> Any:
        """Return one row, all the way back to its source."""
        row = request.query_params.get("row", "")
        return trace(self.universe(request), self.project(request), row, at=_time(request))

    def go_to_mlflow(self, request: Request) -> Response:
        """Lead to the page of a run; MLflow itself knows where it is."""
        try:
            return RedirectResponse(self._links.mlflow_run(request.path_params["run_id"]))
        except FMError as error:
            return Response(str(error), 502, media_type="text/plain; charset=utf-8")

    def project(self, request: Request) -> str:
        """Return which project a request means; the first without a name."""
        known = projects(self._ws.ledger)
        named = request.query_params.get("project") or (known[0] if known else "")
        if named not in known:
            raise RefError(
                "there is no history of this project" if known else "nothing is built yet",
                found=named or None,
                expected=", ".join(known) or None,
                next_step=None if known else "make demo, or fm run PROJECT",
            )
        return named

    def universe(self, request: Request) -> Workspace:
        """Return the workspace of the branch that is asked for; without one, of the page's own."""
        named = request.query_params.get("branch") or self._ws.home.branch or MAIN
        branch = None if named == MAIN else named
        if branch == self._ws.home.branch:
            return self._ws
        return beside(self._ws, branch)

    def _version(self, request: Request, parameter: str) -> ArtifactVersion:
        text = request.query_params.get(parameter, "")
        at = parse(text).at or _time(request)
        ws, project = self.universe(request), self.project(request)
        finder = row_finder(ws)
        try:
            return resolve(ws.ledger, project, text, at, find_row=finder)
        except RefError:
            if at is None:
                raise
            # what was not there yet can be looked at from the past, too
            return resolve(ws.ledger, project, text, find_row=finder)

    def look_ahead(self) -> None:
        """Make what the first opening asks for; what fails is told to whoever asks for it."""
        try:
            for project in projects(self._ws.ledger)[:1]:
                self._timeline(self._ws, project)
                self._columns(self._ws, project, None)
        except FMError as error:
            _log.warning("nothing could be made ahead: %s", error)

    def _timeline(self, ws: Workspace, project: str) -> Any:
        return self._once(
            ("timeline", project, ws.home.branch or ""),
            lambda: prepared(
                inert(
                    {
                        "project": project,
                        "moments": [m.to_json() for m in moments(ws.ledger, project)],
                        **extent(ws.ledger, project),
                    }
                )
            ),
        )

    def _columns(self, ws: Workspace, project: str, at: datetime | None) -> Any:
        return self._once(
            ("columns", project, ws.home.branch or "", str(at)),
            lambda: prepared(
                graph_json(self._graph(ws, project, at), decided(ws.ledger, project, at))
            ),
        )

    def _graph(self, ws: Workspace, project: str, at: datetime | None) -> Graph:
        found: Graph = self._once(
            ("graph", project, ws.home.branch or "", str(at)),
            lambda: with_named(ws.ledger, graph_at(ws.ledger, project, at)),
        )
        return found

    def _once(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        key = (*key, stamp(self._ws.ledger))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._making:  # one after the other: who asks for the same waits for it
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            made = make()
            with self._lock:
                self._kept[key] = made
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return made


def _before(ws: Workspace, version: ArtifactVersion) -> ArtifactVersion:
    listed = ws.ledger.versions(
        version.project, version.kind, version.name, version.partition or ""
    )
    earlier = [other for other in listed if other.number < version.number]
    if not earlier:
        raise RefError(f"{version_name(version)} is the first of its name: there is none before it")
    return ws.ledger.get(earlier[-1].id)


def _time(request: Request) -> datetime | None:
    text = request.query_params.get("at")
    return parse_time(text) if text else None


def _index(request: Request) -> Response:
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")
