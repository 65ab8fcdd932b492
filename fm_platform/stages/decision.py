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
        canary: Where declared, a model that passed answers some live rows first; while another
            one does, it waits.
    """
    name = version.project
    done = {record["kind"] for record in decisions_on(ws, version)}
    if done - {"waiting"}:
        return
    kind, reason, numbers = outcome(version, canary, _waits_for(ws, merged, canary))
    if kind in done:
        return
    now = ws.ledger.alias(name, "champion")
    if kind == CANARY:
        _try_out(ws, merged, reason, run)
    elif kind == "promotion" and (now is None or now.id != merged.id):
        ws.ledger.set_alias(
            name,
            "champion",
            merged.id,
            expected=champion.id if champion else None,
            reason=reason,
            actor=run.asked_by,
        )
    if show is not None:
        show()
    ws.ledger.record_decision(name, kind, merged.id, numbers, reason, run.asked_by)


def decisions_on(ws: Workspace, evaluation: ArtifactVersion) -> list[dict[str, Any]]:
    """Return what was decided on an evaluation, oldest first."""
    return [
        record
        for record in ws.ledger.decisions(evaluation.project)
        if record["numbers"].get("evaluation") == evaluation.content_hash
    ]


def outcome(
    version: ArtifactVersion, canary: Canary | None, tried: ArtifactVersion | None
) -> tuple[str, str, dict[str, Any]]:
    """Return what follows an evaluation, why, and its numbers.

    That is `promotion`, `refusal`, `canary`, or `waiting` while another model is tried out: the
    next run after that trial decides about it, against the champion of then.

    Args:
        version: The evaluation.
        canary: How a model that passed is tried out; None: not at all.
        tried: Another model that is tried out now; None where there is none.
    """
    decision = version.metrics["gate"]
    reason, numbers = str(decision["reason"]), {**decision, "evaluation": version.content_hash}
    if not decision["promote"]:
        return "refusal", reason, numbers
    if canary is None:
        return "promotion", reason, numbers
    if tried is None:
        return CANARY, reason, {**numbers, "canary": canary.model_dump(mode="json")}
    told = f"{reason} It waits: canary {tried.content_hash[:12]} is tried out since before."
    return "waiting", told, {**numbers, "waits_for": tried.content_hash}


def _try_out(ws: Workspace, merged: ArtifactVersion, reason: str, run: RunContext) -> None:
    """Name a model canary, where it is not."""
    if ws.ledger.alias(merged.project, CANARY) is None:
        ws.ledger.set_alias(
            merged.project, CANARY, merged.id, expected=None, reason=reason, actor=run.asked_by
        )


def _waits_for(
    ws: Workspace, merged: ArtifactVersion, canary: Canary | None
) -> ArtifactVersion | None:
    """Return the canary that is tried out before a model may be; None where there is none.

    A model that is retrained every night would else end each trial before its days are over.
    """
    tried = ws.ledger.alias(merged.project, CANARY)
    return None if canary is None or tried is None or tried.id == merged.id else tried


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
    kind, reason, numbers = outcome(version, canary, _waits_for(ws, merged, canary))
    name = version.project
    if kind == "promotion":
        ws.tracker.set_champion(name, merged.recipe_hash, reason)
    ws.tracker.log_decision(
        DecisionRecord(
            name, merged.recipe_hash, kind, reason, numbers, sets=CANARY if kind == CANARY else ""
        )
    )
