"""Who answered how much, how far people agree, and what that gives the label model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fm_platform.labeling.agreement import Agreement, agreement
from fm_platform.labeling.annotations import said
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages.annotations import answers, meaning, outdated, readable
from fm_platform.stages.gold import gold_budget, gold_of
from fm_platform.stages.window import last_built_day
from fm_platform.workspace import Workspace


@dataclass(frozen=True)
class Answerer:
    """What one person answered.

    Attributes:
        answers: All of them.
        cannot_tell: Those that name no class.
        several: Those that name more than one.
        not_read: Those that count no more: outdated by a semantic change, of a class that is
            gone, or of development without a mapping.
        last: When the last one was given, UTC.
    """

    annotator: str
    answers: int
    cannot_tell: int
    several: int
    not_read: int
    last: str


@dataclass(frozen=True)
class People:
    """What people answered, see `people`."""

    people: tuple[Answerer, ...]
    agreement: Agreement
    gold: tuple[dict[str, Any], ...]

    def said(self) -> str:
        """Return the agreement in words."""
        told = self.agreement
        if told.rows == 0:
            return "no row was answered by two people"
        alpha = "not defined: all say one class" if told.alpha is None else f"{told.alpha:.3f}"
        return (
            f"Krippendorff's alpha {alpha} on {told.rows} rows of {told.annotators} people;"
            f" {told.observed or 0:.1%} of pairs are equal"
        )


def people(ws: Workspace, spec: ProjectSpec) -> People:
    """Return who answered, how far they agree on single classes of today, and the gold rows."""
    by_person: dict[str, list[dict[str, Any]]] = {}
    for row in answers(ws, spec).to_pylist():
        by_person.setdefault(row["annotator"], []).append(row)
    found = [
        Answerer(
            name,
            len(rows),
            sum(row["label"] is None for row in rows),
            sum(len(said(row["label"])) > 1 for row in rows),
            sum(bool(r["label"]) and (not meaning(spec, r) or outdated(spec, r)) for r in rows),
            max(row["answered_at"] for row in rows),
        )
        for name, rows in sorted(by_person.items())
    ]
    single = [
        (row["text_key"], row["annotator"], row["classes"][0])
        for row in readable(ws, spec)
        if len(row["classes"]) == 1
    ]
    last = last_built_day(ws, spec, "raw", "raw")
    gold = [] if last is None else gold_budget(ws, spec, last, gold_of(ws, spec, last))
    return People(tuple(found), agreement(single), tuple(gold))
