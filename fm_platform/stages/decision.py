"""What the gate decided, carried out: the champion, the record of it, and MLflow."""

from __future__ import annotations

from collections.abc import Callable

from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.lineage.aliases import standing
from fm_platform.stages import tables
from fm_platform.stages.common import noted
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
) -> None:
    """Carry out, show in MLflow and record what the gate decided, once for each evaluation."""
    carry_out(ws, version, merged, champion, run, lambda: _publish(ws, version, merged, run))


def carry_out(
    ws: Workspace,
    version: ArtifactVersion,
    merged: ArtifactVersion,
    champion: ArtifactVersion | None,
    run: RunContext,
    show: Callable[[], None] | None = None,
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
    """
    decision, name = version.metrics["gate"], version.project
    done = {record["numbers"].get("evaluation") for record in ws.ledger.decisions(name)}
    if version.content_hash in done:
        return
    now = ws.ledger.alias(name, "champion")
    if decision["promote"] and (now is None or now.id != merged.id):
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
    kind = "promotion" if decision["promote"] else "refusal"
    numbers = {**decision, "evaluation": version.content_hash}
    ws.ledger.record_decision(name, kind, merged.id, numbers, decision["reason"], run.asked_by)


def _publish(
    ws: Workspace, version: ArtifactVersion, merged: ArtifactVersion, run: RunContext
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
    decision = version.metrics["gate"]
    if decision["promote"]:
        ws.tracker.set_champion(version.project, merged.recipe_hash, decision["reason"])
