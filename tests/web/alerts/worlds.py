"""A project with one alert that was repaired, one that is open, and rows that mean harm."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa

from fm_platform.home import Home
from fm_platform.lineage import Produced, Recipe, RunContext
from fm_platform.lineage.database import now
from fm_platform.monitoring.outcome import Outcome, Score, Span
from fm_platform.monitoring.profile import Profile
from fm_platform.monitoring.records import (
    Alert,
    Band,
    Cause,
    Estimate,
    Finding,
    Impact,
    Move,
    Repair,
)
from fm_platform.stages.alerts import Desk, Work
from fm_platform.workspace import Workspace, find_project
from tests.web.lineage.conftest import HOSTILE

DAY = "2026-01-03"
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: shop
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-01, end: 2026-01-04}
  gold: {column: label}
  sources: [{name: mail, options: {path: "mail-*.jsonl"}}]
  labeling: {functions: [{kind: keyword, name: nice, words: [great], label: good}]}
  alerts: {automatic: [retrain], show_rows: 2}
"""
RETRAIN = Repair(
    "retrain", "Train mail again", "It was trained before this came.", (DAY,), ("adapters",),
    minutes=5.0, gain=3.0, automatic=True,
)  # fmt: skip
ACCEPT = Repair("accept", "Accept this as the new normal", "Nothing is changed.", minutes=0.0)


def finding(metric: str, moves: tuple[Move, ...]) -> Finding:
    return Finding(
        metric, "mail", "shares", DAY, DAY, 0.0, 0.61, moves, 300, ("total variation", 0.61), 0.61,
        0.0, 0.0, Band(0.0, 0.1),
    )  # fmt: skip


LONGER = dataclasses.replace(
    finding("length:chars", (Move("5 %", 49.0, 132.0), Move("median", 74.0, 158.0))), kind="range"
)


def alert(name: str, loss: float, **fields: object) -> Alert:
    moves = (Move(name, 0.0, 0.61), Move("mail", 1.0, 0.39))
    made = Alert(
        "shop", DAY, DAY, Cause("source_came", name, None, ("mail",)),
        f"`source`: {name} is 61 % of the rows (was 0 %) since {DAY}", ("terms: battery",),
        (finding("source:source", moves), finding("column:price", ()), LONGER),
        Impact(Estimate(-loss, -loss - 1, -loss + 1, "confidence", 384), share=0.61), "high",
        (RETRAIN, ACCEPT), "champion merged_model@12345678",
    )  # fmt: skip
    return dataclasses.replace(made, **fields)


def world(folder: Path) -> tuple[Desk, Path]:
    """Return the desk and the folder that holds `assets/defs`."""
    place = folder / "root" / "assets" / "defs" / "shop"
    place.mkdir(parents=True)
    (place / "defs.yaml").write_text(SPEC)
    ws = Workspace.open(Home(folder / "home"))
    desk = Desk(ws, find_project("shop", folder / "root"))
    _rows(ws)
    desk.open([alert("amazon", 9.0)], 1)
    _repaired(desk)
    desk.open([alert(HOSTILE, 4.0, severity="medium"), alert("quiet", 0.1, severity="record")], 2)
    return desk, folder / "root"


def _rows(ws: Workspace) -> None:
    sample = pa.table(
        {
            "row_id": ["a", "b", "c"], "source": ["mail"] * 3,
            "text": [f"great {HOSTILE}", "call me: ann@shop.example", "it broke"],
            "label": ["good", "good", "bad"],
        }
    )  # fmt: skip
    made = Profile("shop", (DAY,), {"all": 3, "mail": 3}, {"all": {}, "mail": {}}, sample=sample)
    column = ws.columns.put(made.to_table())
    recipe = Recipe("shop", "profile", "profile", DAY, (), "c", {}, "e", 0)
    ws.ledger.record(recipe, Produced(column, {"column": column}), RunContext(), now(), now())


def _repaired(desk: Desk) -> None:
    (life,) = desk.lives().values()
    Desk.work, work = (lambda self, repair: Work((DAY,), ("raw",), models=True)), Desk.work  # type: ignore[method-assign]
    try:
        (life,) = desk.due()
    finally:
        Desk.work = work  # type: ignore[method-assign]
    desk.running(life, "abcdefgh")
    run = RunContext(asked_by=f"backfill:abcdefgh alert:{life.alert.id}")
    recipe = Recipe("shop", "merged_model", "merged_model", None, (), "c", {}, "e", 0)
    desk.ws.ledger.record(recipe, Produced("model", {}), run, now(), now())
    desk.finished(desk.find(life.alert.id), True, "all of it was built")
    (life,) = desk.checking()
    score = Score(
        "f1_weighted", ("mail",), 312, "gold", Span(0.612, 0.57, 0.65), Span(0.671, 0.63, 0.71),
        Span(0.059, 0.02, 0.1),
    )  # fmt: skip
    found = Outcome("repaired", f"the cause is no longer found; {score.words}", score)
    body = {"attempt": 1, "score": score.to_json(), "versions": {}}
    desk.note(life.alert.id, found.what, "outcome:1", body, found.words)
