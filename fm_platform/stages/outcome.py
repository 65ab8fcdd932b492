"""What came of a repair: the day is looked at again, the old champion compared with the new.

Recorded with the alert: how it closed, the score before and after with its interval, and the
versions that the repair led to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.lineage import ArtifactVersion
from fm_platform.monitoring import Alert, Profile
from fm_platform.monitoring.impact import Answered, answered
from fm_platform.monitoring.life import Life
from fm_platform.monitoring.outcome import Champion, Outcome, Score, Span, estimated, judged
from fm_platform.monitoring.records import ALL
from fm_platform.stages import tables
from fm_platform.stages.watch_model import asked_rows
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.stages.alerts import Desk

LEAST_ROWS = 20
"""Gold test rows below which the rows of earlier days of the same sources count, too."""


def close(desk: Desk, life: Life, success: bool, words: str) -> Outcome:
    """Close an alert whose repair failed, or whose day was looked at again after it.

    Args:
        desk: The alerts.
        life: The alert.
        success: Whether the repair, and the look at the day after it, succeeded.
        words: What failed otherwise.
    """
    found = _outcome(desk, life) if success else _failed(desk, life, words)
    body = {
        "attempt": life.attempt, "score": found.score.to_json() if found.score else None,
        "versions": _versions(desk),
    }  # fmt: skip
    desk.note(life.alert.id, found.what, f"outcome:{life.attempt}", body, found.words)
    return found


def _failed(desk: Desk, life: Life, words: str) -> Outcome:
    """Return the outcome of a failed run; a gate that refused the new model fails it, too."""
    asked = life.last("asked")
    version = desk.ws.ledger.latest(desk.name, "evaluation", "evaluation")
    if version is None or asked is None or version.id == asked.body["evaluation"]:
        return Outcome("not_repaired", words)
    gate = version.metrics.get("gate", {})
    if gate.get("promote", True):
        return Outcome("not_repaired", words)
    score = score_of(desk, life)
    told = "; ".join(filter(None, (f"the gate refused the new model: {gate.get('reason', '')}",
                                   score.words if score else "")))  # fmt: skip
    return Outcome("not_repaired", told, score)


def _outcome(desk: Desk, life: Life) -> Outcome:
    alert, asked = life.alert, life.last("asked")
    version = desk.ws.ledger.latest(desk.name, "findings", "findings", alert.day)
    if version is None or asked is None:
        return Outcome("not_repaired", f"there are no findings of {alert.day} any more")
    said = desk.rulings()
    again = [Alert.from_json(one) for one in version.location.get("alerts", [])]
    same = [
        one for one in again
        if one.cause.key == alert.cause.key and said.severity(one) != "record"
    ]  # fmt: skip
    champion, words = _champion(desk, asked.body.get("champion"))
    return judged(
        alert, same[0] if same else None, score_of(desk, life),
        trained=bool(asked.body["models"]), champion=champion, said=words,
    )  # fmt: skip


def _champion(desk: Desk, before: int | None) -> tuple[Champion, str]:
    """Return what became of the champion that was in use when the repair was asked for."""
    moves = desk.ws.ledger.alias_history(desk.name, "champion")
    now = moves[-1].version_id if moves else None
    if now != before:
        return "new", ""
    if moves and moves[-1].actor == "alerts" and any(m.version_id == before for m in moves[:-1]):
        return "back", moves[-1].reason
    version = desk.ws.ledger.latest(desk.name, "evaluation", "evaluation")
    gate = version.metrics.get("gate", {}) if version else {}
    return "same", str(gate.get("reason", "")) if not gate.get("promote", True) else ""


def score_of(desk: Desk, life: Life) -> Score | None:
    """Return the old and the new champion on the rows concerned; None where no model came."""
    asked = life.last("asked")
    if asked is None:
        return None
    version = desk.ws.ledger.latest(desk.name, "evaluation", "evaluation")
    slices = _slices(life.alert)
    if version is not None and version.id != asked.body["evaluation"]:
        found = on_gold(desk, version, slices, life.alert.since)
        if found is not None:
            return found
    before, after = asked.body.get("champion"), desk.ws.ledger.alias(desk.name, "champion")
    if before is None or after is None or after.id == before:
        return None
    return on_sample(desk, slices, life.alert.day, desk.ws.ledger.get(before), after)


def _slices(alert: Alert) -> tuple[str, ...]:
    return () if ALL in alert.cause.slices else tuple(sorted(alert.cause.slices))


def on_gold(
    desk: Desk, evaluation: ArtifactVersion, slices: Sequence[str], since: str
) -> Score | None:
    """Return the score of the champion before and of the new model on the same gold test rows.

    Rows of the sources concerned, from the first day of the alert on; of all days where these are
    fewer than 20. None where there is none, or no champion was compared.
    """
    from fm_platform.evaluation.metrics import SystemPredictions, differences, measure

    rows = tables.read(desk.ws, evaluation, "predictions")
    if slices:
        rows = rows.filter(pc.is_in(rows["source"], value_set=pa.array(list(slices))))
    late = rows.filter(pc.greater_equal(rows["day"], since))
    per_system = late.filter(pc.equal(late["system"], "merged_model")).num_rows
    rows = late if per_system >= LEAST_ROWS else rows
    classes = list(desk.project.spec.taxonomy.classes)
    index = {name: i for i, name in enumerate(classes)}
    systems, gold = {}, np.zeros(0, np.int64)
    for system in ("champion", "merged_model"):
        own = rows.filter(pc.equal(rows["system"], system)).sort_by("row_id")
        if own.num_rows == 0:
            return None
        labels = np.array([index.get(v, -1) for v in own["label"].to_pylist()], np.int64)
        held = own["probabilities"].null_count == 0
        systems[system] = SystemPredictions(
            labels, tables.matrix(own["probabilities"]) if held else None
        )
        gold = np.array([index[v] for v in own["gold"].to_pylist()], np.int64)
    # one stratum: the alert is about these rows together
    one, k, rule = ["rows"] * len(gold), len(classes), desk.project.spec.evaluation
    metric = desk.project.spec.gate.metric
    change = differences(
        systems["merged_model"], systems["champion"], gold, one, k, rule, metric
    )[0].interval  # fmt: skip
    spans = []
    for found in measure(systems, gold, one, k, rule).values():
        told = found[ALL].values[metric]
        if told is None:
            return None
        spans.append(Span(told.value, told.low, told.high))
    moved = Span(change.value, change.low, change.high)
    return Score(metric, tuple(slices) or (ALL,), len(gold), "gold", spans[0], spans[1], moved)


def on_sample(
    desk: Desk, slices: Sequence[str], day: str, before: ArtifactVersion, after: ArtifactVersion
) -> Score | None:
    """Return the estimated score of two champions on the sample of a day, without gold."""
    sides = []
    for champion in (before, after):
        found = _answers(desk.ws, desk.name, day, champion, slices)
        if found is None:
            return None
        sides.append(found)
    if len(sides[0][0]) != len(sides[1][0]):
        return None
    return estimated(slices or (ALL,), sides[0], sides[1])


def _answers(
    ws: Workspace, project: str, day: str, champion: ArtifactVersion, slices: Sequence[str]
) -> tuple[Answered, Answered] | None:
    """Return what a champion says of a day's sample and of its own reference's."""
    profile = ws.ledger.latest(project, "profile", "profile", day)
    told = _of_champion(ws, project, "answers", "champion", day, champion)
    reference = _of_champion(ws, project, "reference", "reference", None, champion)
    if profile is None or told is None or reference is None:
        return None
    made = Profile.from_table(ws.columns.get(str(profile.location["column"])))
    if made.sample is None:
        return None
    answers = ws.columns.get(str(told.location["column"]))
    if answers["row_id"].to_pylist() != asked_rows(made)["row_id"].to_pylist():
        return None  # answers of another profile of that day
    sample = made.sample.append_column("champion", answers["champion"].slice(0, len(made.sample)))
    if slices:
        sample = sample.filter(pc.is_in(sample["source"], value_set=pa.array(list(slices))))
    known = Profile.from_table(ws.columns.get(str(reference.location["column"])))
    today, before = answered(sample, made.classes), answered(known.sample, made.classes)
    return None if today is None or before is None else (today, before)


def _of_champion(
    ws: Workspace, project: str, kind: str, name: str, day: str | None, champion: ArtifactVersion
) -> ArtifactVersion | None:
    listed = [v.id for v in ws.ledger.versions(project, kind, name, day)]
    found = [
        version
        for version in ws.ledger.get_many(listed)
        if any(i.role == "champion" and i.content_hash == champion.content_hash
               for i in version.inputs)
    ]  # fmt: skip
    return found[-1] if found else None


def _versions(desk: Desk) -> dict[str, int]:
    """Return what is in use of the model, by kind: what the repair led to."""
    ledger = desk.ws.ledger
    found: dict[str, Any] = {
        kind: version.id
        for kind in ("merged_model", "evaluation")
        if (version := ledger.latest(desk.name, kind, kind)) is not None
    }
    champion = ledger.alias(desk.name, "champion")
    return {**found, **({"champion": champion.id} if champion else {})}
