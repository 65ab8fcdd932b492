"""One row, all the way: prediction, model, adapters, training rows, votes, raw row, source file.

Everything is followed along recorded inputs, by version: what is told is what made this
prediction, not what is in use today.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow.compute as pc

from fm_platform.errors import RefError
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import (
    FindRow,
    parse,
    prediction_id,
    projects,
)
from fm_platform.stages import tables
from fm_platform.stages.trace_row import (
    RowTrace,
    evaluation_of,
    holds,
    keeps_predictions,
    model_of,
    row_of,
)
from fm_platform.workspace import Workspace

_ROW = re.compile(r"[0-9a-f]{32}")
_PREDICTION = re.compile(r"pred-([0-9a-f]{4,64})-([0-9a-f]{32})")
_EXAMPLES = 5


def row_finder(ws: Workspace) -> FindRow:
    """Return what finds the raw version that holds a row, for `lineage.refs.resolve`."""

    def find(project: str, row_id: str, at: datetime | None) -> ArtifactVersion | None:
        evaluation = ws.ledger.latest(project, "evaluation", "evaluation", at=at)
        if evaluation is not None and keeps_predictions(evaluation):
            seen = tables.read(ws, evaluation, "predictions", ["row_id", "day"])
            days = seen.filter(pc.equal(seen["row_id"], row_id))["day"]
            if len(days):
                return ws.ledger.latest(project, "raw", "raw", days[0].as_py(), at=at)
        for raw in reversed(ws.ledger.all_latest(project, "raw", at=at)):
            if raw.rows and holds(tables.read(ws, raw, "raw", ["row_id"]), row_id):
                return raw
        return None

    return find


def trace(
    ws: Workspace,
    project: str | None,
    text: str,
    *,
    model: str | None = None,
    at: datetime | None = None,
) -> dict[str, Any]:
    """Return what a row is, what was predicted for it, and what all of it was made from.

    Args:
        ws: Where to look.
        project: Whose row; None: any project's.
        text: A row id or a prediction id; `@time` after it means that moment.
        model: Whose prediction, as a reference; the champion without it.
        at: The moment to look at; None: now.

    Raises:
        RefError: If there is no such row, it broke the contract, or it is neither of both ids.
    """
    ref = parse(text)
    at = ref.at or at
    body = ref.body
    if match := _PREDICTION.fullmatch(body):
        model, body = match[1], match[2]
    if not _ROW.fullmatch(body):
        raise RefError(
            "this is neither a row id nor a prediction id", found=body[:80],
            expected="32 hex digits, or pred-MODEL-ROW",
            next_step="fm trace without an id shows some rows to choose from",
        )  # fmt: skip
    name = ref.project or project
    find = row_finder(ws)
    for candidate in [name] if name else projects(ws.ledger):
        raw = find(candidate, body, at)
        if raw is not None:
            return RowTrace(ws, raw, body, model, at).told()
    for candidate in [name] if name else projects(ws.ledger):
        _tell_if_refused(ws, candidate, body, at)
    raise RefError(
        f"no row {body} came in" + (f" by {at:%Y-%m-%d %H:%M:%S %Z}" if at else ""),
        where=name or "any project",
        next_step="fm trace without an id shows some rows to choose from"
        + (f"; of a text asked by hand: fm lineage {ref.body}" if match else ""),
    )


def _tell_if_refused(ws: Workspace, project: str, row_id: str, at: datetime | None) -> None:
    """Raise RefError with the reasons where a row came in and broke the contract."""
    for raw in reversed(ws.ledger.all_latest(project, "raw", at=at)):
        if not raw.metrics.get("numbers", {}).get("quarantined_rows"):
            continue
        rows = tables.read(ws, raw, "quarantine")
        refused = rows.filter(pc.equal(rows["row_id"], row_id)).to_pylist()
        if refused:
            raise RefError(
                f"row {row_id} came in on {raw.partition} and is in quarantine: "
                + "; ".join(f"{row['column']}: {row['reason']} ({row['rule']})" for row in refused),
                where=f"{project}, source {refused[0]['source']}",
                found=", ".join(repr(str(row["before"])[:200]) for row in refused),
                next_step="nothing is made from it; once the source or the contract is mended, "
                f"fm run {project} brings it in",
            )


def examples(
    ws: Workspace, project: str, model: str | None = None, at: datetime | None = None
) -> list[dict[str, Any]]:
    """Return a few test rows to trace: the surest wrong answers and the surest right ones."""
    evaluation, system = evaluation_of(ws, project, model, at)
    if evaluation is None:
        return []
    rows = tables.read(ws, evaluation, "predictions")
    rows = rows.filter(pc.equal(rows["system"], system))
    listed = [
        {
            "project": project, "row_id": row["row_id"], "day": row["day"],
            "source": row["source"], "label": row["label"], "gold": row["gold"],
            "confidence": max(row["probabilities"] or [0.0]),
            "prediction_id": prediction_id(model_of(evaluation, system), row["row_id"]),
        }
        for row in rows.to_pylist()
    ]  # fmt: skip
    listed.sort(key=lambda row: (-row["confidence"], row["row_id"]))
    wrong = [row for row in listed if row["label"] != row["gold"]][:_EXAMPLES]
    right = [row for row in listed if row["label"] == row["gold"]][:_EXAMPLES]
    return [{**row, "text": _text(ws, row, at)} for row in (*wrong, *right)]


def _text(ws: Workspace, row: Mapping[str, Any], at: datetime | None) -> str:
    raw = ws.ledger.latest(row["project"], "raw", "raw", row["day"], at=at)
    found = None if raw is None else row_of(tables.read(ws, raw, "raw"), row["row_id"])
    return str(found["text"]) if found else ""
