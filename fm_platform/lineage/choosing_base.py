"""Recipes of the choice of the base model, and what is known of how models of a base turned out.

Its content is the content of the base that was chosen: a new choice of the same base leaves every
model as it is. What models of each base were measured at is looked up once for each day of the
rhythm and is then part of the recipe, so a new evaluation makes no choice stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fm_platform.lineage import configs
from fm_platform.lineage.choosing import before_of, searched_days
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.machinery import code_version, environment_of
from fm_platform.lineage.marks import base_of
from fm_platform.lineage.records import ArtifactVersion, Input, Readable, Recipe, Slot
from fm_platform.lineage.wanting import Wanted
from fm_platform.spec.base_model import BaseModelSpec
from fm_platform.spec.models import ProjectSpec

if TYPE_CHECKING:
    from fm_platform.lineage.wanted import Wants

NAME = "base"
LAST_MEASURED = 10
"""So many of the last measured models of a base count."""
Past = Mapping[str, Sequence[float]]
"""Content of a base -> how many models of it were measured, and their mean outcome."""
_MODEL, _REFERENCE = "merged_model", "label_model"


def chooses(spec: ProjectSpec) -> bool:
    """Whether the base model of a project is to be chosen."""
    return bool(spec.base_model.candidates)


def config(spec: ProjectSpec, past: Past) -> configs.Config:
    """Return what matters to the choice beside rows and candidates."""
    declared, training = spec.base_model, spec.training
    settings = {"probe", "rows_per_source", "prior"}
    found: configs.Config = {
        "candidates": [base.label for base in declared.candidates],
        "past": {base: list(told) for base, told in sorted(past.items())},
        "classes": configs.classes(spec),
    }
    if spec.gate.constraints.size_mb is not None:
        found["size_mb"] = spec.gate.constraints.size_mb
    if declared.probe == "short_run":
        settings |= {"trials", "epochs"}
        found["training"] = configs.training(spec)
        if training.method == "auto":
            found["first_method"] = training.auto.methods[0]
    else:
        read = ("max_tokens", "threads", "target_power", "max_dev_rows", "seed")
        found["training"] = {name: getattr(training, name) for name in read}
    return {**declared.model_dump(mode="json", include=settings), **found}


def base_choice_recipe(
    spec: ProjectSpec,
    day: str,
    cleaned: Sequence[Readable],
    candidates: Mapping[str, str],
    past: Past,
) -> Recipe:
    """Return the recipe of the choice of `day`.

    Args:
        spec: The project.
        day: Of the rhythm.
        cleaned: The days whose rows judge.
        candidates: Label -> content hash of those that can be read; the others are no input, so
            that they are judged when they are there.
        past: See `measured`.
    """
    inputs = (
        *(one.as_input("cleaned") for one in cleaned if one.rows),
        *(Input("candidate", label, None, candidates[label]) for label in sorted(candidates)),
    )
    return Recipe(
        spec.name, "choice", NAME, day, inputs, code_version("base_choice"), config(spec, past),
        environment_of("base_choice"), spec.training.seed,
    )  # fmt: skip


def settled(spec: ProjectSpec, chosen: Mapping[str, Any]) -> ProjectSpec:
    """Return a project with its base as it was chosen."""
    recorded = BaseModelSpec.model_validate(chosen)
    same = (base for base in spec.base_model.bases if base.label == recorded.label)
    base = spec.base_model.as_one(next(same, recorded))
    return spec.model_copy(update={"base_model": base})


def base_choice_of(wants: Wants) -> Wanted | None:
    """Return the choice that a project wants now; None where one base is declared."""
    spec = wants.spec
    found = searched_days(wants, spec.base_model.every) if chooses(spec) else None
    if found is None:
        return None
    day, cleaned, wanted = found
    slot: Slot = ("choice", NAME, day)
    target: tuple[Slot, ...] = tuple(("cleaned", "cleaned", one) for one in wanted)
    if not cleaned:
        return Wanted(slot, lambda: target)
    past = wants.probe.measured(day)
    recipe = base_choice_recipe(spec, day, cleaned, wants.probe.candidates(), past)
    return Wanted(slot, lambda: target, recipe)


def last_choice(ledger: Ledger, project: str, at: datetime | None = None) -> ArtifactVersion | None:
    """Return the choice of the newest day, now or at a time; None where there is none."""
    found = before_of(ledger.all_latest(project, "choice", at=at), "~", NAME)
    return None if found is None else ledger.get(found.id)


def measured(ledger: Ledger, spec: ProjectSpec, day: str) -> Past:
    """Return how models of each base turned out on data of before `day`.

    An outcome is what a merged model got on the gold test rows, in the metric of the gate, less
    what its own labels got on the same rows: so it says little of the days, the rows and the
    labeling functions, and more of the base. Each model counts once, by its last evaluation, and
    the last `LAST_MEASURED` models of a base count. What was chosen on `day` stays by what was
    known then: of a day with a choice, the outcomes are those of its recipe.

    Args:
        ledger: The record.
        spec: The project; evaluations with other classes than its own are left out.
        day: Of the rhythm.
    """
    held = ledger.latest(spec.name, "choice", NAME, day)
    if held is not None:
        return dict(held.config["past"])
    ids = [version.id for version in ledger.versions(spec.name, "evaluation")]
    outcomes: dict[str, dict[int, float]] = {}
    for evaluation in reversed(ledger.get_many(ids)):  # newest first
        days = [i.partition for i in evaluation.inputs if i.role == "weak_labels"]
        merged = next((i.version_id for i in evaluation.inputs if i.role == _MODEL), None)
        value = _outcome(evaluation, spec)
        if value is None or merged is None or not days or max(map(str, days)) >= day:
            continue
        base = base_of(ledger, ledger.get(merged))
        known = outcomes.setdefault(base or "", {})
        if merged not in known and len(known) < LAST_MEASURED:
            known[merged] = value
    return {
        base: [len(known), round(sum(known.values()) / len(known), 6)]
        for base, known in outcomes.items()
        if base
    }


def _outcome(evaluation: ArtifactVersion, spec: ProjectSpec) -> float | None:
    """Return by how much a model is better than its labels; None where that is not known."""
    if evaluation.config.get("classes") != configs.classes(spec):
        return None
    rows = evaluation.metrics.get("evaluation", {}).get("rows", ())
    overall = {row["system"]: row.get(spec.gate.metric) for row in rows if row["source"] == "all"}
    model, labels = overall.get(_MODEL), overall.get(_REFERENCE)
    if model is None or labels is None:
        return None
    return float(model["value"]) - float(labels["value"])
