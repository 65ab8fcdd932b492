"""Recipes of what training keeps beside models: states of frozen layers, rows of the past."""

from __future__ import annotations

from fm_platform.lineage import configs
from fm_platform.lineage.machinery import environment_of
from fm_platform.lineage.recipes import recipe_of
from fm_platform.lineage.records import Input, Readable, Recipe
from fm_platform.spec.models import ProjectSpec


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
