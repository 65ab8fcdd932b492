"""Alerts: one for each cause, with what it costs, how grave that is, and what would repair it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.monitoring import importance
from fm_platform.monitoring.cause import Group, causes_of
from fm_platform.monitoring.impact import Answered, Scores, answered, estimate, mix_effect
from fm_platform.monitoring.records import (
    ALL,
    COLUMNS,
    SEVERITIES,
    Alert,
    Cause,
    Estimate,
    Finding,
    Impact,
    Severity,
)
from fm_platform.monitoring.repairs import Costs, repairs_of
from fm_platform.monitoring.segments import Evidence
from fm_platform.monitoring.words import evidence_words, impact_words, terms_words, title_of

NOTHING = Estimate(0.0, 0.0, 0.0, "nothing that the model reads moved")
_OF_TEXT = ("source_came", "language", "text", "labels", "duplicates", "concept", "confidence")
_OF_LABELS = ("function", "label_model", "language", "concept", *COLUMNS)


@dataclass(frozen=True)
class Judging:
    """How grave is grave, and what is needed to say so.

    Attributes:
        low, medium, high: Points of expected loss from which an alert has that severity. Below
            `low` it is recorded and sends nothing.
        labeler: The label model, for the importance of functions; None: majority vote.
        answer: The live model, for the importance of terms; None: it is not told.
        models: Live models, as `alias name@hash`.
        costs: What repairs cost.
        seed: Of all sampling.
    """

    low: float = 1.0
    medium: float = 3.0
    high: float = 8.0
    labeler: importance.Labeler | None = None
    answer: importance.Answerer | None = None
    models: tuple[str, ...] = ()
    costs: Costs = field(default_factory=Costs)
    seed: int = 0


def alerts_of(
    findings: Sequence[Finding], evidence: Evidence, judging: Judging | None = None
) -> list[Alert]:
    """Return one alert for each cause, the gravest first.

    Args:
        findings: What `detect` gave.
        evidence: The day, the reference, and the rows of the day.
        judging: How grave is grave.
    """
    rule = judging or Judging()
    alerts = [_alert(group, evidence, rule) for group in causes_of(findings, evidence)]
    order = ("high", "medium", "low", "record")
    return sorted(alerts, key=lambda a: (order.index(a.severity), -a.impact.worst, a.cause.key))


def _alert(group: Group, evidence: Evidence, rule: Judging) -> Alert:
    day = evidence.day
    impact = _impact(group, evidence, rule)
    return Alert(
        project=day.project,
        day=day.day,
        since=min(finding.since for finding in group.findings),
        cause=group.cause,
        title=title_of(group, impact.share, day.rows.get(ALL, 0)),
        words=(*terms_words(group.cause), *evidence_words(group), impact_words(impact)),
        findings=group.findings,
        impact=impact,
        severity=_severity(group, impact, rule),
        repairs=repairs_of(group, impact, day.day, rule.costs),
        reference=evidence.reference.model,
    )


def _severity(group: Group, impact: Impact, rule: Judging) -> Severity:
    """Return how grave an alert is: by expected loss; missing rows by how many are missing."""
    if group.cause.kind in ("volume", "source_gone"):
        rows = [f for f in group.findings if f.metric == "rows:source"]
        left = sum(f.after for f in rows) / max(sum(f.before for f in rows), 1.0)
        if left < 0.5:
            return "medium" if group.cause.name == ALL else "low"
        return "record"
    told = [impact.change] if impact.labels is None else [impact.change, impact.labels]
    return max((graded(one, rule) for one in told), key=SEVERITIES.index)


def graded(change: Estimate, rule: Judging) -> Severity:
    """Return how grave a change is; one that may well be none is told, but is not grave."""
    lost = -change.points
    if lost < rule.low:
        return "record"
    if lost < rule.medium or change.high >= 0:
        return "low"
    return "high" if lost >= rule.high else "medium"


def _impact(group: Group, evidence: Evidence, rule: Judging) -> Impact:
    cause = group.cause
    day = evidence.day
    slices = [name for name in day.sources if name in cause.slices or ALL in cause.slices]
    total = max(day.rows.get(ALL, 0), 1)
    share = sum(day.rows[name] for name in slices) / total
    weight = _importance(group, evidence, rule)
    of_text = _of_text(cause)
    models = rule.models if of_text else ()
    if cause.kind in ("volume", "source_gone") or not slices:
        return Impact(NOTHING, share=share, importance=weight, models=rule.models)
    scores = _scores(slices, evidence, cause.kind, rule.seed)
    if scores is None:
        return Impact(NOTHING, share=share, importance=weight, models=models)
    mixed = _mixed(group, evidence)
    change = _scaled(scores.best, share, mixed)
    gold = _scaled(scores.gold, share, mixed)
    if not of_text:
        # the live model reads none of it: only gold that surely fell may say otherwise
        change = None
        gold = None
    labels = None
    if (cause.kind in _OF_LABELS or not of_text) and (weight is None or weight > 0.0):
        labels = _scaled(scores.labels, share)
    estimates = tuple(
        one
        for one in (
            _scaled(s, share, mixed) for s in (scores.confidence, scores.weighting, scores.gold)
        )
        if one
    )
    return Impact(change or NOTHING, estimates, gold, labels, weight, share, models or rule.models)


def _of_text(cause: Cause) -> bool:
    """Whether the live model reads what moved; how sure weak labels are it learns only later."""
    return cause.kind in _OF_TEXT and (cause.kind, cause.name) != ("confidence", "weak")


def _scaled(change: Estimate | None, share: float, mixed: float = 0.0) -> Estimate | None:
    """Return a change of some rows as a change of all rows of the day, `mixed` points added."""
    if change is None:
        return None
    points, low, high = (
        round(one * share + mixed, 3) for one in (change.points, change.low, change.high)
    )
    return replace(change, points=points, low=low, high=high)


def _mixed(group: Group, evidence: Evidence) -> float:
    """Return the points that it costs that a cause brought or took so many rows of its sources."""
    day, reference = evidence.day, evidence.reference.profile
    moved = any(finding.metric == "rows:source" for finding in group.findings)
    before = answered(reference.sample, day.classes, reference.judged)
    if before is None or not moved or group.cause.kind == "source_came":
        return 0.0  # a new source is compared with all others as they were
    return mix_effect(
        before,
        {name: rows for name, rows in day.rows.items() if name != ALL},
        {name: float(rows) for name, rows in reference.rows.items() if name != ALL},
    )


def _scores(slices: Sequence[str], evidence: Evidence, kind: str, seed: int) -> Scores | None:
    """Estimate the change on the rows of some sources; a new one is compared with all others."""
    new = kind == "source_came"
    day, reference = evidence.day, evidence.reference.profile
    classes = day.classes
    now = answered(_of(day.sample, slices), classes, _of(day.judged, slices))
    compared = reference.sources if new else slices
    before = answered(_of(reference.sample, compared), classes, _of(reference.judged, compared))
    if now is None or before is None or not len(now) or not len(before):
        return None
    expected = {name: float(reference.rows[name]) for name in set(before.sources.tolist())}
    if not new:  # the mix of today's sources, so that only what is inside them counts
        expected = {name: float(day.rows.get(name, 0)) for name in expected}
    rows = {name: day.rows[name] for name in slices}
    return estimate(
        now, before, day=rows, expected=expected, seed=seed, meaning=kind == "concept"
    )  # fmt: skip


def _of(sample: pa.Table | None, slices: Sequence[str]) -> pa.Table | None:
    if sample is None:
        return None
    return sample.filter(pc.is_in(sample["source"], value_set=pa.array(list(slices))))


def _importance(group: Group, evidence: Evidence, rule: Judging) -> float | None:
    """Return how much the label model (columns, functions) or the live model (terms) cares."""
    cause = group.cause
    sample = evidence.reference.profile.sample
    functions = list(evidence.watch.functions)
    if cause.kind in COLUMNS:
        named = sorted(evidence.readers(cause.name))
    elif cause.kind == "function":
        named = [cause.name]
    elif cause.terms and rule.answer is not None and evidence.day.sample is not None:
        today = _of(evidence.day.sample, cause.slices)
        texts = [] if today is None else [t for t in today["text"].to_pylist() if t is not None]
        return importance.of_terms(texts, cause.terms, rule.answer)
    else:
        return None
    positions = [functions.index(name) for name in named if name in functions]
    return importance.of_functions(sample, positions, len(evidence.day.classes), rule.labeler)


__all__ = ["Answered", "Judging", "alerts_of"]
