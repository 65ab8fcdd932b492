"""From many findings to few causes: one for each thing that happened.

What happened upstream explains what moved downstream of it in the same rows. Where two findings
are beside one another, the rows are asked which one explains the other (`segments`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fm_platform.monitoring.compare import Key, compare
from fm_platform.monitoring.records import ALL, COLUMNS, Cause, Finding, Move
from fm_platform.monitoring.search import concept, terms_of_slice, trust_lost
from fm_platform.monitoring.segments import Evidence, can_balance, explained_by
from fm_platform.monitoring.sketches import NumericSketch

RANK = {
    "duplicates": 0, "column": 1, "column_nulls": 1, "language": 2, "terms": 3, "embedding": 3,
    "length": 3, "length_nulls": 3, "function": 4, "conflict": 5, "label": 6, "confidence": 7,
    "confidence_nulls": 7, "answer": 8, "agreement": 8, "accuracy": 9, "rows": 10,
}  # fmt: skip
"""Upstream first. Rows come last: a shift often changes how many there are."""
_TEXT = ("terms", "embedding", "length", "length_nulls")
_MODEL = ("label", "confidence", "confidence_nulls", "answer", "agreement", "accuracy")
_OF_LABEL_MODEL = ("label:weak", "confidence:weak", "accuracy:weak")
"""What moves, beside conflicts, when votes are weighed otherwise and none of them moved."""
_MOVED = 9.0
"""Surprise of three standard deviations: enough where something else already told to look."""
_ENOUGH = 0.5
"""A column is the cause of the others where it explains this share of their strength."""
_DOUBT = 0.15
"""A function of which the model believes so much less of its votes is among those that moved."""
_MANY = 3
"""From so many functions on, it is not one function that broke."""


@dataclass(frozen=True)
class Group:
    """A cause and what was found of it."""

    cause: Cause
    findings: tuple[Finding, ...]


def causes_of(findings: Sequence[Finding], evidence: Evidence) -> list[Group]:
    """Return the causes of the findings of a day, the strongest first; each finding has one."""
    by_slice: dict[str, list[Finding]] = {}
    for finding in findings:
        by_slice.setdefault(finding.slice, []).append(finding)
    pooled = by_slice.pop(ALL, [])
    groups: list[Group] = []
    for name in sorted(by_slice):
        groups += _of_slice(name, by_slice[name], evidence)
    merged = _across(groups, evidence)
    if pooled:
        merged = _with_pooled(merged, pooled, evidence)
    merged = [replace(g, cause=_everywhere(g.cause, evidence)) for g in merged]
    return sorted(merged, key=lambda group: (-_strength(group.findings), group.cause.key))


def _everywhere(cause: Cause, evidence: Evidence) -> Cause:
    """Add the sources in which a column or function that is a cause moved too little to be found.

    That it moved at all is known; so a source in which it probably did is one of them. A column
    did where it shows in the column: what reads it moves for other reasons, too.
    """
    if cause.kind in COLUMNS:
        moved = _moved({f"column:{cause.name}"}, evidence, cause.value)
    elif cause.kind == "function":
        moved = _moved({f"function:{cause.name}", f"conflict:{cause.name}"}, evidence)
    else:
        return cause
    return replace(cause, slices=tuple(sorted({*cause.slices, *moved})))


def _moved(metrics: set[str], evidence: Evidence, value: str | None = None) -> set[str]:
    """Return the sources in which one of some metrics moved more than chance would move it.

    With a value: those in which the share of that value is among what moved.
    """
    compared = compare(evidence.day, evidence.reference.profile, only=metrics)
    return {
        key[1]
        for key, one in compared.items()
        if one.surprise >= _MOVED and (value is None or value in {m.value for m in one.moves})
    }


def _strength(findings: Sequence[Finding]) -> float:
    return sum(_weight(finding) for finding in findings)


def _weight(finding: Finding) -> float:
    return float(min(-np.log10(max(finding.p_value, 1e-12)), 12.0))


def _of_slice(name: str, findings: list[Finding], evidence: Evidence) -> list[Group]:
    kinds = {finding.kind: finding for finding in findings if finding.metric == "rows:source"}
    if "came" in kinds:
        terms = terms_of_slice(name, evidence)
        return [Group(Cause("source_came", name, None, (name,), terms), tuple(findings))]
    if "gone" in kinds:
        return [Group(Cause("source_gone", name, None, (name,)), tuple(findings))]
    left = [finding for finding in findings if finding.metric != "rows:source"]
    groups: list[Group] = []
    while left:
        group = _next(name, left, evidence)
        groups.append(group)
        taken = {finding.key for finding in group.findings}
        left = [finding for finding in left if finding.key not in taken]
    rows = tuple(kinds.values())
    if rows and groups:
        groups[0] = replace(groups[0], findings=(*groups[0].findings, *rows))
    elif rows:
        groups = [Group(Cause("volume", name, None, (name,)), rows)]
    return groups


def _next(name: str, left: list[Finding], evidence: Evidence) -> Group:
    """Return the cause that explains most of what is left of a slice."""
    best: tuple[float, float, str, set[Key]] | None = None
    several = len(_inputs(left, evidence)) > 1
    metrics = [f.metric for f in left if can_balance(f.metric) and f.family != "label"][:8]
    if several:  # classes may have moved too little to be found, and yet explain the rest
        metrics += ["label:gold", "label:weak"]
    if len(left) > 1:
        for metric in metrics:
            others = [finding for finding in left if finding.metric != metric]
            answered = explained_by(metric, name, others, evidence)
            gone = {key for key, yes in answered.items() if yes}
            share = _strength([o for o in others if o.key in gone]) / max(_strength(others), 1e-9)
            # of two that explain alike the one upstream is named; but when things moved that have
            # nothing in common but their rows, it is the kind of rows, not one of the things
            family = metric.partition(":")[0]
            rank = 0.0 if family == "label" else RANK.get(family, 9)
            value = share - 0.02 * rank
            if share >= _ENOUGH and (best is None or value > best[0]):
                best = (value, share, metric, gone)
    if best is not None:
        _, share, metric, gone = best
        taken = [f for f in left if f.key in gone or f.metric == metric]
        own = [f for f in taken if f.metric == metric]
        if own:
            taken += [f for f in left if f not in taken and _below(own[0], f, left, evidence)]
            return _group(name, own[0], taken, evidence, share)
        taken += [f for f in left if f not in taken and f.family in _MODEL]
        return Group(Cause("labels", "label", None, (name,), explained=share), tuple(taken))
    root = min(left, key=lambda f: (_rank(f), f.corrected, -f.distance, f.key))
    taken = [f for f in left if f.key == root.key or _below(root, f, left, evidence)]
    return _group(name, root, taken, evidence, 1.0)


def _rank(finding: Finding) -> float:
    """Return how far downstream a finding lies; what people say comes after all else."""
    return 9.5 if finding.metric == "label:gold" else RANK.get(finding.family, 9)


def _below(root: Finding, other: Finding, left: Sequence[Finding], evidence: Evidence) -> bool:
    """Whether `other` lies downstream of `root` in the same rows."""
    reads = evidence.reads
    if root.family == "duplicates":
        return other.family not in ("column", "column_nulls")
    if root.family in ("column", "column_nulls"):
        same = other.name == root.name and other.family in ("column", "column_nulls")
        readers = evidence.readers(root.name)
        touched = any(f.family in ("function", "conflict") and f.name in readers for f in left)
        own = other.family in ("function", "conflict") and other.name in readers
        labels = ("label", "confidence", "agreement", "conflict")
        if other.metric == "accuracy:weak":
            return bool(readers)
        return same or own or (touched and other.family in labels and other.metric != "label:gold")
    if root.family == "language" or root.family in _TEXT:
        from_text = other.family in ("function", "conflict") and other.name not in reads
        return from_text or other.family in (*_TEXT, *_MODEL, "language", "conflict")
    if root.family in ("function", "conflict"):
        together = _several(left, evidence)
        own = other.family == "conflict" or (other.family == "function" and together)
        same = reads.get(root.name) is not None and reads.get(other.name) == reads[root.name]
        return own or same or (other.family in _MODEL and other.metric != "label:gold")
    if root.family == "label":
        return other.family in _MODEL
    return _rank(other) >= _rank(root)


def _inputs(left: Sequence[Finding], evidence: Evidence) -> set[str]:
    """Return what the moved things are made from: columns, and the text."""
    found = {f.name for f in left if f.family in ("column", "column_nulls")}
    found |= {evidence.reads.get(f.name, "text") for f in left if f.family == "function"}
    return found | {"text" for f in left if f.family in (*_TEXT, "language")}


def _several(left: Sequence[Finding], evidence: Evidence) -> bool:
    """Whether so many functions moved, or of so different inputs, that the rows are what moved."""
    moved = {f.name for f in left if f.family == "function"}
    inputs = {evidence.reads.get(name, "") for name in moved}
    return len(moved - set(evidence.reads)) >= _MANY or len(inputs) > 1


def _group(
    name: str, root: Finding, taken: Sequence[Finding], evidence: Evidence, share: float
) -> Group:
    cause = replace(_cause(name, root, taken, evidence), explained=share)
    return Group(cause, tuple(taken))


def _cause(name: str, root: Finding, taken: Sequence[Finding], evidence: Evidence) -> Cause:
    slices = (name,)
    other = evidence.weighed.get(name)
    if other is not None and (root.family == "conflict" or root.metric in _OF_LABEL_MODEL):
        where = sorted(one for one, pair in evidence.weighed.items() if pair == other)
        return Cause("label_model", other[0], other[1], tuple(where))
    if root.family == "column_nulls" or (root.family == "column" and root.kind == "nulls"):
        return Cause("nulls", root.name, None, slices)
    if root.family == "column":
        if root.kind == "range":
            return Cause("range", root.name, None, slices)
        return Cause("value", root.name, root.moves[0].value if root.moves else None, slices)
    if root.family == "duplicates":
        return Cause("duplicates", name, None, slices)
    if root.family == "language":
        came = max(root.moves, key=lambda move: move.change, default=Move("", 0, 0))
        return Cause("language", name, came.value, slices, terms_of_slice(name, evidence))
    if root.family in _TEXT:
        return Cause("text", name, None, slices, terms_of_slice(name, evidence))
    if root.family in ("function", "conflict"):
        return _function_cause(taken, evidence, slices)
    if root.family == "accuracy":
        return _concept(name, taken, evidence)
    if root.family == "label":
        came = max(root.moves, key=lambda move: move.change, default=Move("", 0, 0))
        return Cause("labels", "label", came.value, slices)
    return Cause("confidence", root.name, None, slices)


def _concept(name: str, found: Sequence[Finding], evidence: Evidence) -> Cause:
    """Look for the rows in which answers became wrong: those that did so most surely."""
    surest = min((f for f in found if f.family == "accuracy"), key=lambda f: (f.p_value, f.metric))
    return concept(name, evidence, "label" if surest.name == "weak" else surest.name)


def _function_cause(taken: Sequence[Finding], evidence: Evidence, slices: tuple[str, ...]) -> Cause:
    """Name the column where all functions moved that read it, else the function."""
    moved = {f.name for f in taken if f.family in ("function", "conflict")}
    voted = {f.name: f.distance for f in taken if f.family == "function"}
    doubted = trust_lost(evidence.watch.functions, slices[0], evidence)
    moved |= {name for name, lost in doubted.items() if lost > _DOUBT}
    strongest = max(sorted(moved), key=lambda name: voted.get(name, 0.0) + doubted.get(name, 0.0))
    column = evidence.reads.get(strongest)
    if (
        column is not None
        and not _several(taken, evidence)
        and (evidence.readers(column) <= moved or _moved({f"column:{column}"}, evidence))
    ):
        return _column_cause(column, evidence, slices)
    if _several(taken, evidence):
        labels = any(f.family in ("label", "answer") for f in taken)
        return Cause("labels" if labels else "text", "label" if labels else slices[0], None, slices)
    return Cause("function", strongest, None, slices)


def _column_cause(column: str, evidence: Evidence, slices: tuple[str, ...]) -> Cause:
    known = evidence.reference.profile.sketch(f"column:{column}")
    kind = "range" if isinstance(known, NumericSketch) else "value"
    return Cause(kind, column, None, slices)


def _by_column(groups: Sequence[Group], evidence: Evidence) -> list[Group]:
    """Name the column instead of functions where several of its readers, or it too, are causes."""
    named: dict[str, set[str]] = {}
    for group in groups:
        cause = group.cause
        column = cause.name if cause.kind in COLUMNS else evidence.reads.get(cause.name, "")
        named.setdefault(column, set()).add(cause.name)
    told = []
    for group in groups:
        read = evidence.reads.get(group.cause.name) if group.cause.kind == "function" else None
        if read is not None and len(named[read]) > 1:
            cause = _column_cause(read, evidence, group.cause.slices)
            group = replace(group, cause=replace(cause, explained=group.cause.explained))
        told.append(group)
    return told


def _across(groups: Sequence[Group], evidence: Evidence) -> list[Group]:
    """Merge the groups of one cause in several sources."""
    found: dict[tuple[str, str], list[Group]] = {}
    for group in _by_column(groups, evidence):
        cause = group.cause
        by_slice = cause.kind in ("text", "language", "duplicates", "source_came")
        volume = cause.kind in ("volume", "source_gone")
        name = "" if volume else (cause.slices[0] if by_slice else cause.name)
        kind = "volume" if volume else cause.kind
        # nulls and values of one column are one trouble of that column
        kind = "column" if kind in COLUMNS else kind
        found.setdefault((kind, name), []).append(group)
    merged = []
    for key in sorted(found):
        parts = sorted(found[key], key=lambda group: -_strength(group.findings))
        slices = tuple(sorted({name for part in parts for name in part.cause.slices}))
        cause = replace(parts[0].cause, slices=slices)
        if len({part.cause.value for part in parts}) > 1:
            cause = replace(cause, value=parts[0].cause.value)
        if key[0] == "volume":
            everywhere = set(slices) >= set(evidence.reference.profile.sources)
            name = ALL if everywhere and len(slices) > 1 else ", ".join(slices)
            cause = replace(cause, name=name)
        merged.append(Group(cause, tuple(f for part in parts for f in part.findings)))
    return merged


def _with_pooled(groups: list[Group], pooled: Sequence[Finding], evidence: Evidence) -> list[Group]:
    """Give findings about all rows to the cause that reaches them; else they are a concept."""
    left: list[Finding] = []
    for finding in pooled:
        reaching = [group for group in groups if _reaches(group.cause, finding, evidence)]
        if not reaching:
            left.append(finding)
            continue
        best = max(reaching, key=lambda group: _strength(group.findings))
        changed = replace(best, findings=(*best.findings, finding))
        groups = [changed if group is best else group for group in groups]
    if not left:
        return groups
    others = [group for group in groups if group.cause.kind != "concept"]
    local = [f for group in groups if group.cause.kind == "concept" for f in group.findings]
    return [*others, Group(_concept(ALL, left, evidence), (*left, *local))]


def _reaches(cause: Cause, finding: Finding, evidence: Evidence) -> bool:
    """Whether what the model answers, or what the weak labels are, follows from a cause."""
    if cause.kind in ("source_came", "language", "text", "labels", "duplicates"):
        return True
    if finding.metric != "accuracy:weak":
        return False
    of_column = cause.kind in COLUMNS and cause.name in evidence.reads.values()
    return of_column or cause.kind in ("function", "label_model")
