"""What the gate decided, carried out: the champion or a canary, the record of it, and MLflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.lineage.aliases import standing
from fm_platform.spec.evaluation import Canary
from fm_platform.stages import tables
from fm_platform.stages.common import noted
from fm_platform.tracking.records import CANARY, DecisionRecord
from fm_platform.workspace import Workspace


def previous_champion(
    ws: Workspace, project: str, challenger: ArtifactVersion
) -> ArtifactVersion | None:
    """Return the champion that the challenger was or is compared with.

    Where the challenger has become champion already, it is the one before: so the question and
    its answer stay the same, and a second run computes nothing.
    """
    for change in standing(ws.ledger.alias_history(project, "champion")):
        if change.version_id is not None:
            version = ws.ledger.get(change.version_id)
            if version.content_hash != challenger.content_hash:
                return version
    return None


def decide(
    ws: Workspace,
    version: ArtifactVersion,
    merged: ArtifactVersion,
    champion: ArtifactVersion | None,
    run: RunContext,
    canary: Canary | None = None,
) -> None:
    """Carry out, show in MLflow and record what the gate decided, once for each evaluation."""
    trial = canary if champion is not None else None
    carry_out(
        ws, version, merged, champion, run,
        lambda: _publish(ws, version, merged, run, trial), trial,
    )  # fmt: skip


def carry_out(
    ws: Workspace,
    version: ArtifactVersion,
    merged: ArtifactVersion,
    champion: ArtifactVersion | None,
    run: RunContext,
    show: Callable[[], None] | None = None,
    canary: Canary | None = None,
) -> None:
    """Carry out and record what the gate decided, once for each evaluation.

    The record comes last: a run that died before it is finished by the next one.

    Args:
        ws: Where models are named and decisions recorded.
        version: The evaluation.
        merged: The model that it judged.
        champion: The champion that it was judged against; None: there was none.
        run: Who asked.
        show: Called between promotion and record; None: nothing is shown.
        canary: Where declared, a model that passed answers some live rows first.
    """
    decision, name = version.metrics["gate"], version.project
    done = {record["numbers"].get("evaluation") for record in ws.ledger.decisions(name)}
    if version.content_hash in done:
        return
    kind, numbers = outcome(version, canary)
    now = ws.ledger.alias(name, "champion")
    if kind == CANARY:
        _try_out(ws, merged, decision["reason"], run)
    elif decision["promote"] and (now is None or now.id != merged.id):
        ws.ledger.set_alias(
            name,
            "champion",
            merged.id,
            expected=champion.id if champion else None,
            reason=decision["reason"],
            actor=run.asked_by,
        )
    if show is not None:
        show()
    ws.ledger.record_decision(name, kind, merged.id, numbers, decision["reason"], run.asked_by)


def outcome(version: ArtifactVersion, canary: Canary | None) -> tuple[str, dict[str, Any]]:
    """Return what follows an evaluation, `promotion`, `canary` or `refusal`, and its numbers."""
    decision = version.metrics["gate"]
    numbers = {**decision, "evaluation": version.content_hash}
    if not decision["promote"]:
        return "refusal", numbers
    if canary is None:
        return "promotion", numbers
    return CANARY, {**numbers, "canary": canary.model_dump(mode="json")}


def _try_out(ws: Workspace, merged: ArtifactVersion, reason: str, run: RunContext) -> None:
    """Name a model canary; one that was tried out till now has lost its place to it."""
    name, before = merged.project, ws.ledger.alias(merged.project, CANARY)
    if before is not None and before.id == merged.id:
        return
    ws.ledger.set_alias(
        name, CANARY, merged.id, expected=before.id if before else None, reason=reason,
        actor=run.asked_by,
    )  # fmt: skip
    if before is not None:
        told = "a newer challenger passed the gate before its days as a canary were over"
        replaced = {"replaced_by": merged.content_hash}
        ws.ledger.record_decision(name, "refusal", before.id, replaced, told, run.asked_by)
        ws.tracker.log_decision(
            DecisionRecord(name, before.recipe_hash, "refusal", told, replaced, drops=CANARY)
        )


def _publish(
    ws: Workspace,
    version: ArtifactVersion,
    merged: ArtifactVersion,
    run: RunContext,
    canary: Canary | None,
) -> None:
    """Show the evaluation and the decision in MLflow."""
    from fm_platform.evaluation.table import EvaluationTable
    from fm_platform.tracking.records import EvaluationRecord

    table = EvaluationTable.from_json(version.metrics["evaluation"])
    folder = ws.home.reports / version.content_hash[:16]
    picture = folder / "plot.png"
    published = ws.tracker.log_evaluation(
        EvaluationRecord(
            **tables.tracked(version, run),
            model_recipe_hash=merged.recipe_hash,
            table=version.metrics["evaluation"],
            markdown=table.to_markdown(),
            files={"evidently": str(folder / "report.html")},
            images={"f1_by_source": picture.read_bytes()} if picture.is_file() else {},
        )
    )
    noted(ws.ledger, version, published.run_id)
    kind, numbers = outcome(version, canary)
    name, reason = version.project, str(version.metrics["gate"]["reason"])
    if kind == "promotion":
        ws.tracker.set_champion(name, merged.recipe_hash, reason)
    ws.tracker.log_decision(
        DecisionRecord(
            name, merged.recipe_hash, kind, reason, numbers, sets=CANARY if kind == CANARY else ""
        )
    )
