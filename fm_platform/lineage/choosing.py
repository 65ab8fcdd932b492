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
from fm_platform.lineage.machinery import code_version, environment_of
from fm_platform.lineage.records import Head, Input, Readable, Recipe, Slot
from fm_platform.lineage.wanting import Wanted
from fm_platform.spec.models import ProjectSpec
from fm_platform.spec.training import Auto

if TYPE_CHECKING:
    from fm_platform.lineage.wanted import Wants

NAME = "training"
_OPTIONAL = ("losses", "weights", "subsets", "judge")
_FIELDS = Auto.model_fields


def choice_day(spec: ProjectSpec, last: str) -> str:
    """Return the last day of a search by the declared rhythm, up to `last`."""
    return rhythm_day(spec, last, spec.training.auto.every)


def rhythm_day(spec: ProjectSpec, last: str, every: int) -> str:
    """Return the last day up to `last` that lies a multiple of `every` days after the start."""
    passed = (date.fromisoformat(last) - spec.calendar.start).days
    return (spec.calendar.start + timedelta(passed - passed % every)).isoformat()


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
        spec.name, "choice", NAME, day, inputs, code_version("choice"), config,
        environment_of("choice"), spec.training.seed,
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
    found = searched_days(wants, spec.training.auto.every)
    if found is None:
        return None
    day, cleaned, wanted = found
    slot: Slot = ("choice", NAME, day)
    above = () if wants.base_choice is None else (wants.base_choice.slot,)
    target: tuple[Slot, ...] = (*above, *(("cleaned", "cleaned", one) for one in wanted))
    base = wants.base()
    if not cleaned or base is None:
        return Wanted(slot, lambda: target)
    before = before_of(wants.heads.values(), day)
    vectors, embedded = wants._row_vectors(cleaned)
    reads = (*target, *embedded)
    if vectors is None:
        return Wanted(slot, lambda: reads)

    def with_gold(value: str | None) -> Recipe:
        return choice_recipe(spec, day, cleaned, base, before, vectors, value)

    if spec.training.auto.judge == "weak":
        return Wanted(slot, lambda: reads, with_gold(None))
    key = wants._gold_key(str(cleaned[-1].partition))
    return Wanted(slot, lambda: reads, None, (key, with_gold), "the gold rows that judge trials")


def searched_days(wants: Wants, every: int) -> tuple[str, list[Head], list[str]] | None:
    """Return the day of a choice, the cleaned days it is made of, and those it should be made of.

    None where the project has no day yet.
    """
    width = wants.spec.training.window_days
    last = wants._last("cleaned") or (wants.days[-1] if wants.days else None)
    if last is None:
        return None
    day = rhythm_day(wants.spec, last, every)
    wanted = wants._window(day, width)
    cleaned = wants._have("cleaned", "cleaned", wanted)
    if not any(one.rows for one in cleaned):  # nothing had come by that day
        wanted = wants._window(last, width)
        cleaned = wants._have("cleaned", "cleaned", wanted)
    return day, cleaned, wanted


def before_of(choices: Any, day: str, name: str = NAME) -> Any:
    """Return the last of some versions in use that is such a choice of an earlier day, or None."""
    earlier = [
        one for one in choices
        if (one.kind, one.name) == ("choice", name) and str(one.partition) < day
    ]  # fmt: skip
    return max(earlier, key=lambda one: str(one.partition), default=None)
