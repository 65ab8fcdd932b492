"""A challenger that passed the gate answers some live rows before it is champion everywhere.

While the alias `canary` names a model, a row whose id falls into its share is answered by it. The
watch compares both on the gold rows of each new day, on which neither was trained. Where the canary
surely lost it goes at once; after the declared days it becomes champion, or goes.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fm_platform.hashing import sha256_hex
from fm_platform.lineage import ArtifactVersion
from fm_platform.spec.evaluation import Canary
from fm_platform.stages.versus import build_versus, compared, pooled
from fm_platform.tracking.records import CANARY, DecisionRecord
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.stages.watch import Watcher

_STEPS = 2**32


def answers(canary: ArtifactVersion, row: str, share: float) -> bool:
    """Return whether a row is the canary's: by a hash, so that the same row always is or is not.

    Another canary gets other rows.

    Args:
        canary: The model that is tried out.
        row: Id of the row.
        share: Of all rows, in (0, 1).
    """
    point = int(sha256_hex(f"{canary.content_hash}\0{row}".encode())[:8], 16)
    return point / _STEPS < share


def live(ws: Workspace, project: str) -> tuple[ArtifactVersion, Canary] | None:
    """Return the model that is tried out, and how that was declared then; None where none is."""
    version = ws.ledger.alias(project, CANARY)
    if version is None:
        return None
    for record in reversed(ws.ledger.decisions(project)):
        if record["kind"] == CANARY and record["version_id"] == version.id:
            return version, Canary.model_validate(record["numbers"]["canary"])
    return None  # named, and the record of it not yet written: it answers nothing


def compare(watcher: Watcher, profile: ArtifactVersion, champion: ArtifactVersion) -> None:
    """Compare a canary with the champion on a day that it was not trained on; decide where due."""
    name = watcher.spec.name
    found = live(watcher.ws, name)
    if found is None:
        return
    canary, declared = found
    if canary.id != champion.id and str(profile.partition) > _last_trained(watcher.ws, canary):
        build_versus(watcher, profile, canary, champion, name=CANARY)
        watcher.answered(profile, champion)  # its answers stay in use
    settle(watcher.ws, canary, champion, declared, watcher.run.asked_by)


def settle(
    ws: Workspace, canary: ArtifactVersion, champion: ArtifactVersion, declared: Canary, actor: str
) -> str | None:
    """Promote or refuse a canary where its days say so; return which, None where they do not yet.

    Each step looks whether it was done: a process that died between them is finished by the next.

    Args:
        ws: Where models are named.
        canary: The model that is tried out.
        champion: The model in use.
        declared: Days, and the loss at which it goes.
        actor: Who asked.

    Raises:
        AliasConflictError: If somebody else moved an alias meanwhile.
    """
    project = canary.project
    verdict: tuple[str, str, dict[str, Any]] | None = _recorded(ws, canary)
    if verdict is None:
        verdict = _verdict(ws, canary, champion, declared)
        if verdict is None:
            return None
        kind, reason, numbers = verdict
        if kind == "promotion" and champion.id != canary.id:
            ws.ledger.set_alias(
                project, "champion", canary.id, expected=champion.id, reason=reason, actor=actor
            )
        ws.ledger.record_decision(project, kind, canary.id, numbers, reason, actor)
    kind, reason, numbers = verdict
    if kind == "promotion":
        ws.tracker.set_champion(project, canary.recipe_hash, reason)
    ws.tracker.log_decision(
        DecisionRecord(project, canary.recipe_hash, kind, reason, numbers, drops=CANARY)
    )
    ws.ledger.set_alias(
        project, CANARY, None, expected=canary.id, reason=f"{kind}: {reason}", actor=actor
    )
    return kind


def _verdict(
    ws: Workspace, canary: ArtifactVersion, champion: ArtifactVersion, declared: Canary
) -> tuple[str, str, dict[str, Any]] | None:
    """Return kind, reason and numbers of the decision; None while days are missing.

    A canary that is champion already was promoted by a run that died before it said so: the
    one before it is looked up, so that the numbers are the same.
    """
    rival = champion
    if champion.id == canary.id:
        before = ws.ledger.rival(canary.project, "champion", canary)
        if before is None:
            return None
        rival = before
    days = compared(ws, canary.project, canary, rival)
    gain = pooled(days.values())
    numbers: dict[str, Any] = {
        "tried": CANARY, "canary": declared.model_dump(mode="json"), "days": sorted(days),
        "against": rival.content_hash, **({} if gain is None else asdict(gain)),
    }  # fmt: skip
    told = "too few gold rows came to compare them"
    if gain is not None:
        told = (
            f"on {gain.rows} gold rows of {len(days)} days the canary was right "
            f"{gain.points:+.1f} points more often than the champion "
            f"({gain.low:+.1f} to {gain.high:+.1f})"
        )
    lost = gain is not None and gain.high < -declared.points
    if lost and champion.id != canary.id:
        return "refusal", told, numbers
    return ("promotion", told, numbers) if len(days) >= declared.days else None


def _recorded(ws: Workspace, canary: ArtifactVersion) -> tuple[str, str, dict[str, Any]] | None:
    """Return the decision that ended this trial, where it stands in the ledger already.

    A rollback into a trial goes on with it, whatever came of it the first time.
    """
    for record in reversed(ws.ledger.decisions(canary.project)):
        if record["numbers"].get("aliases", {}).get(CANARY) == canary.id:
            return None
        if record["version_id"] != canary.id:
            continue
        if record["kind"] == CANARY:
            return None  # the trial that goes on now
        if record["numbers"].get("tried") == CANARY:
            return record["kind"], record["reason"], record["numbers"]
    return None


def _last_trained(ws: Workspace, model: ArtifactVersion) -> str:
    """Return the last day whose rows a model was trained on."""
    inputs = ws.ledger.get(model.id).inputs
    return max((str(i.partition) for i in inputs if i.role == "data" and i.partition), default="")
