"""Recipes of training: start, experts, merged model, and what it keeps beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fm_platform.lineage import configs
from fm_platform.lineage.machinery import environment_of
from fm_platform.lineage.recipes import recipe_of
from fm_platform.lineage.records import Input, Readable, Recipe
from fm_platform.spec.models import Expert, ProjectSpec

_Day = TypeVar("_Day", bound=Readable)


def activations_name(frozen_layers: int) -> str:
    """Return the name of the states of so many frozen layers, e.g. `below_4`."""
    return f"below_{frozen_layers}"


def activations_recipe(spec: ProjectSpec, cleaned: Readable, base: str, frozen: int) -> Recipe:
    """Return the recipe of what the frozen layers give for the texts of one cleaned day."""
    config = configs.activations(spec, frozen)
    inputs = (cleaned.as_input("cleaned"), Input("base_model", "base_model", None, base))
    environment, name = environment_of("activations"), activations_name(frozen)
    day = cleaned.partition
    return recipe_of(spec, "activations", name, day, inputs, config, environment)


def replay_recipe(spec: ProjectSpec, cleaned: Readable, before: Readable | None) -> Recipe:
    """Return the recipe of the rows kept of the past, after one day; `before`: after another."""
    config, day = configs.replay(spec), cleaned.partition
    inputs = (
        cleaned.as_input("cleaned"),
        *(() if before is None else (before.as_input("replay"),)),
    )
    return recipe_of(spec, "replay", "replay", day, inputs, config, environment_of("replay"))


def start_recipe(
    spec: ProjectSpec, cleaned: Sequence[Readable], base: str, embeddings: Sequence[Readable] = ()
) -> Recipe:
    """Return the recipe of the shared start; `embeddings`: by which its rows are chosen."""
    inputs = (
        *(day.as_input("cleaned") for day in cleaned if day.rows),
        Input("base_model", "base_model", None, base),
        *(day.as_input("embeddings") for day in embeddings),
    )
    return _model_recipe(spec, "start", "shared_start", inputs)


def adapter_recipe(
    spec: ProjectSpec,
    expert: Expert,
    cleaned: Sequence[Readable],
    start: Readable,
    embeddings: Sequence[Readable] = (),
) -> Recipe:
    """Return the recipe of one expert: only the parts of the days that hold its sources' rows.

    `embeddings` are those by which its rows are chosen.
    """
    parts = tuple(
        day.as_input("cleaned", part=source)
        for day in cleaned
        for source in sorted(expert.sources)
        if source in day.parts
    )
    read = (start.as_input("start"), *(day.as_input("embeddings") for day in embeddings))
    return _model_recipe(spec, "adapter", expert.name, (*parts, *read))


def days_of(expert: Expert, cleaned: Sequence[_Day]) -> list[_Day]:
    """Return the days that hold rows of an expert's sources."""
    return [day for day in cleaned if set(expert.sources) & set(day.parts)]


def decides_by_gold(spec: ProjectSpec) -> bool:
    """Whether gold dev rows decide how experts are merged."""
    merge = spec.merge
    asked = merge.evidence == "gold" and merge.search != "similar"
    return merge.weights is None and asked and len(spec.experts) > 1


def merged_recipe(
    spec: ProjectSpec,
    adapters: Sequence[Readable],
    start: Readable,
    cleaned: Sequence[Readable],
    base: str,
    gold: str | None = None,
) -> Recipe:
    """Return the recipe of the merged model; the dev rows count where weights are searched.

    Its model card names the description, the days and the settings: they count, too. `gold` is
    the hash of the gold rows that decide among merges, see `decides_by_gold`.
    """
    config = configs.merged_model(spec)
    dev = cleaned if spec.merge.weights is None and len(adapters) > 1 else ()
    last = cleaned[-1].partition if cleaned else None
    inputs = (
        *(adapter.as_input("adapter") for adapter in adapters),
        start.as_input("start"),
        *(day.as_input("dev", part="dev") for day in dev if "dev" in day.parts),
        *(day.as_input("data") for day in cleaned if day.rows),
        Input("base_model", "base_model", None, base),
        *(() if gold is None else (Input("gold", "gold", last, gold),)),
    )
    environment = environment_of("merged_model")
    seed = spec.training.seed
    return recipe_of(spec, "merged_model", "merged_model", None, inputs, config, environment, seed)


def _model_recipe(spec: ProjectSpec, kind: str, name: str, inputs: tuple[Input, ...]) -> Recipe:
    config, environment = configs.trained(spec), environment_of(kind)
    return recipe_of(spec, kind, name, None, inputs, config, environment, spec.training.seed)
