"""Recipes of the choice of training settings, and what a choice means for a project.

A choice is made of the days up to the last one of its rhythm. Its content is what was chosen, not
the evidence: a new search that comes to the same answer leaves every model as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from fm_platform.lineage import configs
from fm_platform.lineage.fingerprints import (
    MODEL_PACKAGES,
    code_fingerprint,
    environment_fingerprint,
)
from fm_platform.lineage.records import Input, Readable, Recipe, Slot
from fm_platform.lineage.wanting import Wanted
from fm_platform.spec.models import ProjectSpec
from fm_platform.spec.training import Auto

if TYPE_CHECKING:
    from fm_platform.lineage.wanted import Wants

NAME = "training"
_PACKAGES = (*MODEL_PACKAGES, "optuna")
_OPTIONAL = ("losses", "weights", "subsets", "judge")
_FIELDS = Auto.model_fields
_CODE = ("fm_platform.training.auto", "fm_platform.stages.choice")


def choice_day(spec: ProjectSpec, last: str) -> str:
    """Return the last day of a search by the declared rhythm, up to `last`."""
    passed = (date.fromisoformat(last) - spec.calendar.start).days
    return (spec.calendar.start + timedelta(passed - passed % spec.training.auto.every)).isoformat()


def choice_recipe(
    spec: ProjectSpec,
    day: str,
    cleaned: Sequence[Readable],
    base: str,
    before: Readable | None,
    embeddings: Sequence[Readable] = (),
    gold: str | None = None,
) -> Recipe:
    """Return the recipe of the choice of `day`; it begins with what was chosen `before`.

    `embeddings` are those by which a trial chooses its rows, `gold` is the hash of the gold rows
    that judge. What is tried of losses, weights and subsets is in no recipe while none is declared.
    """
    auto = spec.training.auto
    unused = {name for name in _OPTIONAL if getattr(auto, name) == _FIELDS[name].default}
    config = {
        "auto": auto.model_dump(mode="json", exclude={"every", "minutes", *unused}),
        **configs.trained(spec),
    }
    inputs = (
        *(one.as_input("cleaned") for one in cleaned if one.rows),
        Input("base_model", "base_model", None, base),
        *(() if before is None else (before.as_input("before"),)),
        *(one.as_input("embeddings") for one in embeddings),
        *(() if gold is None else (Input("gold", "gold", day, gold),)),
    )
    return Recipe(
        spec.name, "choice", NAME, day, inputs, code_fingerprint(*_CODE), config,
        environment_fingerprint(_PACKAGES, True), spec.training.seed,
    )  # fmt: skip


def chosen_by(recipe: Recipe, choice: Readable) -> Recipe:
    """Return the recipe of a model that is trained as was chosen."""
    return replace(recipe, inputs=(*recipe.inputs, choice.as_input("choice")))


def settled(spec: ProjectSpec, chosen: Mapping[str, Any]) -> ProjectSpec:
    """Return a project with its training as it was chosen."""
    training = spec.training.model_copy(update=dict(chosen))
    return spec.model_copy(update={"training": training})


def choice_of(wants: Wants) -> Wanted | None:
    """Return the choice that a project wants now; None where nothing is to be chosen."""
    spec = wants.spec
    if spec.training.method != "auto" or spec.task == "causal":
        return None
    width = spec.training.window_days
    last = wants._last("cleaned") or (wants.days[-1] if wants.days else None)
    if last is None:
        return None
    day = choice_day(spec, last)
    wanted = wants._window(day, width)
    cleaned = wants._have("cleaned", "cleaned", wanted)
    if not any(one.rows for one in cleaned):  # nothing had come by that day
        wanted = wants._window(last, width)
        cleaned = wants._have("cleaned", "cleaned", wanted)
    slot: Slot = ("choice", NAME, day)
    target: tuple[Slot, ...] = tuple(("cleaned", "cleaned", one) for one in wanted)
    if not cleaned:
        return Wanted(slot, lambda: target)
    before = before_of(wants.heads.values(), day)
    vectors, embedded = wants._row_vectors(cleaned)
    target = (*target, *embedded)
    if vectors is None:
        return Wanted(slot, lambda: target)

    def with_gold(value: str | None) -> Recipe:
        base = wants.probe.base()
        return choice_recipe(spec, day, cleaned, base, before, vectors, value)

    if spec.training.auto.judge == "weak":
        return Wanted(slot, lambda: target, with_gold(None))
    key = wants._gold_key(str(cleaned[-1].partition))
    return Wanted(slot, lambda: target, None, (key, with_gold), "the gold rows that judge trials")


def before_of(choices: Any, day: str) -> Any:
    """Return the last of some versions in use that is a choice of an earlier day, or None."""
    earlier = [one for one in choices if one.kind == "choice" and str(one.partition) < day]
    return max(earlier, key=lambda one: str(one.partition), default=None)
