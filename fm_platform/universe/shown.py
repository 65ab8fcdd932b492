"""What MLflow shows of aliases that moved with a whole universe: a rollback or a merge."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fm_platform.display import as_markdown
from fm_platform.lineage.records import ArtifactVersion, RunContext
from fm_platform.stages import tables
from fm_platform.tracking.records import CANARY, CHAMPION, DecisionRecord, ModelRecord
from fm_platform.workspace import Workspace


def show_aliases(
    ws: Workspace,
    project: str,
    moved: Collection[str],
    run: RunContext,
    *,
    kind: str,
    told: str,
    numbers: Mapping[str, Any],
) -> None:
    """Let MLflow name champion and canary as the ledger does.

    Args:
        ws: Its tracker is told.
        project: Whose models.
        moved: Aliases that moved in the ledger.
        run: Who asked.
        kind: Of the decision: `rollback` or `merge`.
        told: The decision in words.
        numbers: Of the decision.
    """
    for alias in (CHAMPION, CANARY):
        if alias not in moved:
            continue
        named = ws.ledger.alias(project, alias)
        last = named if named is not None else _last_named(ws, project, alias)
        if last is None:
            continue
        if named is not None:
            _register(ws, ws.ledger.get(named.id), run)
            if alias == CHAMPION:
                ws.tracker.set_champion(project, named.recipe_hash, kind)
        ws.tracker.log_decision(
            DecisionRecord(
                project, last.recipe_hash, kind if named is not None else "taken_back", told,
                numbers, sets=alias if named is not None and alias == CANARY else "",
                drops="" if named is not None else alias,
            )
        )  # fmt: skip


def _last_named(ws: Workspace, project: str, alias: str) -> ArtifactVersion | None:
    """Return what the alias named until now."""
    for move in reversed(ws.ledger.alias_history(project, alias)):
        if move.version_id is not None:
            return ws.ledger.get(move.version_id)
    return None


def _register(ws: Workspace, model: ArtifactVersion, run: RunContext) -> None:
    """Register a model that MLflow does not know: of a branch, or one that was removed there."""
    if model.kind != "merged_model" or model.config.get("task") == "causal":
        return
    declared = ws.ledger.latest(model.project, "spec", "spec")
    description = declared.config["description"] if declared is not None else ""
    ws.tracker.log_merged_model(
        ModelRecord(
            **tables.tracked(model, run),
            params={f"weight {name}": value for name, value in model.metrics["weights"].items()},
            model_dir=str(ws.model_path(model)),
            description=as_markdown(description, 2000),
        )
    )
