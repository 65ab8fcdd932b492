from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from fm_platform.home import Home
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion, RunContext
from fm_platform.web.lineage.app import make_app
from fm_platform.web.lineage.links import Links
from fm_platform.workspace import Workspace
from tests.lineage.factory import EARLY, make_produced, make_recipe

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>[a](javascript:alert(3))\u202e"


def put(
    ledger: Ledger, hour: int, kind: str, *inputs: ArtifactVersion, day: str | None = None,
    content: str = "", **metrics: object,
) -> ArtifactVersion:  # fmt: skip
    at = EARLY + timedelta(hours=hour)
    recipe = make_recipe(
        kind=kind, name=kind, partition=day, config={"hour": hour},
        inputs=tuple(version.as_input(version.kind) for version in inputs),
    )  # fmt: skip
    produced = make_produced(content or f"{kind} {day} {hour}", metrics=metrics)
    run = RunContext(asked_by=HOSTILE, dagster_run_id="run-1")
    return ledger.record(recipe, produced, run, at, at + timedelta(seconds=2))


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """Two days, a model of each moment; the first day of raw was built again at the end."""
    found = Workspace(Home(tmp_path / "home").ensure())
    ledger = found.ledger
    raw = [put(ledger, n, "raw", day=f"2026-01-0{n + 1}", numbers={"rows": n}) for n in range(2)]
    cleaned = [put(ledger, 2 + n, "cleaned", day, day=day.partition) for n, day in enumerate(raw)]
    first = put(ledger, 4, "merged_model", cleaned[0], numbers={"f1": 0.5})
    ledger.set_alias("shop", "champion", first.id, expected=None, reason=HOSTILE, actor="gate")
    put(ledger, 5, "merged_model", *cleaned, numbers={"f1": 0.75, "loss": float("nan")})
    put(ledger, 6, "raw", day="2026-01-01", content="other rows")
    return found


@pytest.fixture
def page(ws: Workspace) -> TestClient:
    links = Links("http://127.0.0.1:3000", "http://127.0.0.1:3001")
    return TestClient(make_app(ws, links, 3002), base_url="http://127.0.0.1:3002")
