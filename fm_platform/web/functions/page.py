"""What the page of the labeling functions asks for; it reads, and records nothing."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from fm_platform.stages.label_counts import DaysCounted, first_and_last
from fm_platform.stages.label_report import Wanted, label_report
from fm_platform.web.lineage.moments import stamp
from fm_platform.workspace import Workspace, find_project

STATIC = Path(__file__).parent / "static"
_KEPT = 16
_NUMBER = re.compile(r"[1-9][0-9]{0,3}")

Answer = Callable[[Callable[[Request], Any]], Callable[[Request], Response]]


def function_routes(
    universe: Callable[[Request], Workspace],
    project: Callable[[Request], str],
    answer: Answer,
) -> list[BaseRoute]:
    """Return the page, its scripts, and what it asks for.

    Args:
        universe: Which workspace a request means: main's or that of a branch.
        project: Which project it means.
        answer: Makes an answer of what is told, with errors as JSON.
    """
    reports = Reports()

    def report(request: Request) -> Any:
        source = request.query_params.get("source") or None
        last = request.query_params.get("days", "")
        days = int(last) if _NUMBER.fullmatch(last) else None
        return reports.report(universe(request), project(request), source, days)

    return [
        Route("/functions", _index),
        Route("/api/functions", answer(report)),
        Mount("/functions/static", StaticFiles(directory=STATIC)),
    ]


class Reports:
    """Reports, kept for as long as nothing is added to the ledger and the project file stays."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], dict[str, Any]] = OrderedDict()
        self._days: dict[tuple[object, ...], DaysCounted] = {}
        self._making = threading.Lock()

    def report(
        self, ws: Workspace, project: str, source: str | None, last_days: int | None
    ) -> dict[str, Any]:
        """Return a report; days that were counted before are not counted again.

        Args:
            ws: Where everything is.
            project: Whose functions.
            source: Only rows of this source.
            last_days: Only so many days up to the last one.

        Raises:
            FMError: As `label_report`, and for a project file with mistakes.
        """
        loaded = find_project(project, ws.home.own if ws.home.branch else None)
        ends = first_and_last(ws, loaded.spec) if last_days else None
        since = None
        if ends is not None and last_days:
            since = (date.fromisoformat(ends[1]) - timedelta(days=last_days - 1)).isoformat()
        wanted = Wanted(source, since)
        world = (project, ws.home.branch, loaded.file.stat().st_mtime_ns)
        key = (*world, wanted, stamp(ws.ledger))
        with self._making:  # one after the other: who asks for the same waits for it
            if key not in self._kept:
                days = self._days.get(world)
                if days is None:
                    self._days = {k: d for k, d in self._days.items() if k[:2] != world[:2]}
                    days = self._days[world] = DaysCounted(ws, loaded.spec, None)
                self._kept[key] = label_report(ws, loaded, wanted, None, days)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


def _index(request: Request) -> Response:
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")
